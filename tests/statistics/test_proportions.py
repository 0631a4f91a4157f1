"""Intervals of proportions against scipy, brute force and simulation."""

import numpy as np
import pytest
from scipy import optimize, stats

from clipzoo.errors import DataError
from clipzoo.statistics.proportions import clopper_pearson, rao_scott_wilson, wilson

COUNTS = [(0, 1), (1, 1), (0, 20), (1, 20), (7, 20), (20, 20), (291, 1000)]


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("function", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_equal_to_scipy(function, method, level):
    expected = [tuple(stats.binomtest(*counts).proportion_ci(level, method=method)) for counts in COUNTS]
    found = function(*np.array(COUNTS).T, level=level)
    np.testing.assert_allclose(np.transpose(found), expected, atol=1e-12)


def test_wilson_limits_are_the_roots_of_the_score_test():
    low, high = wilson(7.5, 20.25)
    for limit, bracket in ((low, (1e-6, 0.37)), (high, (0.38, 1 - 1e-6))):
        root = optimize.brentq(lambda p: (7.5 / 20.25 - p) ** 2 - stats.norm.ppf(0.975) ** 2 * p * (1 - p) / 20.25, *bracket)
        assert limit == pytest.approx(root, abs=1e-9)


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
def test_the_ends_are_exact_and_no_trials_are_nan(function):
    low, high = function([0, 20, 0], [20, 20, 0])
    assert low[0] == 0 and high[1] == 1 and 0.1 < high[0] < 0.2 and np.isnan(low[2]) and np.isnan(high[2])


def test_one_case_per_group_is_wilson():
    successes = np.arange(30) % 3 == 0
    found = rao_scott_wilson(successes, np.arange(30))
    assert (found.low, found.high) == pytest.approx([float(limit) for limit in wilson(10, 30)], abs=1e-12)
    assert (found.design_effect, found.num_groups, found.value) == (pytest.approx(1), 30, pytest.approx(1 / 3))


def test_copies_of_every_case_add_nothing():
    """Three copies of 40 cases have a design effect of about 3: as wide as 40 cases, up to t quantiles."""
    successes = np.arange(40) % 4 == 0
    found = rao_scott_wilson(np.repeat(successes, 3), np.repeat(np.arange(40), 3))
    low, high = wilson(10, 40)
    assert found.design_effect == pytest.approx(3, rel=0.03)
    assert low - 0.01 < found.low < low and high < found.high < high + 0.01


def test_few_groups_widen_the_interval_by_their_t_quantile():
    """Korn and Graubard's effective number of cases, by hand."""
    groups = np.repeat(np.arange(6), 10)
    successes = np.arange(60) % 10 < np.repeat([2, 9, 4, 7, 1, 10], 10)
    found = rao_scott_wilson(successes, groups)
    effective = 60 / found.design_effect * (stats.t.ppf(0.975, 59) / stats.t.ppf(0.975, 5)) ** 2
    low, high = wilson(successes.mean() * effective, effective)
    assert found.design_effect > 3 and (found.low, found.high) == pytest.approx((float(low), float(high)), abs=1e-12)


def test_the_variance_is_that_of_a_bootstrap_of_groups():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 200)
    groups = np.repeat(np.arange(200), sizes)
    successes = (rng.beta(1, 1, 200)[groups] > rng.uniform(size=len(groups))).astype(int)
    totals = np.bincount(groups, weights=successes)
    drawn = rng.integers(0, 200, (4000, 200))
    means = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    share = successes.mean()
    effect = rao_scott_wilson(successes, groups).design_effect
    assert effect * share * (1 - share) / len(groups) == pytest.approx(means.var(), rel=0.08)


def test_all_or_none_counts_the_cases_of_a_group_once():
    for value in (0, 1):
        found = rao_scott_wilson(np.full(60, value), np.repeat(np.arange(20), 3))
        assert (found.low, found.high) == pytest.approx([float(limit) for limit in wilson(20 * value, 20)], abs=1e-12)
    single = rao_scott_wilson(np.array([1, 0, 1]), np.zeros(3, dtype=int))
    assert single.low < 0.15 and single.high > 0.9 and np.isnan(single.design_effect)
    assert np.isnan(rao_scott_wilson(np.zeros(0), np.zeros(0, dtype=int)).low)


@pytest.mark.parametrize("share", [0.7, 0.95])
def test_clusters_are_covered_where_the_plain_interval_is_too_narrow(share):
    rng = np.random.default_rng(1)
    covered = {"clustered": [], "plain": []}
    for _ in range(400):
        groups = np.repeat(np.arange(60), rng.integers(1, 6, 60))
        group_share = rng.beta(share, 1 - share, 60)  # correlation within a group: 1 / 2
        successes = rng.uniform(size=len(groups)) < group_share[groups]
        found, plain = rao_scott_wilson(successes, groups), wilson(successes.sum(), len(groups))
        covered["clustered"].append(found.low <= share <= found.high)
        covered["plain"].append(plain[0] <= share <= plain[1])
    assert 0.925 < np.mean(covered["clustered"]) < 0.98 and np.mean(covered["plain"]) < 0.88


def test_bad_input():
    with pytest.raises(DataError, match="wilson: successes must be between 0 and the number of trials"):
        wilson(3, 2)
    with pytest.raises(DataError, match=r"clopper_pearson: a level of 95\. It must be between 0 and 1"):
        clopper_pearson(1, 2, level=95)
    with pytest.raises(DataError, match="rao_scott_wilson: 2 cases, groups of 3"):
        rao_scott_wilson(np.ones(2), np.zeros(3, dtype=int))
