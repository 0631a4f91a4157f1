"""What is measured on predictions. Importing this does not import scikit-learn; the first measurement does."""

from clipzoo.metrics.base import Metric
from clipzoo.metrics.classification import (
    AUROC,
    Accuracy,
    BalancedAccuracy,
    LogLoss,
    MacroF1,
    MacroPrecision,
    MacroRecall,
    confusion_matrix,
    per_class,
)

__all__ = [
    "AUROC",
    "Accuracy",
    "BalancedAccuracy",
    "LogLoss",
    "MacroF1",
    "MacroPrecision",
    "MacroRecall",
    "Metric",
    "confusion_matrix",
    "per_class",
]
