"""Learning-rate schedules: pure functions of the step, without state to save.

The learning rate of step ``step`` (from 0) is a group's ``initial_lr`` times ``factor``.
A warm-up of w steps rises linearly, (step + 1) / (w + 1): its first step is not wasted, and the first step after it is the first
at the full rate. The last step of a run has the schedule's smallest factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from annotated_types import Interval

from clipzoo.config.arguments import Positive, Whole, checked
from clipzoo.errors import ConfigError
from clipzoo.registries import SCHEDULES

Epochs = Annotated[float, Interval(ge=0, le=1_000_000)]
Ratio = Annotated[float, Interval(ge=0, le=1)]


@checked
class Schedule:
    """Base class of all schedules; subclasses implement ``after_warmup``.

    Args:
        warmup_epochs: Length of the warm-up in epochs, fractions allowed; rounded to steps.
        warmup_steps: Length of the warm-up in steps, instead of ``warmup_epochs``. ``None`` leaves it to ``warmup_epochs``.

    A warm-up as long as the run or longer is cut off at the end of the run.

    Raises:
        ConfigError: An argument is negative, or both lengths are given.
    """

    def __init__(self, warmup_epochs: Epochs = 0.0, warmup_steps: Whole | None = None):
        self.warmup_epochs = warmup_epochs
        self.warmup_steps = warmup_steps

    @staticmethod
    def check_together(where: str, arguments: Mapping[str, object]) -> None:
        """The length of the warm-up must be given only once."""
        if arguments["warmup_steps"] is not None and arguments["warmup_epochs"]:
            raise ConfigError(f"{where}.warmup_epochs: {arguments['warmup_epochs']} excludes warmup_steps. Remove one of them")

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """The factor of the learning rate at a step.

        Args:
            step: Number of completed optimizer steps; beyond the run, the factor is that of the last step.
            total_steps: Number of optimizer steps in the run, at least 1.
            steps_per_epoch: Number of optimizer steps per epoch, at least 1.

        Returns:
            Factor in [0, 1].
        """
        warmup = self.num_warmup_steps(steps_per_epoch)
        step = min(step, total_steps - 1)
        return (step + 1) / (warmup + 1) if step < warmup else self.after_warmup(step, warmup, total_steps, steps_per_epoch)

    def num_warmup_steps(self, steps_per_epoch: int) -> int:
        """The number of initial steps below the full rate."""
        return round(self.warmup_epochs * steps_per_epoch) if self.warmup_steps is None else self.warmup_steps

    def after_warmup(self, step: int, warmup: int, total_steps: int, steps_per_epoch: int) -> float:
        """The factor of a step in [``warmup``, ``total_steps``)."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'after_warmup'")


@SCHEDULES.register_module()
class ConstantSchedule(Schedule):
    """The full rate from the end of the warm-up to the end of the run.

    Args:
        warmup_epochs: Length of the warm-up in epochs, fractions allowed.
        warmup_steps: Length of the warm-up in steps, instead.
    """

    def after_warmup(self, step: int, warmup: int, total_steps: int, steps_per_epoch: int) -> float:
        """1."""
        return 1.0


@checked
class _Falling(Schedule):
    """From 1 at the first step after the warm-up to ``min_lr_ratio`` at the last; 1 for a single step after the warm-up."""

    def __init__(self, warmup_epochs: Epochs = 0.0, warmup_steps: Whole | None = None, min_lr_ratio: Ratio = 0.01):
        super().__init__(warmup_epochs, warmup_steps)
        self.min_lr_ratio = min_lr_ratio

    check_together = staticmethod(Schedule.check_together)

    def after_warmup(self, step: int, warmup: int, total_steps: int, steps_per_epoch: int) -> float:
        last = total_steps - 1
        progress = (step - warmup) / (last - warmup) if last > warmup else 0.0
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * self.shape(progress)

    def shape(self, progress: float) -> float:
        """A curve from 1 at progress 0 to 0 at progress 1."""
        raise NotImplementedError


@SCHEDULES.register_module()
class LinearSchedule(_Falling):
    """A linear decrease from the full rate to ``min_lr_ratio`` of it.

    Args:
        warmup_epochs: Length of the warm-up in epochs, fractions allowed.
        warmup_steps: Length of the warm-up in steps, instead.
        min_lr_ratio: Factor of the last step, in [0, 1]; at 0 the last step changes nothing.
    """

    def shape(self, progress: float) -> float:
        """See the class."""
        return 1 - progress


@SCHEDULES.register_module()
class CosineSchedule(_Falling):
    """A half cosine from the full rate to ``min_lr_ratio`` of it.

    Args:
        warmup_epochs: Length of the warm-up in epochs, fractions allowed.
        warmup_steps: Length of the warm-up in steps, instead.
        min_lr_ratio: Factor of the last step, in [0, 1]; at 0 the last step changes nothing.

    Source: Loshchilov and Hutter 2017 (arXiv:1608.03983), Eq. 5, without restarts and by steps.
    """

    def shape(self, progress: float) -> float:
        """See the class."""
        return (1 + math.cos(math.pi * progress)) / 2


@SCHEDULES.register_module()
class StepSchedule(Schedule):
    """The full rate, multiplied by ``gamma`` at every milestone.

    Args:
        milestones: Completed epochs at which the rate drops, ascending, fractions allowed; counted from the start, including the warm-up.
        gamma: Factor of each drop, in (0, 1].
        warmup_epochs: Length of the warm-up in epochs, fractions allowed; milestones in it take effect at its end.
        warmup_steps: Length of the warm-up in steps, instead.
        min_lr_ratio: Lower bound of the factor, in [0, 1].

    Raises:
        ConfigError: An argument is out of range, or the milestones are not ascending.
    """

    def __init__(
        self,
        milestones: list[Positive],
        gamma: Annotated[float, Interval(gt=0, le=1)] = 0.1,
        warmup_epochs: Epochs = 0.0,
        warmup_steps: Whole | None = None,
        min_lr_ratio: Ratio = 0.0,
    ):
        super().__init__(warmup_epochs, warmup_steps)
        self.milestones = list(milestones)
        self.gamma = gamma
        self.min_lr_ratio = min_lr_ratio

    @staticmethod
    def check_together(where: str, arguments: Mapping[str, object]) -> None:
        """See the base class; and milestones must be ascending."""
        Schedule.check_together(where, arguments)
        milestones = arguments["milestones"]
        if any(a >= b for a, b in zip(milestones, milestones[1:], strict=False)):
            raise ConfigError(f"{where}.milestones: {milestones} are not ascending")

    def after_warmup(self, step: int, warmup: int, total_steps: int, steps_per_epoch: int) -> float:
        """See the class."""
        passed = sum(step >= round(milestone * steps_per_epoch) for milestone in self.milestones)
        return max(self.gamma**passed, self.min_lr_ratio)
