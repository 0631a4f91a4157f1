"""Splitters, one class per protocol; all of them return verified ``Folds``."""

from clipzoo.datasets.splitters.as_given import AsGiven
from clipzoo.datasets.splitters.assign import assign, unevenness
from clipzoo.datasets.splitters.base import GroupSplitter, Splitter
from clipzoo.datasets.splitters.from_file import FromFile
from clipzoo.datasets.splitters.holdout import Holdout
from clipzoo.datasets.splitters.kfold import KFold, StratifiedGroupKFold, StratifiedKFold

__all__ = [
    "AsGiven",
    "FromFile",
    "GroupSplitter",
    "Holdout",
    "KFold",
    "Splitter",
    "StratifiedGroupKFold",
    "StratifiedKFold",
    "assign",
    "unevenness",
]
