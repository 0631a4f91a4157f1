"""Do probabilities mean what they say? Brier score with its decomposition, calibration error with an interval, reliability curves.

A probability is calibrated if, of all cases that get it, that share is positive. Calibration error and curves take scores and outcomes:
the largest probability of each case and whether its class is correct (``top_label``), or the probability of one class and whether the
case belongs to it.

Shapes: N cases · C classes · M bins · B resamples · G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipzoo.errors import DataError
from clipzoo.statistics.proportions import rao_scott_wilson, wilson

_CASES_PER_BIN, _FEWEST_BINS, _MOST_BINS = 30, 5, 15
_STEPS = 150  # of the search for the limits of the calibration error
_REACH = 6  # standard errors that the search goes beyond the plug-in estimate


@dataclass(frozen=True)
class BrierDecomposition:
    """Brier score = miscalibration - discrimination + uncertainty.

    Attributes:
        brier: Mean over cases of the sum over classes of (p - y)², in [0, 2].
        miscalibration: What recalibrating each class would gain, 0 or more; biased upwards, as it is fitted on the same cases.
        discrimination: What the recalibrated model gains over the class shares, 0 or more; biased upwards too.
        uncertainty: Score of a model that always predicts the class shares.
    """

    brier: float
    miscalibration: float
    discrimination: float
    uncertainty: float


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error: mean over bins of |mean score - share of positives|, each bin weighted by its cases.

    Attributes:
        plug_in: As usually printed; biased upwards, as noise in a bin counts as an error.
        debiased: With the expected noise subtracted, 0 or more.
        low: Lower limit of the true error; 0 if a calibrated model could show the same curve. NaN without resamples.
        high: Upper limit.
        num_bins: M.
        num_cases: N.
        note: Why numbers are NaN or doubtful; empty otherwise.
    """

    plug_in: float
    debiased: float
    low: float
    high: float
    num_bins: int
    num_cases: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Mean score and share of positives of cases with similar scores.

    Attributes:
        edges: ``[M + 1]`` float64 limits of the bins; a bin contains its lower edge, the last one also its upper edge.
        scores: ``[M]`` float64 mean score.
        shares: ``[M]`` float64 share of positives: the accuracy, for top labels.
        low: ``[M]`` float64 lower limit of the share.
        high: ``[M]`` float64 upper limit.
        counts: ``[M]`` int64 cases.
    """

    edges: np.ndarray
    scores: np.ndarray
    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


def brier_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared distance of the probabilities to the truth, summed over classes; for two classes, twice the binary score.

    Args:
        labels: ``[N]`` int true classes; cases with -1 are excluded.
        probabilities: ``[N, C]`` float.

    Returns:
        In [0, 2], 0 is best; NaN without cases or with NaN probabilities.

    Source: Brier 1950, equation 2.
    """
    one_hot_NC, probabilities_NC = _labelled(labels, probabilities)
    return float(((probabilities_NC - one_hot_NC) ** 2).sum(axis=1).mean()) if len(one_hot_NC) else float("nan")


def brier_decomposition(labels: np.ndarray, probabilities: np.ndarray) -> BrierDecomposition:
    """Split the Brier score into calibration, discrimination and the difficulty of the task.

    Each class is recalibrated by isotonic regression and the parts are summed over classes, which needs no bins and adds up exactly.

    Args:
        labels: ``[N]`` int true classes; cases with -1 are excluded.
        probabilities: ``[N, C]`` float.

    Returns:
        All NaN without cases or with NaN probabilities.

    Source: Dimitriadis, Gneiting and Jordan 2021, "Stable reliability diagrams for probabilistic classifiers" (CORP).
    """
    one_hot_NC, probabilities_NC = _labelled(labels, probabilities)
    if not len(one_hot_NC) or not np.isfinite(probabilities_NC).all():
        return BrierDecomposition(*[float("nan")] * 4)
    recalibrated_NC = np.stack([_isotonic(p, y) for p, y in zip(probabilities_NC.T, one_hot_NC.T, strict=True)], axis=1)
    forecasts = (probabilities_NC, recalibrated_NC, one_hot_NC.mean(axis=0))
    score, recalibrated, uncertainty = (float(((forecast - one_hot_NC) ** 2).sum(axis=1).mean()) for forecast in forecasts)
    # Both are 0 or more in exact arithmetic.
    return BrierDecomposition(score, max(score - recalibrated, 0.0), max(uncertainty - recalibrated, 0.0), uncertainty)


