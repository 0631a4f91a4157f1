"""Confidence intervals from a value, its standard error and a quantile. ``intervals`` decides which metric gets which.

Shapes: M metrics · Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipzoo.statistics.proportions import score_limits

Limits = tuple[float, float]


def wilson(value: float, size: float, quantile: float) -> Limits:
    """Score interval of a proportion; for value 1 it reaches down to about 1 - 4 / (size + 4) at 95 %.

    With an effective size, value (1 - value) / variance, it serves proportions of clustered cases and other metrics in [0, 1].

    Args:
        value: In [0, 1].
        size: Number of cases, or the effective number; above 0 and not necessarily whole.
        quantile: Two-sided quantile of the normal or a t distribution.

    Source: Wilson 1927; effective size: Rao and Scott 1981, Korn and Graubard 1998; performance: Brown, Cai and DasGupta 2001.
    """
    low, high = score_limits(value, size, quantile)
    return float(low), float(high)


def effective_size(value: float, variance: float) -> float:
    """Number of independent cases for which a proportion would have this variance; NaN at 0 and 1 and for variance 0 or NaN."""
    return value * (1 - value) / variance if 0 < value < 1 and variance > 1e-15 else float("nan")


def logit_t(value: float, variance: float, quantile: float) -> Limits:
    """Wald interval on the logit scale, of a metric in (0, 1): the delta method divides the standard error by value (1 - value).

    Source: Pepe 2003, section 5.2.3, for the AUROC.
    """
    logit = np.log(value / (1 - value))
    half = quantile * np.sqrt(variance) / (value * (1 - value))
    return float(1 / (1 + np.exp(-(logit - half)))), float(1 / (1 + np.exp(-(logit + half))))


def log_t(value: float, variance: float, quantile: float) -> Limits:
    """Wald interval on the log scale, of a positive metric with a long upper tail."""
    half = quantile * np.sqrt(variance) / value
    return float(value * np.exp(-half)), float(value * np.exp(half))


def plain_t(value: float, variance: float, quantile: float) -> Limits:
    """Wald interval."""
    half = quantile * np.sqrt(variance)
    return float(value - half), float(value + half)


def mover(values: Sequence[float], limits: Sequence[Limits], correlation: np.ndarray, coefficients: Sequence[float]) -> Limits:
    """Interval of a linear combination of metrics from the interval of each: "method of variance estimates recovery".

    Each limit stands for the standard error on its own side, so that a class at 100 % of three cases contributes the uncertainty that
    its Wilson interval shows, where the estimated standard error is 0.

    Args:
        values: M values.
        limits: Interval of each.
        correlation: ``[M, M]`` correlations of the estimates.
        coefficients: M factors of the combination, of either sign.

    Source: Zou and Donner 2008, equation 8, with correlations as in Zou 2007, equation 15.
    """
    values_M, coefficients_M, limits_M2 = np.asarray(values), np.asarray(coefficients), np.asarray(limits)
    down, up = values_M - limits_M2[:, 0], limits_M2[:, 1] - values_M
    centre = float(coefficients_M @ values_M)
    below = coefficients_M * np.where(coefficients_M > 0, down, up)
    above = coefficients_M * np.where(coefficients_M > 0, up, down)
    return tuple(centre + sign * np.sqrt(max(float(d @ correlation @ d), 0.0)) for sign, d in ((-1, below), (1, above)))


def median_limits(values: np.ndarray, groups: np.ndarray, quantile: float) -> Limits:
    """Interval of a median: the Wilson interval of the share of values up to the median, read off the distribution.

    Args:
        values: ``[Q]`` float.
        groups: ``[Q]`` int codes in [0, G), G at least 2.
        quantile: As in ``wilson``.

    Source: Woodruff 1952.
    """
    ordered = np.sort(values)
    share = (values <= np.median(values)).mean()
    deviations = np.bincount(groups, weights=(values <= np.median(values)) - share)
    num_groups = len(deviations)
    variance = (deviations**2).sum() / len(values) ** 2 * num_groups / (num_groups - 1)
    size = effective_size(share, variance)
    low, high = wilson(0.5, min(size, len(values)) if np.isfinite(size) else num_groups, quantile)
    last = len(values) - 1
    # The lower middle value has rank N / 2: the limits are read one step outside.
    return float(ordered[max(int(np.floor(low * len(values))) - 1, 0)]), float(ordered[min(int(np.ceil(high * len(values))), last)])
