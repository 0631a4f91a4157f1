"""ROC and precision–recall curves of one class against the others, with bands over resamples of whole groups.

Shapes: N cases · K distinct scores · B resamples · T points of a band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipzoo.errors import DataError

_POINTS = np.arange(101) / 100
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """A curve and its pointwise band; all arrays are empty if a side is missing or a score is not finite.

    Attributes:
        x: ``[K + 1]`` float64 false-positive rate, or recall, ascending.
        y: ``[K + 1]`` float64 true-positive rate, or precision.
        points: ``[T]`` float64 places of the band on the horizontal axis.
        low: ``[T]`` float64 lower limit; empty without resamples.
        high: ``[T]`` float64 upper limit.
    """

    x: np.ndarray
    y: np.ndarray
    points: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_curve(scores: np.ndarray, positive: np.ndarray, *, weights: np.ndarray | None = None, level: float = 0.95) -> ScoreCurve:
    """True-positive rate over false-positive rate, with straight lines across ties: the area below is the AUROC.

    Args:
        scores: ``[N]`` float, higher for positives.
        positive: ``[N]`` bool.
        weights: ``[B, N]`` multiplicities in resamples, see ``bootstrap_weights``; ``None`` for no band.
        level: Level of the band at each false-positive rate on its own.

    Raises:
        DataError: The arrays differ in length.

    Source: Fawcett 2006, "An introduction to ROC analysis", algorithm 1; vertical averaging of resamples, section 7.1.
    """
    counts = _counts(scores, positive, np.ones((1, len(scores))))
    if counts is None:
        return _EMPTY
    false_BK, true_BK = (side / side[:, -1:] for side in counts)
    low = high = np.zeros(0)
    resampled = None if weights is None else _counts(scores, positive, weights)
    if resampled is not None:
        negatives, positives = (side / side[:, -1:] for side in resampled)
        found_BT = np.stack([_upper(*sides) for sides in zip(negatives, positives, strict=True)])
        low, high = _limits(found_BT, level)
    return ScoreCurve(false_BK[0], true_BK[0], _POINTS, low, high)


def precision_recall_curve(
    scores: np.ndarray, positive: np.ndarray, *, weights: np.ndarray | None = None, level: float = 0.95
) -> ScoreCurve:
    """Precision over recall at every distinct score, without interpolation: the area of its steps is the average precision.

    The first point repeats the precision of the highest score at recall 0. The band at a recall is that of the highest threshold which
    reaches it.

    Args:
        scores: As for ``roc_curve``.
        positive: As for ``roc_curve``.
        weights: As for ``roc_curve``.
        level: As for ``roc_curve``.

    Raises:
        DataError: The arrays differ in length.

    Source: Davis and Goadrich 2006, "The relationship between precision–recall and ROC curves", on why lines between points mislead.
    """
    counts = _counts(scores, positive, np.ones((1, len(scores))))
    if counts is None:
        return _EMPTY
    recall_K, precision_K = _precisions(*(side[0] for side in counts))
    low = high = np.zeros(0)
    resampled = None if weights is None else _counts(scores, positive, weights)
    if resampled is not None:
        found = [_at_recall(*_precisions(*sides)) for sides in zip(*resampled, strict=True)]
        low, high = _limits(np.stack(found), level)
    return ScoreCurve(recall_K, precision_K, _POINTS, low, high)


def _counts(scores: np.ndarray, positive: np.ndarray, weights_BN: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """``[B, K + 1]`` weights of negatives and of positives at or above each distinct score, from 0; ``None`` if undefined in all rows."""
    score_N, positive_N = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if not len(score_N) == len(positive_N) == weights_BN.shape[1]:
        raise DataError(f"curve: {len(score_N)} scores, {len(positive_N)} outcomes, {weights_BN.shape[1]} weights. All need one per case")
    if not np.isfinite(score_N).all():
        return None
    order = np.argsort(-score_N, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1) if len(order) else np.zeros(0, dtype=np.int64)
    ordered_BN = np.asarray(weights_BN, dtype=np.float64)[:, order]
    sides = [np.cumsum(ordered_BN * side, axis=1)[:, last_of_ties] for side in (~positive_N[order], positive_N[order])]
    defined = np.logical_and(*((side[:, -1] > 0) if side.shape[1] else np.zeros(len(side), dtype=bool) for side in sides))
    if not defined.any():
        return None
    start = np.zeros((int(defined.sum()), 1))
    false_BK, true_BK = (np.concatenate([start, side[defined]], axis=1) for side in sides)
    return false_BK, true_BK


def _upper(false_K: np.ndarray, true_K: np.ndarray) -> np.ndarray:
    """``[T]`` rate of true positives at the points; at a vertical step its upper end."""
    return np.interp(_POINTS + _ROUNDING, false_K, true_K)  # of equal places, numpy takes the last


def _precisions(false_K: np.ndarray, true_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    called = false_K + true_K
    precision = np.divide(true_K, called, out=np.ones_like(called), where=called > 0)
    precision[called == 0] = precision[np.argmax(called > 0)]  # before the first case that is called positive
    return true_K / true_K[-1], precision


def _at_recall(recall_K: np.ndarray, precision_K: np.ndarray) -> np.ndarray:
    return precision_K[np.searchsorted(recall_K, _POINTS - _ROUNDING)]


def _limits(found_BT: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(found_BT, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


_EMPTY = ScoreCurve(*(np.zeros(0) for _ in range(5)))
