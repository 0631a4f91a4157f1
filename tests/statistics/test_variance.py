"""Variance components against a simulation in which they are known, and against a nested analysis of variance by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from clipzoo.errors import DataError
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.intervals import classification_intervals
from clipzoo.statistics.variance import VarianceComponents, _nested, repeated_intervals, variance_components


def runs_of(scores, groups=None):
    """``[R, N]`` probability of the true class; half of the cases are of either class."""
    labels = np.arange(scores.shape[1]) % 2
    rows = np.arange(len(labels))
    runs = []
    for row in scores:
        probabilities = np.empty((len(labels), 2))
        probabilities[rows, labels], probabilities[rows, 1 - labels] = row, 1 - row
        runs.append(Cases.from_arrays(labels, probabilities, groups))
    return runs


@pytest.mark.slow
def test_components_are_recovered_on_average():
    """The Brier score of a case is 2 (1 - p)^2: p is chosen so that it is a sum of effects with known variances."""
    rng = np.random.default_rng(0)
    num_cases, num_splits, num_seeds = 100, 4, 3
    splits = np.repeat(np.arange(num_splits), num_seeds)
    found, covered = [], []
    for _ in range(100):
        brier = (
            0.8
            + rng.normal(scale=0.1, size=num_cases)
            + rng.normal(scale=0.02, size=num_splits)[splits][:, None]
            + rng.normal(scale=0.015, size=len(splits))[:, None]
            + rng.normal(scale=0.15, size=(len(splits), num_cases))
        )
        runs = runs_of(1 - np.sqrt(np.maximum(brier, 0) / 2))
        found.append(variance_components(runs, splits=splits)["brier"])
        interval = repeated_intervals(runs, splits=splits)["brier"]
        covered.append(interval.low <= 0.8 <= interval.high)
    assert np.mean([f.cases for f in found]) == pytest.approx(0.1**2 / num_cases, rel=0.1)
    assert np.mean([f.splits for f in found]) == pytest.approx(0.02**2, rel=0.3)
    assert np.mean([f.seeds for f in found]) == pytest.approx(0.015**2 + 0.15**2 / num_cases, rel=0.15)
    assert 0.9 <= np.mean(covered) <= 0.99
    error = np.std([f.value for f in found])
    assert np.mean([f.standard_error for f in found]) == pytest.approx(error, rel=0.25)


def test_the_nested_analysis_is_the_textbook_one():
    values, splits = np.array([3.0, 5.0, 8.0, 9.0, 10.0, 1.0]), [0, 0, 1, 1, 1, 2]
    between, within = _nested(values, splits)
    assert within == pytest.approx(((3 - 4) ** 2 + (5 - 4) ** 2 + 1 + 0 + 1) / 3)
    squares = 2 * (4 - 6) ** 2 + 3 * (9 - 6) ** 2 + (1 - 6) ** 2
    assert between == pytest.approx((squares / 2 - within) / ((6 - 14 / 6) / 2))


def test_a_design_without_seeds_or_splits_says_so():
    rng = np.random.default_rng(0)
    runs = runs_of(rng.uniform(0.3, 0.9, size=(4, 60)))
    repeats = variance_components(runs)["accuracy"]
    assert math.isnan(repeats.seeds) and repeats.splits > 0 and repeats.num_splits == 4
    seeds = variance_components(runs, splits=[7, 7, 7, 7])["accuracy"]
    assert math.isnan(seeds.splits) and seeds.seeds == pytest.approx(repeats.splits) and seeds.num_splits == 1
    assert repeats.value == pytest.approx(np.mean([classification_intervals(run).overall["accuracy"].value for run in runs]))


def test_equal_runs_have_only_the_variance_of_cases():
    scores = np.tile(np.random.default_rng(0).uniform(0.2, 1, 90), (3, 1))
    found = variance_components(runs_of(scores, np.arange(90) // 3))["accuracy"]
    means = (scores[0] > 0.5).reshape(30, 3).mean(axis=1)
    assert (
        found.splits == pytest.approx(0, abs=1e-20)
        and found.cases == pytest.approx(means.var(ddof=1) / 30)
        and found.share_of_cases == pytest.approx(1)
    )
    assert math.isnan(VarianceComponents(1.0, 0.0, 0.0, 0.0, 2, 2).share_of_cases)


def test_folds_may_differ_and_cases_may_not():
    first, second = runs_of(np.full((2, 8), 0.7))
    moved = Cases(second.classes, second.case_ids, second.labels, second.probabilities, second.groups, second.groups % 2, ("a", "b"))
    assert variance_components([first, moved])["accuracy"].value == 1
    other = runs_of(np.full((1, 8), 0.7), np.arange(8) // 2)[0]
    with pytest.raises(DataError, match="groups differ: case '1' is 1 in run 1, 0 in run 2"):
        variance_components([first, other])
    with pytest.raises(DataError, match="1 run. Two or more"):
        variance_components([first])
    with pytest.raises(DataError, match="1 splits for 2 runs"):
        variance_components([first, moved], splits=[0])


def test_the_interval_of_equal_runs_is_that_of_one():
    rng = np.random.default_rng(5)
    run = runs_of(rng.uniform(0.2, 0.9, size=(1, 80)), groups=np.repeat(np.arange(40), 2))[0]
    alone = classification_intervals(run).overall
    for name, interval in repeated_intervals([run, run, run]).items():
        assert interval.value == pytest.approx(alone[name].value)
        if name in ("auroc", "log_loss", "brier"):
            assert (interval.low, interval.high) == pytest.approx((alone[name].low, alone[name].high), abs=2e-3), name


def test_the_interval_contains_the_spread_of_splits_and_seeds():
    rng = np.random.default_rng(6)
    base = rng.uniform(0.3, 0.8, size=200)
    calm, restless = (runs_of(np.clip(base + shifts[:, None], 0, 1)) for shifts in (np.zeros(4), np.array([-0.2, 0.2, -0.2, 0.2])))
    narrow, wide = (repeated_intervals(runs)["brier"] for runs in (calm, restless))
    found = variance_components(restless)["brier"]
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    freedom = found.standard_error**4 / (found.cases**2 / 199 + (found.splits / 4) ** 2 / 3)
    assert 3 < freedom < 4
    expected = stats.t.ppf(0.975, freedom) * found.standard_error / found.value
    assert math.log(wide.high / wide.value) == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("num_runs,least", [(2, 0.85), (3, 0.88), (6, 0.91)])
def test_the_interval_covers_where_splits_matter(num_runs, least):
    """100 cases with a standard error of 0.01, and splits with a standard deviation of 0.02."""
    rng = np.random.default_rng(num_runs)
    covered = []
    for _ in range(300):
        brier = 0.8 + rng.normal(scale=0.1, size=100) + rng.normal(scale=0.02, size=num_runs)[:, None]
        interval = repeated_intervals(runs_of(1 - np.sqrt(np.maximum(brier, 0) / 2)))["brier"]
        covered.append(interval.low <= 0.8 <= interval.high)
    assert least <= np.mean(covered) <= 0.985


def test_a_class_that_one_of_the_runs_never_predicts_has_an_interval():
    rng = np.random.default_rng(7)
    labels = np.arange(60) % 3
    some = rng.dirichlet(np.ones(3), size=60)
    never = some.copy()
    never[:, 2] = 0
    runs = [Cases.from_arrays(labels, p / p.sum(axis=1, keepdims=True)) for p in (never, some)]
    for name, interval in repeated_intervals(runs).items():
        assert interval.low < interval.value < interval.high, name
