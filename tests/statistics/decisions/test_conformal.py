"""Prediction sets against the definition, the known distribution of their coverage, and simulation."""

import numpy as np
import pytest
from scipy import stats

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.decisions.conformal import fit_conformal, prediction_sets, set_quality
from clipzoo.statistics.proportions import rao_scott_wilson


def simulated(num_groups, rng, *, shares=(0.5, 0.3, 0.2), largest=1):
    """Labels, probabilities by Bayes' rule (but for the noise of the group), and groups; the cases of a group are alike."""
    groups = np.repeat(np.arange(num_groups), rng.integers(1, largest + 1, num_groups))
    labels = rng.choice(len(shares), p=shares, size=num_groups)[groups]
    noise = rng.normal(size=(num_groups, len(shares)))[groups] + rng.normal(size=(len(groups), len(shares)))
    weights = np.exp(noise + 1.5 * np.eye(len(shares))[labels] + np.log(shares))
    return labels, weights / weights.sum(axis=1, keepdims=True), groups


@pytest.mark.parametrize(("num", "alpha"), [(19, 0.05), (20, 0.05), (57, 0.1), (100, 0.25), (9, 0.1)])
def test_the_threshold_is_the_finite_sample_quantile(num, alpha):
    """The ⌈(n + 1)(1 - alpha)⌉-th smallest of 1 - p of the true class."""
    labels, probabilities, _ = simulated(num, np.random.default_rng(num))
    nonconformity = np.sort(1 - probabilities[np.arange(num), labels])
    rank = int(np.ceil((num + 1) * (1 - alpha) - 1e-9))
    found = fit_conformal(labels, probabilities, alpha=alpha, conditional="marginal")
    np.testing.assert_allclose(found.thresholds, np.full(3, 1 - nonconformity[rank - 1]), atol=1e-12)
    assert found.groups.tolist() == [num] * 3 and found.note == ""


def test_too_few_cases_give_sets_of_all_classes():
    labels, probabilities, _ = simulated(18, np.random.default_rng(0))
    found = fit_conformal(labels, probabilities, alpha=0.05, conditional="marginal")
    assert found.thresholds.tolist() == [0, 0, 0] and found.note == "18 groups are fewer than the 19 needed: sets contain every class"
    assert prediction_sets(probabilities, found).all()
    assert (fit_conformal(labels[:0], probabilities[:0]).thresholds == 0).all()


def test_the_coverage_given_val_has_its_known_distribution():
    """Beta(k, n + 1 - k) with k = ⌈(n + 1)(1 - alpha)⌉ (Vovk 2012), for scores without ties."""
    rng = np.random.default_rng(1)
    test_labels, test_probabilities, _ = simulated(20_000, rng)
    true = test_probabilities[np.arange(20_000), test_labels]
    coverages = []
    for _ in range(250):
        labels, probabilities, _ = simulated(50, rng)
        coverages.append((true >= fit_conformal(labels, probabilities, conditional="marginal").thresholds[0]).mean())
    assert stats.kstest(coverages, stats.beta(46, 5).cdf).pvalue > 0.01 and np.mean(coverages) == pytest.approx(46 / 51, abs=0.006)


def test_every_large_class_is_covered_where_one_threshold_covers_only_on_average():
    rng = np.random.default_rng(2)
    shares = (0.81, 0.1, 0.09)
    covered = {"label": [], "marginal": []}
    test = simulated(3000, rng, shares=shares)
    for _ in range(40):
        val = simulated(300, rng, shares=shares)
        for conditional, rows in covered.items():
            sets = prediction_sets(test[1], fit_conformal(*val[:2], alpha=0.2, conditional=conditional))
            rows.append([proportion.value for proportion in set_quality(sets, *test[::2]).coverage_per_class])
    by_class, marginal = np.mean(covered["label"], axis=0), np.mean(covered["marginal"], axis=0)
    assert (by_class > 0.78).all() and (by_class < 0.86).all() and marginal.min() < 0.6


