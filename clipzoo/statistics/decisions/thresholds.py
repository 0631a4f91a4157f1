"""Operating points: thresholds per class fitted on the val part of a fold, what they achieve on its test part, and decision curves.

A case is called positive if its score is at or above the threshold. Thresholds lie midway between two scores of val.

Shapes: N cases · C classes · G groups · T threshold probabilities · B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.proportions import ClusteredProportion, rao_scott_wilson

Criterion = Literal["youden", "f1", "sensitivity", "specificity"]

_ROUNDING = 1e-12  # a wanted 0.9 is reached by 9 of 10


@dataclass(frozen=True)
class Threshold:
    """A fitted threshold.

    Attributes:
        value: Lowest score that is called positive; ``None`` if there is no sensible one.
        sensitivity: On the cases that it was fitted on, hence optimistic; NaN without a threshold.
        specificity: Likewise.
        num_positive: Positive cases that it was fitted on.
        num_negative: Negative cases.
        reason: Why there is no threshold; empty otherwise.
    """

    value: float | None
    sensitivity: float
    specificity: float
    num_positive: int
    num_negative: int
    reason: str = ""


@dataclass(frozen=True)
class OperatingPoint:
    """What calling cases positive or negative achieves.

    Attributes:
        true_positives: Positive cases that are called positive.
        false_positives: Negative cases that are called positive.
        false_negatives: Positive cases that are called negative.
        true_negatives: Negative cases that are called negative.
        prevalence: Share of positive cases, which both predictive values depend on.
        sensitivity: Share called positive among the positive cases.
        specificity: Share called negative among the negative cases.
        ppv: Share of positive cases among those called positive.
        npv: Share of negative cases among those called negative.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    prevalence: float
    sensitivity: ClusteredProportion
    specificity: ClusteredProportion
    ppv: ClusteredProportion
    npv: ClusteredProportion


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit in true positives per case: 0.05 is worth five more true positives per 100 cases, at no more false positives.

    Attributes:
        thresholds: ``[T]`` float64 threshold probabilities: at 0.1, missing a positive is as bad as nine false alarms.
        model: ``[T]`` float64 net benefit of treating the cases with a probability at or above the threshold.
        treat_all: ``[T]`` float64 net benefit of treating every case.
        treat_none: ``[T]`` float64 zeros.
        low: ``[T]`` float64 lower limit of ``model``; NaN without resamples.
        high: ``[T]`` float64 upper limit.
    """

    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray
    treat_none: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fit_threshold(scores: np.ndarray, positive: np.ndarray, *, criterion: Criterion = "youden", wanted: float | None = None) -> Threshold:
    """Choose the threshold of one class.

    ``'youden'`` has the largest sensitivity + specificity - 1, and of several the one with the higher sensitivity; so has ``'f1'`` for F1,
    which depends on the share of positive cases and ignores how many negative ones are recognised. ``'sensitivity'`` is
    the highest threshold that reaches the wanted sensitivity, and ``'specificity'`` the lowest that reaches the wanted specificity.
    Calling every case positive, or none, is not an operating point: there is no threshold if nothing else is as good.

    Args:
        scores: ``[N]`` float of the val part, larger for positive cases.
        positive: ``[N]`` bool.
        criterion: As above.
        wanted: Sensitivity or specificity to reach, above 0 and at most 1; ``None`` for ``'youden'`` and ``'f1'``.

    Raises:
        ConfigError: ``criterion`` or ``wanted`` is not allowed.
        DataError: The arrays differ in length.

    Source: Youden 1950, "Index for rating diagnostic tests".
    """
    _check_criterion(criterion, wanted)
    score_N, positive_N = _pair("threshold", scores, positive)
    num_positive, num_negative = int(positive_N.sum()), int((~positive_N).sum())

    def none(reason: str) -> Threshold:
        return Threshold(None, float("nan"), float("nan"), num_positive, num_negative, reason)

    if not num_positive or not num_negative:
        return none(f"val has no {'negative' if num_positive else 'positive'} case of this class")
    if not np.isfinite(score_N).all():
        return none("probabilities are not finite")
    cuts, sensitivity, specificity = _inner_cuts(score_N, positive_N)
    if criterion == "youden":
        index = sensitivity + specificity - 1
        allowed = index >= max(index.max(initial=0.0), _ROUNDING) - _ROUNDING / 2
    elif criterion == "f1":
        false_positives = (1 - specificity) * num_negative
        f1 = 2 * sensitivity / (1 + sensitivity + false_positives / num_positive)
        all_positive = 2 * num_positive / (2 * num_positive + num_negative)
        allowed = f1 >= max(f1.max(initial=0.0), all_positive) - _ROUNDING
    else:
        allowed = (sensitivity if criterion == "sensitivity" else specificity) >= wanted - _ROUNDING
    if not allowed.any():
        if criterion == "youden":
            return none("no threshold is better than chance on val")
        if criterion == "f1":
            return none("calling every case positive has the largest F1 on val")
        how = "every case" if criterion == "sensitivity" else "no case"
        return none(f"a {criterion} of {wanted:g} is reached on val only by calling {how} positive")
    # From the lowest cut upwards, sensitivity falls and specificity rises.
    chosen = np.flatnonzero(allowed)[-1 if criterion == "sensitivity" else 0]
    return Threshold(float(cuts[chosen]), float(sensitivity[chosen]), float(specificity[chosen]), num_positive, num_negative)


def fit_thresholds(
    labels: np.ndarray, probabilities: np.ndarray, *, criterion: Criterion = "youden", wanted: float | None = None
) -> tuple[Threshold, ...]:
    """One threshold for each of C classes, against all others. Arguments as in ``fit_threshold``, of labelled cases and all classes.

    Args:
        labels: ``[N]`` int true classes; cases with -1 are excluded.
        probabilities: ``[N, C]`` float.
        criterion: As in ``fit_threshold``.
        wanted: As in ``fit_threshold``.
    """
    known = np.asarray(labels) >= 0
    labels_N, probabilities_NC = np.asarray(labels)[known], np.asarray(probabilities, dtype=np.float64)[known]
    return tuple(fit_threshold(scores, labels_N == c, criterion=criterion, wanted=wanted) for c, scores in enumerate(probabilities_NC.T))


def operating_point(called: np.ndarray, positive: np.ndarray, groups: np.ndarray, *, level: float = 0.95) -> OperatingPoint:
    """Count what was called right and wrong, with intervals over groups; a share of nothing is NaN.

    Args:
        called: ``[N]`` bool, ``scores >= threshold`` with the threshold of each case's fold. Leave out folds without a threshold.
        positive: ``[N]`` bool.
        groups: ``[N]`` int codes.
        level: Confidence level. The intervals take the thresholds as given.

    Raises:
        DataError: The arrays differ in length.
    """
    called_N, positive_N = _pair("operating point", called, positive)
    called_N, groups_N = called_N.astype(bool), np.asarray(groups)

    def share(right: np.ndarray, among: np.ndarray) -> ClusteredProportion:
        return rao_scott_wilson(right[among], groups_N[among], level=level)

    return OperatingPoint(
        true_positives=int((called_N & positive_N).sum()),
        false_positives=int((called_N & ~positive_N).sum()),
        false_negatives=int((~called_N & positive_N).sum()),
        true_negatives=int((~called_N & ~positive_N).sum()),
        prevalence=float(positive_N.mean()) if len(positive_N) else float("nan"),
        sensitivity=share(called_N, positive_N),
        specificity=share(~called_N, ~positive_N),
        ppv=share(positive_N, called_N),
        npv=share(~positive_N, ~called_N),
    )


def decision_curve(
    scores: np.ndarray,
    positive: np.ndarray,
    thresholds: np.ndarray | None = None,
    *,
    weights: np.ndarray | None = None,
    level: float = 0.95,
) -> DecisionCurve:
    """Compare deciding by the model with treating every case and treating none, over what a false alarm costs.

    Args:
        scores: ``[N]`` float probabilities of the positive class, which should be calibrated; all results are NaN if one is NaN.
        positive: ``[N]`` bool.
        thresholds: ``[T]`` float in [0, 1); ``None``: 0.01, 0.02 … 0.99.
        weights: ``[B, N]`` multiplicities in resamples of whole groups, for percentile intervals; ``None``: no interval.
        level: Confidence level, at each threshold on its own.

    Raises:
        DataError: The arrays differ in length, or a threshold is not allowed.

    Source: Vickers and Elkin 2006, "Decision curve analysis": net benefit = TP / N - FP / N · p / (1 - p).
    """
    score_N, positive_N = _pair("decision curve", scores, positive)
    threshold_T = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if not ((threshold_T >= 0) & (threshold_T < 1)).all():
        raise DataError("decision curve: thresholds must be at least 0 and below 1")
    odds_T = threshold_T / (1 - threshold_T)
    gain_NT = np.where(positive_N[:, None], 1.0, -odds_T)  # of treating a case
    if not len(score_N) or not np.isfinite(score_N).all():
        gain_NT = np.full((1, len(threshold_T)), np.nan)
        score_N, weights = np.ones(1), None
    benefit_NT = gain_NT * (score_N[:, None] >= threshold_T)
    low = high = np.full(len(threshold_T), np.nan)
    if weights is not None:
        weights_BN = np.asarray(weights, dtype=np.float64)
        benefit_BT = weights_BN @ benefit_NT / weights_BN.sum(axis=1, keepdims=True)
        low, high = np.quantile(benefit_BT, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return DecisionCurve(threshold_T, benefit_NT.mean(axis=0), gain_NT.mean(axis=0), np.zeros(len(threshold_T)), low, high)


def _check_criterion(criterion: str, wanted: float | None) -> None:
    if criterion not in get_args(Criterion):
        raise ConfigError(f"threshold: criterion is {criterion!r}. Allowed are 'youden', 'f1', 'sensitivity' and 'specificity'")
    if criterion in ("youden", "f1") and wanted is not None:
        raise ConfigError(f"threshold: wanted has no meaning for '{criterion}'. Remove it, or choose 'sensitivity' or 'specificity'")
    if criterion in ("sensitivity", "specificity") and (wanted is None or not 0 < wanted <= 1):
        raise ConfigError(f"threshold: wanted {criterion} is {wanted}. It must be above 0 and at most 1")


def _pair(where: str, first: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(positive):
        raise DataError(f"{where}: {len(first)} cases, {len(positive)} labels. Both need one value per case")
    return np.asarray(first, dtype=np.float64), np.asarray(positive).astype(bool)


def _inner_cuts(score_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts between distinct scores, ascending, with their sensitivity and specificity. Calling all or no cases positive is left out."""
    distinct, row_N = np.unique(score_N, return_inverse=True)
    positives = np.bincount(row_N.reshape(-1), weights=positive_N, minlength=len(distinct))
    negatives = np.bincount(row_N.reshape(-1), weights=~positive_N, minlength=len(distinct))
    cuts = (distinct[:-1] + distinct[1:]) / 2
    cuts = np.where(cuts > distinct[:-1], cuts, distinct[1:])  # between neighbouring floats there is nothing
    return cuts, 1 - np.cumsum(positives)[:-1] / positives.sum(), np.cumsum(negatives)[:-1] / negatives.sum()
