"""Optimizers, their parameter groups, and learning-rate schedules. The import does not load torch."""

from clipzoo.optim.optimizers import SGD, AdamW, Optimizer
from clipzoo.optim.parameter_groups import parameter_groups
from clipzoo.optim.schedules import ConstantSchedule, CosineSchedule, LinearSchedule, Schedule, StepSchedule
from clipzoo.optim.timm_optimizer import TimmOptimizer

__all__ = [
    "SGD",
    "AdamW",
    "ConstantSchedule",
    "CosineSchedule",
    "LinearSchedule",
    "Optimizer",
    "Schedule",
    "StepSchedule",
    "TimmOptimizer",
    "parameter_groups",
]