def test_a_random_case_of_a_new_group_is_covered():
    """With up to 6 alike images per group; counting images instead of groups would cover too little."""
    rng = np.random.default_rng(3)
    by_group, by_case = [], []
    labels, probabilities, groups = simulated(20_000, rng, largest=6)
    chance = 1 / np.bincount(groups)[groups] / 20_000
    true = probabilities[np.arange(len(labels)), labels]
    for _ in range(250):
        val = simulated(29, rng, largest=6)
        by_group.append(((true >= fit_conformal(*val, conditional="marginal").thresholds[0]) * chance).sum())
        by_case.append(((true >= fit_conformal(*val[:2], conditional="marginal").thresholds[0]) * chance).sum())
    assert 0.895 < np.mean(by_group) < 0.94 and np.mean(by_case) < np.mean(by_group)


def test_small_classes_share_a_threshold():
    labels = np.repeat([0, 1, 2, 3], [40, 12, 4, 3])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), len(labels))
    found = fit_conformal(labels, probabilities, alpha=0.1)
    assert found.categories[2] == found.categories[3] == found.categories[1] != found.categories[0]  # 7 groups are fewer than 9
    assert found.groups.tolist() == [40, 19, 19, 19]
    assert found.note == "3 classes share a threshold, as a class has fewer than 9 groups: coverage holds for them together"
    apart = fit_conformal(labels, probabilities, alpha=0.2)  # 4 groups are enough
    assert apart.categories[3] == apart.categories[2] != apart.categories[1]
    joint = labels > 0
    alone = fit_conformal(np.zeros(19, dtype=int), probabilities[joint, labels[joint]][:, None], alpha=0.1, conditional="marginal")
    assert found.thresholds[1] == alone.thresholds[0]


def test_ties_unknown_labels_and_nan():
    labels, probabilities = np.zeros(30, dtype=int), np.tile([0.7, 0.3], (30, 1))
    found = fit_conformal(labels, probabilities, conditional="marginal")
    assert prediction_sets(probabilities, found)[:, 0].all() and not prediction_sets(probabilities, found)[:, 1].any()
    more = fit_conformal(np.r_[labels, -1], np.r_[probabilities, [[0.1, 0.9]]], conditional="marginal")
    np.testing.assert_array_equal(more.thresholds, found.thresholds)
    broken = np.r_[probabilities[:27], np.full((3, 2), np.nan)]  # 3 of 30 failed: a new case fails more often than 10 %
    assert fit_conformal(labels, broken, conditional="marginal").thresholds.tolist() == [0, 0]
    assert prediction_sets(broken, found)[27:].all()


def test_set_quality_counts():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=bool)
    labels, groups = np.array([0, 0, 1, 0, -1]), np.array([0, 0, 1, 2, 3])
    found = set_quality(sets, labels, groups)
    assert found.coverage == rao_scott_wilson(np.array([1, 1, 0, 0]), groups[:4])
    assert (found.mean_size, found.singletons, found.empty) == (1.0, 0.5, 0.25)
    assert [p.num_cases for p in found.coverage_per_class] == [3, 1, 0] and np.isnan(found.coverage_per_class[2].value)
    assert found.coverage_per_class[0].value == pytest.approx(2 / 3)


def test_bad_input():
    with pytest.raises(ConfigError, match=r"conformal: alpha is 10\. "):
        fit_conformal(np.zeros(2, dtype=int), np.ones((2, 2)), alpha=10)
    with pytest.raises(ConfigError, match="conformal: conditional is 'class'"):
        fit_conformal(np.zeros(2, dtype=int), np.ones((2, 2)), conditional="class")
    with pytest.raises(DataError, match="conformal: 2 labels, 3 probabilities, 2 groups"):
        fit_conformal(np.zeros(2, dtype=int), np.ones((3, 2)))