def top_label(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[N]`` largest probability of each case, and ``[N]`` bool whether its class is the true one. Labels must be known."""
    probabilities_NC = np.asarray(probabilities, dtype=np.float64)
    return probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1) == np.asarray(labels)


def expected_calibration_error(
    scores: np.ndarray,
    outcomes: np.ndarray,
    groups: np.ndarray,
    *,
    num_bins: int | None = None,
    weights: np.ndarray | None = None,
    level: float = 0.95,
) -> CalibrationError:
    """Calibration error over bins with equal numbers of cases: the usual estimate, a debiased one, and an interval over groups.

    The interval inverts a test: an error is inside if curves of that size, the observed one stretched or shrunk plus the noise of the
    resamples, give the observed plug-in estimate with a probability of at least (1 - level) / 2 on either side. Percentiles of resampled
    errors would never reach 0, since every resample adds noise. In simulations of 60 to 1 000 cases, 95 % intervals covered the error of
    calibrated models in 99 % or more, and that of others in 88 to 97 %; they miss on the low side more often. Of a calibrated model, the
    debiased error is still 0.03 with 300 cases, where the plug-in estimate is 0.05.

    Args:
        scores: ``[N]`` float in [0, 1].
        outcomes: ``[N]`` bool.
        groups: ``[N]`` int codes.
        num_bins: Largest number of bins; equal scores share a bin. ``None``: one per 30 cases, 5 to 15; more are more biased.
        weights: ``[B, N]`` multiplicities of the cases in resamples of whole groups; ``None``: no interval.
        level: Confidence level.

    Raises:
        DataError: The arrays differ in length.

    Source: debiasing: Kumar, Liang and Ma 2019, "Verified uncertainty calibration" (their estimate of the error itself, not
    of its square), in closed form and with a variance that respects groups. The interval is ours.
    """
    score_N, outcome_N, code_N = _columns("calibration error", scores, outcomes, groups)
    if not len(score_N) or not np.isfinite(score_N).all():
        note = "probabilities are not finite" if len(score_N) else "no cases"
        return CalibrationError(*[float("nan")] * 4, 0, len(score_N), note)
    bins = _Bins.of(score_N, outcome_N, code_N, num_bins)
    gap_M = np.abs(bins.gap_M)
    plug_in = float(bins.share_M @ gap_M)
    debiased = max(float(bins.share_M @ (2 * gap_M - _folded_mean(gap_M, np.sqrt(bins.variance_M)))), 0.0)
    low = high = float("nan")
    if weights is not None:
        low, high = _inverted(bins, bins.noise(np.asarray(weights, dtype=np.float64)), level)
        low, high = min(low, debiased), max(high, debiased)
    note = "too few groups per bin for an interval" if bins.groups_M.min() < 2 else ""
    return CalibrationError(plug_in, debiased, low, high, len(gap_M), len(score_N), note)


def reliability_curve(
    scores: np.ndarray,
    outcomes: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    num_bins: int | None = None,
    level: float = 0.95,
) -> ReliabilityCurve:
    """The numbers of a reliability diagram, over bins with equal numbers of cases.

    Args:
        scores: ``[N]`` float in [0, 1]; cases with NaN are excluded.
        outcomes: ``[N]`` bool.
        groups: ``[N]`` int codes, for intervals that respect them (``rao_scott_wilson``); ``None``: cases are independent (``wilson``).
        num_bins: As in ``expected_calibration_error``.
        level: Confidence level of each bin.

    Raises:
        DataError: The arrays differ in length.
    """
    score_N, outcome_N, code_N = _columns("reliability curve", scores, outcomes, np.arange(len(scores)) if groups is None else groups)
    finite = np.isfinite(score_N)
    score_N, outcome_N, code_N = score_N[finite], outcome_N[finite], code_N[finite]
    if not len(score_N):
        empty = np.zeros(0)
        return ReliabilityCurve(empty, empty, empty, empty, empty, np.zeros(0, dtype=np.int64))
    edges, bin_N = _bins(score_N, num_bins)
    counts = np.bincount(bin_N)
    positives = np.bincount(bin_N, weights=outcome_N)
    low, high = wilson(positives, counts, level=level)
    if groups is not None:
        found = [rao_scott_wilson(outcome_N[bin_N == m], code_N[bin_N == m], level=level) for m in range(len(counts))]
        low, high = np.array([f.low for f in found]), np.array([f.high for f in found])
    return ReliabilityCurve(edges, np.bincount(bin_N, weights=score_N) / counts, positives / counts, low, high, counts.astype(np.int64))


def _labelled(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[N, C]`` truth, 0 or 1, and probabilities of the labelled cases."""
    known = np.asarray(labels) >= 0
    probabilities_NC = np.asarray(probabilities, dtype=np.float64)[known]
    return np.eye(probabilities_NC.shape[1])[np.asarray(labels)[known]], probabilities_NC


def _isotonic(scores: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """``[N]`` non-decreasing function of the scores that is nearest to the outcomes; equal scores get equal values."""
    from scipy.optimize import isotonic_regression

    _, row_N, count = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(row_N.reshape(-1), weights=outcomes) / count
    return isotonic_regression(means, weights=count.astype(np.float64)).x[row_N.reshape(-1)]


def _columns(where: str, scores: np.ndarray, outcomes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(scores) == len(outcomes) == len(groups):
        raise DataError(f"{where}: {len(scores)} scores, {len(outcomes)} outcomes, {len(groups)} groups. All need one value per case")
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    return np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64), codes


def _bins(score_N: np.ndarray, num_bins: int | None) -> tuple[np.ndarray, np.ndarray]:
    """``[M + 1]`` edges at quantiles, and ``[N]`` bin of each case. Every bin has cases; equal scores are in one bin."""
    wanted = num_bins or int(np.clip(len(score_N) // _CASES_PER_BIN, _FEWEST_BINS, _MOST_BINS))
    ordered = np.sort(score_N)
    starts = ordered[np.arange(wanted) * len(ordered) // wanted]  # lowest score of each bin
    edges = np.append(np.unique(starts), ordered[-1])
    return edges, np.searchsorted(edges[1:-1], score_N, side="right")


def _folded_mean(mean: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Expectation of |X| for normal X."""
    from scipy.special import ndtr

    ratio = np.divide(np.abs(mean), error, out=np.full_like(mean, np.inf), where=error > 0)
    return error * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + np.abs(mean) * (1 - 2 * ndtr(-ratio))


@dataclass(frozen=True, eq=False)
class _Bins:
    """What the calibration error needs of each bin.

    Attributes:
        score_N: Score of each case.
        bin_N: Bin of each case.
        deviation_NM: Score minus outcome, in the column of the case's bin; 0 elsewhere.
        gap_M: Mean score minus share of positives.
        share_M: Share of all cases.
        groups_M: Number of groups.
        variance_M: Variance of the gap, from the sums of the residuals over the cases of each group.
    """

    score_N: np.ndarray
    bin_N: np.ndarray
    deviation_NM: np.ndarray
    gap_M: np.ndarray
    share_M: np.ndarray
    groups_M: np.ndarray
    variance_M: np.ndarray

    @classmethod
    def of(cls, score_N: np.ndarray, outcome_N: np.ndarray, code_N: np.ndarray, num_bins: int | None) -> _Bins:
        bin_N = _bins(score_N, num_bins)[1]
        inside_NM = np.eye(int(bin_N.max()) + 1)[bin_N]
        deviation_NM = inside_NM * (score_N - outcome_N)[:, None]
        count_M = inside_NM.sum(axis=0)
        gap_M = deviation_NM.sum(axis=0) / count_M
        groups_M = np.array([len(np.unique(code_N[bin_N == m])) for m in range(len(count_M))])
        residual_GM = np.zeros((int(code_N.max()) + 1, len(count_M)))
        np.add.at(residual_GM, code_N, deviation_NM - inside_NM * gap_M)
        variance_M = groups_M / np.maximum(groups_M - 1, 1) * (residual_GM**2).sum(axis=0) / count_M**2
        return cls(score_N, bin_N, deviation_NM, gap_M, count_M / len(score_N), groups_M, variance_M)

    def noise(self, weights_BN: np.ndarray) -> np.ndarray:
        """``[B, M]`` gap of the resamples minus the observed one, for the variance of ``variance_M``; 0 if a resample misses a bin."""
        count_BM = weights_BN @ np.eye(len(self.gap_M))[self.bin_N]
        gap_BM = np.divide(weights_BN @ self.deviation_NM, count_BM, out=np.tile(self.gap_M, (len(weights_BN), 1)), where=count_BM > 0)
        return (gap_BM - self.gap_M) * np.sqrt(self.groups_M / np.maximum(self.groups_M - 1, 1))

    def missing_variance(self, factor: float) -> np.ndarray:
        """``[M]`` what the variance lacks if the true gaps are ``factor`` times the observed ones.

        A bin of confident cases without an error shows no variance, although a calibrated model would have made one now and then.
        """
        true_N = np.clip(self.score_N - factor * self.gap_M[self.bin_N], 0, 1)
        count_M = self.share_M * len(true_N)
        return np.maximum(np.bincount(self.bin_N, weights=true_N * (1 - true_N)) / count_M**2 - self.variance_M, 0)


def _inverted(bins: _Bins, noise_BM: np.ndarray, level: float) -> tuple[float, float]:
    """Smallest and largest error for which the observed one is not unusual. See ``expected_calibration_error``."""
    plug_in = float(bins.share_M @ np.abs(bins.gap_M))
    spread = float(bins.share_M @ np.sqrt(bins.variance_M + bins.missing_variance(0)))
    if plug_in == 0:  # no direction to stretch
        return 0.0, min(2 * spread, 1.0)
    normal_BM = np.random.default_rng(0).standard_normal(noise_BM.shape)
    factors = np.linspace(0, 1 + _REACH * spread / plug_in, _STEPS)
    above, below = np.empty(_STEPS), np.empty(_STEPS)
    for step, factor in enumerate(factors):
        gap_BM = factor * bins.gap_M + noise_BM + normal_BM * np.sqrt(bins.missing_variance(factor))
        errors_B = np.abs(gap_BM) @ bins.share_M
        # A tie is not a difference: without noise, the factor 1 gives the observed error up to rounding.
        above[step], below[step] = (errors_B >= plug_in - 1e-12).mean(), (errors_B <= plug_in + 1e-12).mean()
    tail = (1 - level) / 2
    low, high = (factors[within] if (within := np.flatnonzero(share >= tail)).size else np.ones(1) for share in (above, below))
    return min(float(low[0]) * plug_in, 1.0), min(float(high[-1]) * plug_in, 1.0)
