"""Arranging an epoch, on many small epochs at random and against exhaustive search."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from clipzoo.datasets.batches import arrange


def each_seed(count: int) -> Callable:
    """Run a test of ``seed`` for so many seeds, as one test."""

    def decorate(test: Callable[[int], None]) -> Callable[[], None]:
        def with_each_seed():
            for seed in range(count):
                try:
                    test(seed)
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {error}") from error

        return with_each_seed

    return decorate


def rng(*path):
    return np.random.default_rng([1, *path])


def split(values, sizes):
    return np.split(np.asarray(values), np.cumsum(sizes)[:-1])


def random_keys(seed):
    """From keys that are nearly all distinct to one that is nearly alone."""
    draw = rng(seed)
    kinds = draw.integers(1, 40)
    shares = draw.dirichlet(np.full(kinds, 10.0 ** draw.uniform(-1.5, 2)))
    return draw.choice(kinds, size=draw.integers(1, 150), p=shares) * 7 + 3


def test_sizes():
    assert arrange.cut(10, 4).tolist() == [4, 4, 2] and arrange.cut(8, 4).tolist() == [4, 4] and arrange.cut(3, 4).tolist() == [3]
    assert arrange.share_out(10, 4).tolist() == [3, 3, 2, 2] and arrange.share_out(8, 4).tolist() == [2] * 4


@each_seed(100)
def test_most_batches_is_the_largest_that_can_be_filled(seed):
    keys, size = random_keys(seed), int(rng(seed, 2).integers(1, 20))
    counts = [list(keys).count(key) for key in set(keys)]
    possible = [n for n in range(len(keys) + 1) if sum(min(c, n) for c in counts) >= n * size]
    assert arrange.most_batches(keys, size) == max(possible)
    assert (max(possible) == 0) == (len(counts) < size)


def test_most_batches_against_all_arrangements():
    """No cleverer arrangement makes one batch more: tried out for every multiset of up to 7 draws of 3 keys."""

    def can(counts, num_batches, size):
        if num_batches == 0:
            return True
        chosen = itertools.combinations([k for k, c in enumerate(counts) if c], size)
        return any(can([c - (k in some) for k, c in enumerate(counts)], num_batches - 1, size) for some in chosen)

    for counts in itertools.product(range(5), repeat=3):
        keys = np.repeat(np.arange(3), counts)
        for size in (1, 2, 3) if 1 <= len(keys) <= 7 else ():
            most = arrange.most_batches(keys, size)
            assert can(counts, most, size) and not can(counts, most + 1, size)


@each_seed(60)
def test_fitting_takes_turns(seed):
    """A queue per key: each epoch takes from its front and puts at its back."""
    keys, size = random_keys(seed), int(rng(seed, 2).integers(1, 8))
    num_batches = int(rng(seed, 3).integers(1, 10))
    ranks = rng(seed, 4).permutation(len(keys))
    queues = {key: sorted(np.flatnonzero(keys == key), key=lambda place: ranks[place]) for key in keys}
    for epoch in range(5):
        taken = []
        for key, queue in queues.items():
            if len(queue) <= num_batches:
                taken += queue
            else:
                taken += queue[:num_batches]
                queues[key] = queue[num_batches:] + queue[:num_batches]
        expected = sorted(taken)[: num_batches * size]
        assert arrange.fitting(keys, ranks, num_batches, size, epoch).tolist() == expected


@each_seed(150)
def test_a_dealt_batch_repeats_no_key(seed):
    keys = random_keys(seed)
    num_batches = int(np.unique(keys, return_counts=True)[1].max() + rng(seed, 2).integers(0, 3))
    sizes = arrange.share_out(len(keys), num_batches)
    dealt = arrange.deal(keys, sizes, rng(seed, 3))
    assert sorted(dealt) == list(range(len(keys))), "every draw once"
    assert all(len(set(batch)) == len(batch) for batch in split(keys[dealt], sizes))
    np.testing.assert_array_equal(dealt, arrange.deal(keys, sizes, rng(seed, 3)))
    if len(keys) > 9:  # 10! orders or more
        assert (dealt != arrange.deal(keys, sizes, rng(seed, 4))).any()


def test_dealing_leaves_no_pattern():
    """40 captions of 60 cases each: any two meet as often as at random, in neighbouring batches as in distant ones."""
    keys, sizes = np.repeat(np.arange(40), 60), np.full(240, 10)
    dealt = arrange.deal(keys, sizes, rng(0))
    present = np.zeros((240, 40))
    present[np.arange(2400) // 10, keys[dealt]] = 1
    meetings = (present.T @ present)[np.triu_indices(40, 1)]
    # 45 pairs in each of 240 batches over 780 pairs = 13.8 meetings; by chance (Poisson, less what a fixed batch size takes) ± 3.2
    assert meetings.mean() == pytest.approx(240 * 45 / 780) and 2.6 < meetings.std() < 3.8
    shared = (present[1:] * present[:-1]).sum(axis=1)  # two batches of 10 from 40 share 2.5
    assert shared.mean() == pytest.approx(2.5, abs=0.3)
    places = np.zeros((2400, 2))  # where in its batch a draw is decides which process gets it
    places[dealt] = np.stack([np.arange(2400) % 10, np.arange(2400) // 10], axis=1)
    assert np.abs(places[:, 0].reshape(40, 60).mean(axis=1) - 4.5).max() < 4 * 2.87 / 60**0.5


def weighted(seed, num_cases):
    """An order with replacement: sometimes mild, sometimes nearly always the same few cases."""
    draw = rng(seed, 5)
    return draw.choice(num_cases, size=num_cases, p=draw.dirichlet(np.full(num_cases, 10.0 ** draw.uniform(-2, 2))))


@each_seed(300)
def test_without_repeats(seed):
    num_cases, size = int(rng(seed).integers(1, 90)), int(rng(seed, 1).integers(1, 40))
    order = weighted(seed, num_cases)
    arranged = arrange.without_repeats(order, size, num_cases, rng(seed, 2))
    np.testing.assert_array_equal(arranged, arrange.without_repeats(order, size, num_cases, rng(seed, 2)))
    assert len(arranged) == num_cases and arranged.min() >= 0 and arranged.max() < num_cases
    sizes = arrange.cut(num_cases, size)
    assert all(len(set(batch)) == len(batch) for batch in split(arranged, sizes))
    if all(len(set(batch)) == len(batch) for batch in split(order, sizes)):
        np.testing.assert_array_equal(arranged, order)
    before, after = (np.bincount(o, minlength=num_cases) for o in (order, arranged))
    if before.max() <= num_cases // size:
        np.testing.assert_array_equal(before, after)  # rearranged only
    else:
        assert (after[before >= num_cases // size] >= num_cases // size).all(), "what is drawn too often comes in all whole batches"
    if num_cases <= size:
        assert sorted(arranged) == list(range(num_cases)), "one batch of all cases"


def test_surplus_goes_to_others_as_often_as_they_are_drawn():
    """Case 0 takes half of 1000 draws but fits into 20 batches; of the others, 1 to 10 are drawn three times as often as 11 to 999."""
    weights = np.array([0.0] + [3.0] * 10 + [1.0] * 989)
    weights[0] = weights.sum()
    found = np.zeros(1000)
    for seed in range(200):
        order = rng(seed).choice(1000, size=1000, p=weights / weights.sum())
        found += np.bincount(arrange.without_repeats(order, 50, 1000, rng(seed, 1)), minlength=1000)
    assert found[0] == 200 * 20
    assert found[1:11].mean() / found[11:].mean() == pytest.approx(3, rel=0.1)
