"""Permutation, McNemar and corrected t against scipy and brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.paired.paired_tests import corrected_t, fold_differences, mcnemar, swap_p_values
from clipzoo.statistics.scores import Outcomes, Scores, weighted_scores


def mean_scorer(values):
    """The weighted mean of 2N values, as the only metric."""
    return lambda weights: Scores({"mean": weights @ values / weights.sum(axis=1)}, {})


def test_all_ways_to_swap_are_the_sign_flip_test_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.4, 1, 9), rng.normal(0, 1, 9)
    p_value = swap_p_values(mean_scorer(np.concatenate([first, second])), np.arange(9), np.ones(9, bool), num_permutations=600, seed=0)[
        "mean", None
    ]
    expected = stats.permutation_test((first - second,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided")
    assert p_value == pytest.approx(expected.pvalue - 1 / 2**9)  # half of the observed way to swap and of its mirror image


def test_groups_are_swapped_as_a_whole():
    rng = np.random.default_rng(1)
    groups, values = np.array([0, 0, 0, 1, 2, 2, 3, 3]), rng.normal(size=16)
    p_value = swap_p_values(mean_scorer(values), groups, np.ones(8, bool), num_permutations=100, seed=0)["mean", None]
    differences = values[:8] - values[8:]
    totals = [abs(sum(s * differences[groups == g].sum() for g, s in enumerate(signs))) for signs in itertools.product((1, -1), repeat=4)]
    beyond = np.array(totals) - abs(differences.sum())
    assert p_value == pytest.approx(np.mean(beyond > 1e-9) + np.mean(abs(beyond) <= 1e-9) / 2)


def test_a_sample_of_swaps_counts_the_observed_one():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.25, 1, 60), rng.normal(0, 1, 60)])
    found = [
        swap_p_values(mean_scorer(values), np.arange(60), np.ones(60, bool), num_permutations=4000, seed=s)["mean", None] for s in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert found[0] == pytest.approx(stats.ttest_rel(values[:60], values[60:]).pvalue, abs=0.02)
    surely = np.concatenate([np.ones(60), np.zeros(60)])
    assert swap_p_values(mean_scorer(surely), np.arange(60), np.ones(60, bool), num_permutations=99, seed=0)["mean", None] == 1 / 200


def test_only_groups_that_differ_are_swapped():
    values = np.concatenate([[1, 1, 0.0] + [0.5] * 50, [0, 0, 0.0] + [0.5] * 50])
    differs, options = values[:53] != values[53:], {"num_permutations": 100, "seed": 0}
    found = swap_p_values(mean_scorer(values), np.arange(53), differs, **options)["mean", None]
    assert found == 0.25  # half of 2 of 4 ways
    equal = np.concatenate([values[:53], values[:53]])
    assert swap_p_values(mean_scorer(equal), np.arange(53), differs, **options)["mean", None] == 1


def test_the_number_of_permutations_is_checked():
    with pytest.raises(ConfigError, match="num_permutations: 0 is too few"):
        swap_p_values(mean_scorer(np.zeros(2)), np.arange(1), np.ones(1, bool), num_permutations=0, seed=0)


def test_swapping_keeps_its_level_where_images_of_a_patient_agree():
    """200 null data sets of 24 patients with four images; a t-test over the images would reject in every third one."""
    rng = np.random.default_rng(0)
    groups, rejected, naive = np.repeat(np.arange(24), 4), 0, 0
    for seed in range(200):
        values = rng.normal(size=(2, 24))[:, groups] + 0.3 * rng.normal(size=(2, 96))
        p_value = swap_p_values(mean_scorer(values.reshape(-1)), groups, np.ones(96, bool), num_permutations=199, seed=seed)["mean", None]
        rejected += p_value <= 0.05
        naive += stats.ttest_rel(*values).pvalue <= 0.05
    assert 3 <= rejected <= 18 and naive > 40


@pytest.mark.parametrize("b,c", [(0, 0), (1, 0), (3, 9), (12, 2), (5, 5)])
def test_mcnemar_is_a_binomial_test(b, c):
    first = np.array([True] * (b + 4) + [False] * c)
    second = np.array([False] * b + [True] * (4 + c))
    found = mcnemar(first, second, np.arange(len(first)))
    assert (found.only_first, found.only_second, found.note) == (b, c, "")
    assert found.p_value == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1)
    assert "permutation test" in mcnemar(first, second, np.zeros(len(first), int)).note


def test_corrected_t_is_nadeau_and_bengio():
    differences = np.array([0.05, 0.02, -0.01, 0.04, 0.06])
    found = corrected_t(differences, test_share=0.25)
    error = math.sqrt((1 / 5 + 1 / 4) * np.var(differences, ddof=1))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, 4))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 4, differences.mean(), error))
    without = corrected_t(differences, test_share=0.0)
    assert without.p_value == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)  # uncorrected


def test_corrected_t_of_odd_folds():
    assert corrected_t(np.array([np.nan, 0.1, 0.2]), test_share=0.5).num_folds == 2
    assert "two folds" in corrected_t(np.array([0.1]), test_share=1.0).note and math.isnan(corrected_t(np.array([]), test_share=1.0).mean)
    assert corrected_t(np.zeros(4), test_share=1 / 3).p_value == 1
    assert "no variance" in corrected_t(np.full(4, 0.25), test_share=1 / 3).note


def test_fold_differences_are_those_of_each_fold_alone():
    rng = np.random.default_rng(0)
    labels, folds, scorers, alone = rng.integers(0, 3, 60), np.arange(60) % 4, [], []
    for _ in range(2):
        probabilities = rng.dirichlet(np.ones(3), 60)
        outcomes = Outcomes.of(Cases.from_arrays(labels, probabilities))
        scorers.append(lambda weights, outcomes=outcomes: weighted_scores(outcomes, weights))
        parts = [Outcomes.of(Cases.from_arrays(labels[folds == f], probabilities[folds == f])) for f in range(4)]
        alone.append([weighted_scores(part, np.ones((1, len(part)))).overall["macro_f1"][0] for part in parts])
    np.testing.assert_allclose(fold_differences(*scorers, folds)["macro_f1", None], np.subtract(*alone))
    with pytest.raises(DataError, match="folds: no cases"):
        fold_differences(*scorers, folds[:0])
