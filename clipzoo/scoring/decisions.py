"""Decisions that follow from probabilities: what calibration, thresholds and sets fitted on val parts achieve on test parts.

Everything is fitted on the val part of a fold and applied to its test part.
"""

from __future__ import annotations

import numpy as np

from clipzoo.records.tables import PredictionTable
from clipzoo.statistics.decisions.temperature import apply_temperature


def log_loss_change(table: PredictionTable, temperature: float) -> dict[str, float]:
    """Mean log loss of calibrated predictions, in nats, without the temperature (``test_log_loss_before``) and with it."""
    before = apply_temperature(table.probabilities, 1 / temperature)
    return {"test_log_loss_before": _log_loss(table.labels, before), "test_log_loss_after": _log_loss(table.labels, table.probabilities)}


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    known = labels >= 0
    if not known.any():
        return float("nan")
    chosen = np.asarray(probabilities, dtype=np.float64)[known, labels[known]]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())
