import numpy as np
import pytest

from clipzoo.datasets.batches.samplers import DistinctCaptionSampler, RandomSampler, WeightedSampler
from clipzoo.errors import ConfigError, DataError
from clipzoo.registries import SAMPLERS

LABELS = np.repeat([0, 1, 2], [60, 30, 10])
METHODS = ["inverse_freq", "inverse_sqrt", "balanced"]


def all_samplers():
    return [RandomSampler(), DistinctCaptionSampler(), *(WeightedSampler(method) for method in METHODS)]


def test_every_registered_sampler_is_covered():
    assert set(SAMPLERS) >= {type(sampler).__name__ for sampler in all_samplers()}


@pytest.mark.parametrize("sampler", all_samplers())
def test_order_is_a_pure_function_of_seed_and_epoch(sampler):
    first = sampler.order(LABELS, 3, 42)
    sampler.order(LABELS, 4, 42)
    np.testing.assert_array_equal(first, sampler.order(LABELS, 3, 42))
    assert first.shape == (100,) and first.dtype == np.int64
    assert first.min() >= 0 and first.max() < 100
    assert (first != sampler.order(LABELS, 4, 42)).any()
    assert (first != sampler.order(LABELS, 3, 43)).any()


@pytest.mark.parametrize("sampler", all_samplers())
def test_nothing_global_is_drawn(sampler):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    sampler.order(LABELS, 0, 0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("sampler", [RandomSampler(), DistinctCaptionSampler()])
def test_random_visits_every_case_once(sampler):
    for epoch in range(3):
        assert sorted(sampler.order(LABELS, epoch, 0)) == list(range(100))


@pytest.mark.parametrize("method", ["inverse_freq", "inverse_sqrt"])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 50.0])
def test_weights_against_a_naive_loop(method, smooth):
    weights = []
    for label in LABELS:
        size = sum(1 for other in LABELS if other == label) + smooth
        weights.append(1 / size if method == "inverse_freq" else 1 / size**0.5)
    weights = np.array(weights) / sum(weights)
    np.testing.assert_allclose(WeightedSampler(method, smooth).weights(LABELS), weights, rtol=1e-12)


@pytest.mark.parametrize("method", ["inverse_freq", "inverse_sqrt"])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 50.0])
def test_class_frequencies_are_as_documented(method, smooth):
    sizes = np.array([60, 30, 10])
    shares = sizes / (sizes + smooth) if method == "inverse_freq" else sizes / np.sqrt(sizes + smooth)
    shares = shares / shares.sum()
    epochs = 400
    drawn = np.concatenate([LABELS[WeightedSampler(method, smooth).order(LABELS, e, 7)] for e in range(epochs)])
    observed = np.bincount(drawn, minlength=3) / len(drawn)
    sd = np.sqrt(shares * (1 - shares) / len(drawn))
    assert (np.abs(observed - shares) < 4 * sd).all(), (observed, shares)


def test_the_three_methods_differ_in_the_share_of_the_rare_class():
    share = {m: np.mean([(LABELS[WeightedSampler(m).order(LABELS, e, 0)] == 2).mean() for e in range(200)]) for m in METHODS}
    assert 0.10 < share["inverse_sqrt"] < share["inverse_freq"] < share["balanced"]
    assert share["balanced"] == pytest.approx(1 / 3, abs=1e-9 + 0.01)


def test_smoothing_without_end_is_natural_sampling():
    np.testing.assert_allclose(WeightedSampler("inverse_freq", 1e12).weights(LABELS), 0.01, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(60, 30, 10), (97, 2, 1), (5, 5, 4), (1, 1, 1), (7, 1, 3, 20)])
def test_balanced_is_exact_in_every_epoch(sizes):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    for epoch in range(6):
        order = WeightedSampler("balanced").order(labels, epoch, 3)
        assert len(order) == len(labels)
        counts = np.bincount(labels[order], minlength=len(sizes))
        assert counts.max() - counts.min() <= 1
        for label, size in enumerate(sizes):
            visits = np.bincount(order, minlength=len(labels))[labels == label]
            # at most one boundary between two rounds falls into an epoch's piece beyond the whole rounds it covers
            assert visits.max() <= -(-counts[label] // size) + 1
            if counts[label] >= 2 * size:
                assert visits.min() >= 1


def test_balanced_repeats_no_case_before_its_class_is_used_up():
    sampler = WeightedSampler("balanced")
    visits = np.zeros(100, dtype=int)
    for epoch in range(30):
        np.add.at(visits, sampler.order(LABELS, epoch, 5), 1)
        for label in range(3):
            of_class = visits[LABELS == label]
            assert of_class.max() - of_class.min() <= 1
    totals = np.bincount(LABELS, weights=visits)
    assert totals.max() - totals.min() <= 1  # the odd draws rotate


def test_absent_class_and_single_class_and_no_case():
    for method in METHODS:
        sampler = WeightedSampler(method)
        assert set(sampler.order(np.array([0, 0, 5]), 0, 0)) <= {0, 1, 2}
        assert len(sampler.order(np.zeros(4, int), 0, 0)) == 4
    assert sorted(WeightedSampler("balanced").order(np.zeros(4, int), 0, 0)) == [0, 1, 2, 3]


def test_bad_arguments():
    with pytest.raises(ConfigError, match="Did you mean 'inverse_freq'"):
        WeightedSampler("inverse_frq")
    with pytest.raises(ConfigError, match="smooth_factor"):
        WeightedSampler(smooth_factor=-1)
    with pytest.raises(DataError, match="without a class"):
        WeightedSampler().order(np.array([0, -1]), 0, 0)
