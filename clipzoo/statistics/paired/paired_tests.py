"""Tests of two runs on the same cases: swapping the runs group by group, McNemar over cases, corrected t over folds.

Shapes: N cases · G groups · K folds · R permutations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.scores import flattened
from clipzoo.statistics.uncertainty.influence import Key, Scorer

_BLOCK = 256  # permutations at a time
_EQUAL = 1e-9  # two differences that are this close are equal


@dataclass(frozen=True)
class McNemar:
    """Exact McNemar test of two accuracies.

    Attributes:
        only_first: Number of cases that only the first run has right.
        only_second: Number of cases that only the second run has right.
        p_value: Two-sided.
        note: Reason to doubt the p-value, or empty.
    """

    only_first: int
    only_second: int
    p_value: float
    note: str = ""


@dataclass(frozen=True)
class FoldTest:
    """Corrected resampled t-test over folds.

    Attributes:
        mean: Mean of the fold-wise differences.
        low: Lower limit of the mean.
        high: Upper limit of the mean.
        p_value: Two-sided.
        num_folds: Folds in which the difference is defined.
        note: Why there is no test, or empty.
    """

    mean: float
    low: float
    high: float
    p_value: float
    num_folds: int
    note: str = ""


def swap_p_values(scorer: Scorer, groups: np.ndarray, differs: np.ndarray, *, num_permutations: int, seed: int) -> dict[Key, float]:
    """Two-sided p-values of the differences of all metrics, if the two runs were exchangeable within each group.

    The predictions of the two runs are swapped in a random half of the groups, which leaves everything else as it is: the cases, their
    correlation within groups, and that between the runs. If there are not more than ``num_permutations`` ways to swap, each is used once.

    Args:
        scorer: Metrics as a function of weights ``[B, 2N]``: N cases as the first run predicts them, then as the second does.
        groups: ``[N]`` int codes in [0, G).
        differs: ``[N]`` bool: the runs do not predict the same. Swapping other groups changes nothing.
        num_permutations: R, 1 or more.
        seed: Seed of the swaps, 0 or more.

    Returns:
        P-value by metric, above 0; NaN where the difference is undefined. Swaps with the observed difference count half (mid-p), since few
        patients whose predictions differ leave few possible differences, and counting all of those would make the test find less than its
        level allows. A difference of 0 has p = 1.

    Source: Lancaster 1961 for mid-p; Phipson and Smyth 2010, equation 2, for counting the observed data; Bandos, Rockette and Gur 2005 for
    swapping in comparisons of AUROCs, with scores replaced by ranks within each run (``Outcomes.join``).
    """
    if num_permutations < 1:
        raise ConfigError(f"num_permutations: {num_permutations} is too few. It must be 1 or more, such as 2000")
    size = len(groups)
    observed = _differences(scorer, np.zeros((1, size), dtype=np.float32))
    extreme, counted = dict.fromkeys(observed, 0.0), dict.fromkeys(observed, 0)
    active = np.unique(groups[differs])
    exact = 2 ** min(len(active), 64) <= num_permutations
    for swapped_G in _swaps(active, int(groups.max()) + 1 if size else 0, num_permutations, seed, exact):
        for key, values in _differences(scorer, swapped_G[:, groups].astype(np.float32)).items():
            defined = values[~np.isnan(values)]
            beyond = np.abs(defined) - abs(observed[key][0])
            extreme[key] += (beyond > _EQUAL).sum() + 0.5 * (np.abs(beyond) <= _EQUAL).sum()
            counted[key] += len(defined)
    own = 0 if exact else 1  # every way to swap includes the observed one
    return {
        key: _mid_p(float(values[0]), extreme[key] + own / 2, counted[key] + own) if counted[key] else float("nan")
        for key, values in observed.items()
    }


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray, groups: np.ndarray) -> McNemar:
    """Exact McNemar test: do the cases that only one of two runs has right divide evenly?

    Args:
        first_correct: ``[N]`` bool.
        second_correct: ``[N]`` bool.
        groups: ``[N]`` int codes; the test ignores them, and says so if a group has several cases.

    Source: McNemar 1947; the exact form is a binomial test of the discordant cases.
    """
    from scipy.special import bdtr

    only_first, only_second = int((first_correct & ~second_correct).sum()), int((second_correct & ~first_correct).sum())
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5))) if only_first + only_second else 1.0
    clustered = len(np.unique(groups)) < len(groups)
    note = "counts the cases of a group as independent; use the permutation test" if clustered else ""
    return McNemar(only_first, only_second, p_value, note)


def corrected_t(differences: np.ndarray, *, test_share: float, level: float = 0.95) -> FoldTest:
    """Nadeau and Bengio's t-test of fold-wise differences, whose variance allows for the training cases that folds share.

    It asks another question than an interval over cases: would the difference hold for other training sets of this size?

    Args:
        differences: ``[K]`` float difference of a metric in each fold; NaN where undefined.
        test_share: Test cases per training case, n_test / n_train; 1 / (K - 1) for K-fold cross-validation.
        level: Confidence level of the interval.

    Source: Nadeau and Bengio 2003, "Inference for the generalization error", equation 9.
    """
    from scipy.special import stdtr, stdtrit

    defined = np.asarray(differences, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    num = len(defined)
    nan = float("nan")
    if num < 2:
        return FoldTest(float(defined[0]) if num else nan, nan, nan, nan, num, "needs two folds or more")
    mean, error = float(defined.mean()), float(np.sqrt((1 / num + test_share) * defined.var(ddof=1)))
    half = float(stdtrit(num - 1, 0.5 + level / 2)) * error
    if np.ptp(defined) == 0:
        if mean == 0:
            return FoldTest(0.0, 0.0, 0.0, 1.0, num)
        return FoldTest(mean, nan, nan, nan, num, "the same difference in every fold: no variance")
    return FoldTest(mean, mean - half, mean + half, float(2 * stdtr(num - 1, -abs(mean) / error)), num)


def fold_differences(first: Scorer, second: Scorer, folds: np.ndarray) -> dict[Key, np.ndarray]:
    """``[K]`` differences of every metric within each fold.

    Args:
        first: Metrics of the first run as a function of weights ``[B, N]``.
        second: The same of the second run.
        folds: ``[N]`` int codes in [0, K).

    Raises:
        DataError: There are no cases.
    """
    if not len(folds):
        raise DataError("folds: no cases. At least one labelled case is needed")
    members = (folds[None] == np.unique(folds)[:, None]).astype(np.float32)
    values = zip(flattened(first(members)), flattened(second(members)), strict=True)
    return {(name, c): a - b for (name, c, a), (_, _, b) in values}


def _mid_p(difference: float, extreme: float, counted: int) -> float:
    if np.isnan(difference):
        return float("nan")
    return 1.0 if abs(difference) <= _EQUAL else float(extreme) / counted


def _swaps(active: np.ndarray, num_groups: int, num_permutations: int, seed: int, exact: bool) -> Iterator[np.ndarray]:
    """Blocks ``[b, G]`` of which groups are swapped: all ways, or a random sample."""
    generator = np.random.default_rng(seed)
    total = 2 ** len(active) if exact else num_permutations
    for first in range(0, total, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, total))
        swapped = np.zeros((len(rows), num_groups), dtype=bool)
        bits = rows[:, None] >> np.arange(len(active)) & 1 if exact else generator.integers(0, 2, size=(len(rows), len(active)))
        swapped[:, active] = bits.astype(bool)
        yield swapped


def _differences(scorer: Scorer, swapped: np.ndarray) -> dict[Key, np.ndarray]:
    """``[B]`` differences of all metrics, with the cases of ``swapped`` ``[B, N]`` exchanged between the runs."""
    kept = 1 - swapped
    first = flattened(scorer(np.concatenate([kept, swapped], axis=1)))
    second = flattened(scorer(np.concatenate([swapped, kept], axis=1)))
    return {(name, c): a - b for (name, c, a), (_, _, b) in zip(first, second, strict=True)}
