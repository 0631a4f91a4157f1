"""Confidence intervals of proportions: independent cases (Wilson, Clopper-Pearson) and cases that cluster by group (Rao-Scott).

Shapes: N cases · G groups. Arguments of ``wilson`` and ``clopper_pearson`` are numbers or arrays of any shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from clipzoo.errors import DataError


@dataclass(frozen=True)
class ClusteredProportion:
    """A proportion over cases that cluster by group.

    Attributes:
        value: Share of successes; NaN without cases.
        low: Lower limit.
        high: Upper limit.
        num_cases: N.
        num_groups: G.
        design_effect: Variance relative to that of N independent cases, 1 or more; NaN if it cannot be estimated.
    """

    value: float
    low: float
    high: float
    num_cases: int
    num_groups: int
    design_effect: float


def wilson(successes: np.ndarray | float, trials: np.ndarray | float, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Score interval of a proportion, for independent cases; close to the level on average over proportions.

    Args:
        successes: Number of successes, 0 to ``trials``; need not be whole (effective counts).
        trials: Number of trials.
        level: Confidence level, between 0 and 1.

    Returns:
        Lower and upper limits, in [0, 1]; NaN where there are no trials.

    Raises:
        DataError: Successes exceed trials, a count is negative, or ``level`` is not between 0 and 1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    successes, trials = _checked("wilson", successes, trials, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = score_limits(successes / trials, trials, NormalDist().inv_cdf((1 + level) / 2))
    return np.where(trials > 0, low, np.nan), np.where(trials > 0, high, np.nan)


def score_limits(share: np.ndarray | float, size: np.ndarray | float, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the score interval, which need a share only: so an effective number of cases and a quantile of t serve as well.

    Args:
        share: In [0, 1].
        size: Number of cases, or the effective number; above 0 and not necessarily whole.
        quantile: Two-sided quantile of the normal or a t distribution.

    Source: Wilson 1927; its performance: Brown, Cai and DasGupta 2001.
    """
    squared = quantile**2 / size
    centre = (share + squared / 2) / (1 + squared)
    half = np.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    # At 0 and 1 the limit is exactly the end of the scale; rounding would leave it 1e-17 away.
    return np.where(share == 0, 0.0, np.maximum(centre - half, 0.0)), np.where(share == 1, 1.0, np.minimum(centre + half, 1.0))


def clopper_pearson(successes: np.ndarray | float, trials: np.ndarray | float, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a proportion, for independent cases: covers at least at the level for every proportion, hence wide.

    Arguments, returned values and errors are those of ``wilson``.

    Source: Clopper and Pearson 1934; the limits as quantiles of beta distributions.
    """
    from scipy.special import betaincinv

    successes, trials = _checked("clopper_pearson", successes, trials, level)
    failures, tail = trials - successes, (1 - level) / 2
    inner = (trials > 0) & (successes > 0), (trials > 0) & (failures > 0)
    low, high = np.zeros(trials.shape), np.ones(trials.shape)
    low[inner[0]] = betaincinv(successes[inner[0]], failures[inner[0]] + 1, tail)
    high[inner[1]] = betaincinv(successes[inner[1]] + 1, failures[inner[1]], 1 - tail)
    return np.where(trials > 0, low, np.nan), np.where(trials > 0, high, np.nan)


def rao_scott_wilson(successes: np.ndarray, groups: np.ndarray, *, level: float = 0.95) -> ClusteredProportion:
    """Wilson interval of a proportion over cases that cluster by group, with the number of cases divided by the design effect.

    The effective number of cases is further reduced for the few groups that the design effect is estimated from. With one case per group
    the result is ``wilson``. If all cases are successes or none is, the variance says nothing; cases of a group then count as fully
    correlated, which gives N² / Σ n_g² effective cases.

    Args:
        successes: ``[N]`` bool, or int 0 and 1.
        groups: ``[N]`` int codes.
        level: Confidence level, between 0 and 1.

    Raises:
        DataError: The arrays differ in length, or ``level`` is not between 0 and 1.

    Source: Rao and Scott 1992, "A simple method for the analysis of clustered binary data"; the reduction by t quantiles: Korn
    and Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts", with Wilson in place of
    Clopper-Pearson. A design effect below 1 is set to 1.
    """
    from scipy.special import stdtrit

    success_N = np.asarray(successes, dtype=np.float64).reshape(-1)
    if len(success_N) != len(np.asarray(groups)):
        raise DataError(f"rao_scott_wilson: {len(success_N)} cases, groups of {len(np.asarray(groups))}. Both need one value per case")
    codes_N = np.unique(groups, return_inverse=True)[1].reshape(-1)
    size_G = np.bincount(codes_N).astype(np.float64)
    num_cases, num_groups = len(success_N), len(size_G)
    share = success_N.mean() if num_cases else np.nan
    if not 0 < share < 1 or num_groups < 2:
        effective, design_effect = (num_cases**2 / (size_G**2).sum() if num_cases else 0.0), np.nan
    else:
        residual_G = np.bincount(codes_N, weights=success_N) - share * size_G
        variance = num_groups / (num_groups - 1) * (residual_G**2).sum() / num_cases**2
        design_effect = max(variance * (num_cases - 1) / (share * (1 - share)), 1.0)
        quantile = (1 + level) / 2
        effective = num_cases / design_effect * (stdtrit(num_cases - 1, quantile) / stdtrit(num_groups - 1, quantile)) ** 2
    low, high = wilson(np.nan_to_num(share) * effective, effective, level=level)
    return ClusteredProportion(float(share), float(low), float(high), num_cases, num_groups, float(design_effect))


def _checked(where: str, successes: np.ndarray | float, trials: np.ndarray | float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Both counts as float64 arrays of one shape."""
    successes, trials = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if not 0 < level < 1:
        raise DataError(f"{where}: a level of {level:g}. It must be between 0 and 1, such as 0.95")
    if not ((successes >= 0) & (successes <= trials)).all():
        raise DataError(f"{where}: successes must be between 0 and the number of trials")
    return successes, trials
