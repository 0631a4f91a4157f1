"""Calibration against scikit-learn, a naive loop, exact identities and simulation."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from clipzoo.errors import DataError
from clipzoo.statistics.decisions.calibration import (
    brier_decomposition,
    brier_score,
    expected_calibration_error,
    reliability_curve,
    top_label,
)
from clipzoo.statistics.proportions import rao_scott_wilson, wilson


def example(num_cases=200, num_classes=4, seed=0, decimals=2):
    """Rounded probabilities, so that there are ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_cases)
    weights = np.exp(rng.normal(size=(num_cases, num_classes)) + np.eye(num_classes)[labels]).round(decimals) + 0.01
    return labels, weights / weights.sum(axis=1, keepdims=True)


def resamples(groups, num=300, seed=0):
    num_groups = groups.max() + 1
    return np.random.default_rng(seed).multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num)[:, groups]


def simulated(num_groups, temperature, seed, spread=1.2, largest=3):
    """Scores, outcomes, groups and the true error of scores that are too extreme by a temperature; images of a patient are alike."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), rng.integers(1, largest + 1, num_groups))
    logits = 1.5 + spread * (rng.normal(size=num_groups)[groups] + rng.normal(size=len(groups))) / np.sqrt(2)
    scores, true = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-logits / temperature))
    return scores, rng.uniform(size=len(groups)) < true, groups, np.abs(scores - true).mean()


def test_brier_score_is_that_of_a_loop_and_twice_the_binary_one():
    labels, probabilities = example()
    loop = [sum((p - (c == label)) ** 2 for c, p in enumerate(row)) for label, row in zip(labels, probabilities, strict=True)]
    assert brier_score(labels, probabilities) == pytest.approx(np.mean(loop))
    labels, probabilities = example(num_classes=2)
    assert brier_score(labels, probabilities) == pytest.approx(2 * brier_score_loss(labels, probabilities[:, 1]))


def test_unknown_labels_are_excluded_and_nan_stays_nan():
    labels, probabilities = example()
    unknown = np.r_[labels, -1], np.r_[probabilities, np.full((1, 4), 0.25)]
    assert brier_score(*unknown) == brier_score(labels, probabilities)
    assert brier_decomposition(*unknown) == brier_decomposition(labels, probabilities)
    probabilities[3] = np.nan
    assert np.isnan(brier_score(labels, probabilities)) and np.isnan(brier_decomposition(labels, probabilities).miscalibration)
    assert np.isnan(brier_score(labels[:0], probabilities[:0])) and np.isnan(brier_decomposition(labels[:0], probabilities[:0]).brier)


@pytest.mark.parametrize("decimals", [1, 9])
def test_decomposition_adds_up_and_equals_scikit_learn(decimals):
    """With one decimal most probabilities are tied."""
    labels, probabilities = example()
    probabilities = probabilities.round(decimals)
    found = brier_decomposition(labels, probabilities)
    assert found.brier == pytest.approx(found.miscalibration - found.discrimination + found.uncertainty, abs=1e-12)
    expected = 0.0
    for c in range(4):
        fitted = IsotonicRegression().fit_transform(probabilities[:, c], labels == c)
        expected += np.mean((probabilities[:, c] - (labels == c)) ** 2) - np.mean((fitted - (labels == c)) ** 2)
    assert found.miscalibration == pytest.approx(expected, abs=1e-12)
    shares = np.bincount(labels) / len(labels)
    assert found.uncertainty == pytest.approx(np.sum(shares * (1 - shares)))


def test_decomposition_of_extreme_models():
    labels, _ = example()
    perfect = brier_decomposition(labels, np.eye(4)[labels])
    assert (perfect.brier, perfect.miscalibration) == (0, 0) and perfect.discrimination == perfect.uncertainty > 0
    shares = brier_decomposition(labels, np.tile(np.bincount(labels) / len(labels), (len(labels), 1)))
    assert shares.discrimination == pytest.approx(0, abs=1e-12) and shares.miscalibration == pytest.approx(0, abs=1e-12)


def naive_error(scores, outcomes, num_bins):
    order = np.argsort(scores, kind="stable")
    bins = [order[m * len(order) // num_bins : (m + 1) * len(order) // num_bins] for m in range(num_bins)]
    return sum(len(b) / len(order) * abs(scores[b].mean() - outcomes[b].mean()) for b in bins)


def test_plug_in_error_is_that_of_a_loop():
    scores, outcomes, groups, _ = simulated(150, 2.0, 0)
    for num_bins in (1, 7, 10):
        found = expected_calibration_error(scores, outcomes, groups, num_bins=num_bins)
        assert found.plug_in == pytest.approx(naive_error(scores, outcomes, num_bins)) and found.num_bins == num_bins
    assert np.isnan(found.low)


def test_debiased_error_of_independent_cases_is_that_of_kumar_by_simulation():
    """Their estimate: the plug-in minus what it rises by when the shares of the bins are drawn again from a normal distribution."""
    scores, outcomes, groups, _ = simulated(150, 2.0, 0, largest=1)
    found = expected_calibration_error(scores, outcomes, groups, num_bins=5)
    curve = reliability_curve(scores, outcomes, num_bins=5)
    order = np.argsort(scores)
    variance = [np.var((scores - outcomes)[b], ddof=1) / len(b) for b in np.array_split(order, 5)]
    drawn = (curve.scores - curve.shares) + np.random.default_rng(0).normal(size=(200_000, 5)) * np.sqrt(variance)
    again = np.abs(drawn).mean(axis=0) @ (curve.counts / curve.counts.sum())
    assert found.debiased == pytest.approx(2 * found.plug_in - again, abs=3e-4) and found.debiased < found.plug_in


def test_bins_do_not_depend_on_the_order_of_equal_scores():
    labels, probabilities = example(decimals=0)
    scores, outcomes = top_label(labels, probabilities.round(1))
    order = np.random.default_rng(0).permutation(len(scores))
    first, again = (expected_calibration_error(scores[o], outcomes[o], o, weights=None) for o in (np.arange(len(scores)), order))
    assert first.plug_in == pytest.approx(again.plug_in, abs=1e-12) and first.num_bins == again.num_bins < 10


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "spread"), [(1.0, 1.2), (1.0, 4.0), (2.0, 1.2)])
def test_the_interval_covers_and_the_debiased_error_is_closer(temperature, spread):
    true = 0.0 if temperature == 1 else simulated(20_000, temperature, 99, spread)[3]
    found = []
    for seed in range(40):
        *arrays, _ = simulated(120, temperature, seed, spread)
        found.append(expected_calibration_error(*arrays, weights=resamples(arrays[2], 150)))

    covered = [f.low <= true <= f.high for f in found]
    bias = {name: np.mean([getattr(f, name) for f in found]) - true for name in ("plug_in", "debiased")}
    assert np.mean(covered) >= (0.95 if temperature == 1 else 0.85) and abs(bias["debiased"]) < bias["plug_in"]
    assert all(f.low <= f.debiased <= f.high for f in found)


def test_clusters_widen_the_interval():
    """Every case three times: the interval is that of the single cases, not narrower by the square root of 3."""
    scores, outcomes, groups, _ = simulated(150, 2.0, 3, largest=1)
    single = expected_calibration_error(scores, outcomes, groups, num_bins=5, weights=resamples(groups))
    thrice = [np.repeat(column, 3) for column in (scores, outcomes, groups)]
    found = expected_calibration_error(*thrice, num_bins=5, weights=resamples(thrice[2]))
    assert (found.plug_in, found.debiased) == pytest.approx((single.plug_in, single.debiased))
    assert found.high - found.low == pytest.approx(single.high - single.low, rel=0.02)


def test_degenerate_input_gives_numbers_or_nan_with_a_note():
    always_right = expected_calibration_error(np.ones(20), np.ones(20), np.arange(20), weights=resamples(np.arange(20)))
    assert (always_right.plug_in, always_right.low, always_right.num_bins) == (0, 0, 1)
    nearly = expected_calibration_error(np.full(20, 0.98), np.ones(20), np.arange(20), weights=resamples(np.arange(20)))
    assert nearly.low == 0 and nearly.high > 0.02
    one_group = expected_calibration_error(np.full(6, 0.7), np.arange(6) > 1, np.zeros(6, dtype=int))
    assert one_group.note == "too few groups per bin for an interval"
    assert expected_calibration_error(np.array([np.nan]), np.array([1]), np.array([0])).note == "probabilities are not finite"
    empty = expected_calibration_error(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))
    assert np.isnan(empty.plug_in) and empty.note == "no cases"
    with pytest.raises(DataError, match="calibration error: 2 scores, 3 outcomes, 2 groups"):
        expected_calibration_error(np.ones(2), np.ones(3), np.ones(2))


def test_reliability_curve_is_a_partition_with_intervals():
    scores, outcomes, groups, _ = simulated(150, 2.0, 0)
    curve = reliability_curve(scores, outcomes, num_bins=6)
    assert curve.counts.sum() == len(scores) and curve.edges.shape == (7,) and (np.diff(curve.edges) > 0).all()
    assert curve.edges[0] == scores.min() and curve.edges[-1] == scores.max()
    inside = (scores >= curve.edges[2]) & (scores < curve.edges[3])
    assert (curve.counts[2], curve.shares[2]) == (inside.sum(), outcomes[inside].mean())
    assert curve.scores[2] == pytest.approx(scores[inside].mean())
    np.testing.assert_allclose((curve.low, curve.high), wilson(curve.shares * curve.counts, curve.counts))
    clustered = reliability_curve(scores, outcomes, groups, num_bins=6)
    expected = rao_scott_wilson(outcomes[inside], groups[inside])
    assert (clustered.low[2], clustered.high[2]) == (expected.low, expected.high)
    assert reliability_curve(np.r_[scores, np.nan], np.r_[outcomes, True], num_bins=6).counts.sum() == len(scores)
    assert len(reliability_curve(np.zeros(0), np.zeros(0)).counts) == 0
