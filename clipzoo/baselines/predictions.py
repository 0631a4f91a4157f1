"""What a baseline learns from, and its predictions of one fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.baselines.towers import ClassTexts
from clipzoo.probes import Examples, Probe
from clipzoo.records.folds import Split
from clipzoo.records.table_file import columns_of
from clipzoo.records.tables import PredictionTable

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.metrics import Metric


@dataclass(frozen=True)
class Frozen:
    """Frozen features of a dataset.

    Attributes:
        features: ``[N, D]`` float32 features of unit length for all cases; 0 for cases that no fold needs.
        logit_scale: 1 / temperature that the image tower's weights were trained with; 100 if undefined.
        texts: Class texts; ``None`` if not needed, or in another space.
        balanced: Whether all classes count equally in a fit.
        select: Metric that chooses hyper-parameters; ``None`` for the log loss.
    """

    features: np.ndarray
    logit_scale: float = 100.0
    texts: ClassTexts | None = None
    balanced: bool = False
    select: Metric | None = None

    def criterion(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """The cost of held-out predictions by ``select``; lower is better."""
        value = self.select.compute(labels, probabilities)
        return -value if self.select.greater_is_better else value


def predict_fold(
    probe: Probe, data: Dataset, split: Split, known: Frozen, chosen: Mapping[str, float] | None = None
) -> tuple[PredictionTable, dict[str, float], tuple[str, ...]]:
    """Learn from the train part of a fold, and predict its test part.

    Args:
        probe: Method.
        data: Dataset with the cases.
        split: Split of the fold.
        known: Features of all cases; only rows of the fold's parts are used.
        chosen: Hyper-parameters of an earlier fit that is repeated for its variance; ``None`` to learn as usual.

    Returns:
        The predictions; the hyper-parameters; and notes.
    """
    train, test = (data.rows_of(part) for part in (split.train, split.test))
    train = train[data.labels[train] >= 0]
    names, groups = np.unique([data.cases[row].group for row in train], return_inverse=True)
    examples = Examples(
        known.features[train],
        data.labels[train],
        len(data.classes),
        groups=groups if len(names) < len(train) else None,
        text=None if known.texts is None else known.texts.features,
        logit_scale=known.logit_scale,
        classes=data.classes,
        balanced=known.balanced,
        criterion=None if known.select is None else known.criterion,
    )
    fitted = probe.fit(examples) if chosen is None else probe.refit(examples, chosen)
    table = PredictionTable(
        *columns_of(data.classes, [data.cases[row] for row in test], split.name),
        labels=data.labels[test],
        probabilities=fitted.predict(known.features[test]),
    )
    return table, fitted.chosen, fitted.notes
