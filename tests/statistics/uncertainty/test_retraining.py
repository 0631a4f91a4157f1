"""What training adds to an interval."""

from __future__ import annotations

import numpy as np
import pytest

from clipzoo.probes import Examples, KNearest
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.intervals import classification_intervals
from clipzoo.statistics.uncertainty.retraining import widening, without_blocks

ACCURACY = ("accuracy", None)


def table(rng: np.random.Generator, num: int = 60, per_group: int = 2) -> Cases:
    """Predictions of three classes that are often right."""
    groups = np.repeat(np.arange(num // per_group), per_group)
    labels = rng.permutation(np.arange(num // per_group) % 3)[groups]
    logits = rng.normal(size=(num, 3)) + np.eye(3)[labels]
    return Cases.from_arrays(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), groups)


def rows_of(cases: Cases, kept: np.ndarray) -> Cases:
    return Cases.from_arrays(cases.labels[kept], cases.probabilities[kept], cases.groups[kept])


def test_blocks_are_whole_groups_and_each_case_is_left_out_once():
    cases = table(np.random.default_rng(0))
    kept = np.array(list(without_blocks(cases, num_blocks=7)))
    assert kept.shape == (7, 60) and ((~kept).sum(axis=0) == 1).all()
    assert (kept[:, 0::2] == kept[:, 1::2]).all()
    shares = [np.bincount(cases.labels[~of_block], minlength=3) for of_block in kept]
    assert np.ptp(shares, axis=0).max() <= 2, "a class is in few blocks"


def test_models_that_do_not_change_widen_nothing():
    cases = table(np.random.default_rng(1))
    left_out = [rows_of(cases, kept) for kept in without_blocks(cases, num_blocks=1000)]
    factors = widening(cases, left_out)
    assert set(factors) >= {ACCURACY, ("auroc", None), ("sensitivity", 2)}
    assert all(factor == pytest.approx(1) for factor in factors.values())


def test_the_factor_is_the_fourth_root_of_the_ratio_of_the_variances():
    cases = table(np.random.default_rng(2))
    left_out = []
    for number, kept in enumerate(without_blocks(cases, num_blocks=10)):
        probabilities = cases.probabilities[kept].copy()
        if number == 3:
            probabilities = probabilities[:, [1, 2, 0]]  # training without this block goes wrong
        left_out.append(Cases.from_arrays(cases.labels[kept], probabilities, cases.groups[kept]))
    accuracy = np.mean(cases.probabilities.argmax(axis=1) == cases.labels)
    values = [np.mean(t.probabilities.argmax(axis=1) == t.labels) for t in left_out]
    retrained = 9 / 10 * sum((value - accuracy) ** 2 for value in values)
    fixed = 0.0
    for group in range(30):
        kept = cases.groups != group
        fixed += 29 / 30 * (np.mean((cases.probabilities.argmax(axis=1) == cases.labels)[kept]) - accuracy) ** 2
    factors = widening(cases, left_out)
    assert factors[ACCURACY] == pytest.approx((retrained / fixed) ** 0.25) and factors[ACCURACY] > 1.5

    plain, wide = (classification_intervals(cases, widening=w) for w in (None, factors))
    for name, interval in wide.overall.items():
        inner = plain.overall[name]
        assert interval.low <= inner.low and inner.high <= interval.high and interval.value == inner.value
    assert wide.overall["accuracy"].low < plain.overall["accuracy"].low - 0.01


def test_a_factor_of_2_is_a_quarter_of_the_cases():
    cases = table(np.random.default_rng(3), per_group=1)
    quarter = Cases.from_arrays(cases.labels[::4], cases.probabilities[::4])
    found = classification_intervals(cases, widening={ACCURACY: 2.0}).overall["accuracy"]
    from clipzoo.statistics.uncertainty.interval_methods import wilson

    assert (found.low, found.high) == pytest.approx(wilson(found.value, len(quarter), 1.959963984540054))


def test_with_random_labels_the_intervals_of_nearest_neighbours_are_widened():
    """Mutual nearest neighbours are right together: the true standard error is about 1.4 times that of independent cases."""
    factors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        features, labels = rng.normal(size=(60, 8)).astype(np.float32), rng.permutation(np.arange(60) % 2)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        folds = rng.permutation(np.arange(60) % 5)

        def validated(kept, features=features, labels=labels, folds=folds) -> Cases:
            probabilities = np.zeros((60, 2))
            for fold in range(5):
                train, test = kept & (folds != fold), kept & (folds == fold)
                probabilities[test] = KNearest(k=1).fit(Examples(features[train], labels[train], 2)).predict(features[test])
            return Cases.from_arrays(labels[kept], probabilities[kept])

        cases = validated(np.ones(60, dtype=bool))
        factors.append(widening(cases, [validated(kept) for kept in without_blocks(cases)])[ACCURACY])
    assert 1.2 < np.mean(factors) < 1.7
