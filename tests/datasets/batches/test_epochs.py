"""How an epoch is cut into batches, by one process and by several, with every sampler, on many small datasets at random."""

import random

import numpy as np
import pytest
from tiny import data_of

from clipzoo.datasets.batches.epochs import Draw, EpochBatches
from clipzoo.datasets.batches.samplers import DistinctCaptionSampler, RandomSampler, WeightedSampler
from clipzoo.errors import BuildError, ConfigError


def random_data(seed):
    """Up to 120 cases in three classes of unlike sizes, with one to three of few or many captions each; training on a part of them."""
    draw = np.random.default_rng(seed)
    num_cases = int(draw.integers(2, 120))
    kinds = int(draw.integers(1, 2 * num_cases))
    shares = draw.dirichlet(np.full(kinds, 10.0 ** draw.uniform(-1, 2)))
    most = min(int(draw.integers(1, 4)), np.count_nonzero(shares))
    captions = [draw.choice(kinds, size=draw.integers(1, most + 1), replace=False, p=shares).tolist() for _ in range(num_cases)]
    data = data_of(captions, draw.choice(3, size=num_cases, p=[0.8, 0.15, 0.05]))
    return data, np.sort(draw.choice(num_cases, size=int(draw.integers(1, num_cases + 1)), replace=False))


def epoch_of(data, rows, sampler, *, epoch=0, start=0, **sizes):
    batches = EpochBatches(data, rows, sampler, seed=5, **sizes)
    batches.set_epoch(epoch, start)
    return list(batches)


class OnlyOrder:
    """What somebody else's sampler may look like: draws half of its cases twice."""

    def order(self, labels, epoch, seed):
        return np.random.default_rng([seed, epoch]).permutation(len(labels)) // 2 * 2 % max(len(labels), 1)


SAMPLERS = [RandomSampler(), *(WeightedSampler(m) for m in ("inverse_freq", "inverse_sqrt", "balanced")), OnlyOrder()]


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{type(s).__name__} {getattr(s, 'method', '')}")
@pytest.mark.parametrize("world_size", [1, 3, *(pytest.param(other, marks=pytest.mark.slow) for other in (2, 4))])
def test_all_processes_together_hold_what_one_would(sampler, world_size):
    """Step by step: equal sizes, no case twice, the same draws as one process with the joint batch; only the last may lack a few."""
    for seed in range(25):
        data, rows = random_data(seed)
        size = seed % 5 + 1
        joint = EpochBatches(data, rows, sampler, batch_size=size * world_size, seed=5)
        joint.set_epoch(seed % 3)
        ranks = [epoch_of(data, rows, sampler, epoch=seed % 3, batch_size=size, rank=r, world_size=world_size) for r in range(world_size)]
        steps = list(zip(*ranks, strict=True))
        made = EpochBatches(data, rows, sampler, batch_size=size, seed=5, world_size=world_size)
        assert len(made) == len(steps)
        assert made.cases_per_epoch == sum(len(batch) for step in steps for batch in step)
        for whole, step in zip(joint, steps, strict=False):
            assert len({len(batch) for batch in step}) == 1
            together = [draw for batch in step for draw in batch]
            assert len({draw.row for draw in together}) == len(together) and {draw.row for draw in together} <= set(rows)
            is_last = len(whole) < size * world_size
            assert set(together) <= set(whole) and len(together) > len(whole) - (world_size if is_last else 1)
        each = len(rows) // world_size
        rest_of_one = each % size == 1 and each > 1
        assert made.cases_per_epoch == (each - rest_of_one) * world_size


def test_the_order_of_a_random_epoch_is_the_samplers_own():
    """Today's losses are yesterday's: cases, seeds and captions are where they were before batches were arranged."""
    data, rows = random_data(3)
    for epoch in range(3):
        order = RandomSampler().order(data.labels[rows], epoch, 5)
        seeds = np.random.SeedSequence([5, epoch]).generate_state(len(rows), dtype=np.uint64) >> np.uint64(1)
        expected = [
            Draw(int(rows[p]), int(s), random.Random(int(s)).choice(data.captions_of(rows[p]))) for p, s in zip(order, seeds, strict=True)
        ]
        assert [d for batch in epoch_of(data, rows, RandomSampler(), epoch=epoch, batch_size=2) for d in batch] == expected[
            : len(rows) // 2 * 2
        ]


@pytest.mark.parametrize(("cases", "expected"), [(1, [1]), (4, [4]), (5, [4]), (6, [4, 2]), (9, [4, 4])])
def test_a_rest_of_one_is_left_out_but_never_the_only_batch(cases, expected):
    data = data_of([[0]] * cases)
    batches = EpochBatches(data, np.arange(cases), RandomSampler(), batch_size=4, seed=0)
    assert [len(b) for b in batches] == expected and len(batches) == len(expected) and batches.cases_per_epoch == sum(expected)


@pytest.mark.parametrize("sampler", [RandomSampler(), WeightedSampler("balanced"), DistinctCaptionSampler()])
def test_an_epoch_starts_where_it_was_left(sampler):
    data, rows = data_of([[i % 15] for i in range(40)]), np.arange(40)
    sizes = {"batch_size": 4, "rank": 1, "world_size": 2}
    whole = epoch_of(data, rows, sampler, epoch=1, **sizes)
    assert epoch_of(data, rows, sampler, epoch=1, start=3, **sizes) == whole[3:] and len(whole) == 5
    assert len(EpochBatches(data, rows, sampler, seed=5, **sizes)) == 5
    assert epoch_of(data, rows, sampler, epoch=2, **sizes) != whole
    assert len({draw.seed for batch in whole for draw in batch}) == sum(map(len, whole))


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("world_size", [1, 3, *(pytest.param(other, marks=pytest.mark.slow) for other in (2, 4))])
def test_no_caption_twice_in_a_batch(world_size):
    sampler, tried = DistinctCaptionSampler(), 0
    for seed in range(40):
        data, rows = random_data(seed)
        for size in (1, 2, 5):
            made = EpochBatches(data, rows, sampler, batch_size=size, seed=5, world_size=world_size)
            try:
                num_batches = len(made)
            except ConfigError:
                continue
            for epoch in range(3):
                one = epoch_of(data, rows, sampler, epoch=epoch, batch_size=size * world_size)
                ranks = [
                    epoch_of(data, rows, sampler, epoch=epoch, batch_size=size, rank=r, world_size=world_size) for r in range(world_size)
                ]
                tried += 1
                sizes = [len(batch) for batch in one]
                assert len(one) == num_batches and max(sizes) <= size * world_size and max(sizes) - min(sizes) <= 1
                assert epoch > 0 or min(sizes) == size * world_size, "the first epoch's batches are full"
                for whole, step in zip(one, zip(*ranks, strict=True), strict=True):
                    assert len({len(batch) for batch in step}) == 1 and len(step[0]) >= min(size, 2)
                    together = [draw for batch in step for draw in batch]
                    for name in ("row", "caption"):
                        assert len({getattr(draw, name) for draw in together}) == len(together)
                    assert all(d.caption == random.Random(d.seed).choice(data.captions_of(d.row)) for d in together)
                    if min(sizes) >= 2 * world_size:  # otherwise each number of processes makes do in its own way
                        assert set(together) <= set(whole) and len(together) == len(whole) // world_size * world_size
                rows_of_epoch = [draw.row for batch in one for draw in batch]
                assert len(set(rows_of_epoch)) == len(rows_of_epoch)
    assert tried > 100


def test_every_case_has_its_turn_and_cases_of_a_caption_equally_often():
    """60 cases of one caption and 40 of ten others, in batches of 4."""
    data, rows = data_of([[0]] * 60 + [[1 + i % 10] for i in range(40)]), np.arange(100)
    made = EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=4, seed=5)
    assert len(made) == 13 and made.cases_per_epoch == 52, "min(60, 13) + 40 = 53 ≥ 13 · 4; 14 batches would need 56 of 54"
    visits = np.zeros(100, dtype=int)
    for epoch in range(60):
        made.set_epoch(epoch)
        visits[[draw.row for batch in made for draw in batch]] += 1
        if epoch == 9:
            assert visits.min() >= 1, "5 epochs at best, where the one of 53 that is left over is never of the 60"
    # Of the 60, 13 take part in each of 60 epochs; in every epoch one of 53 is left out, so that about 1.1 is missing from each case.
    assert visits.sum() == 52 * 60 and visits[:60].min() >= 8 and visits[:60].max() <= 13 and visits[60:].min() >= 54


def test_epochs_of_less_luck_have_smaller_batches_not_fewer():
    """200 cases in five classes, each described by one of its four captions: 20 captions in batches of 19."""
    data, rows = data_of([[4 * (i % 5) + j for j in range(4)] for i in range(200)]), np.arange(200)
    made = EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=19, seed=5)
    sizes = []
    for epoch in range(30):
        made.set_epoch(epoch)
        sizes.append([len(batch) for batch in made])
    assert {len(s) for s in sizes} == {len(made)} and sizes[0] == [19] * len(made)
    assert min(map(min, sizes)) in (16, 17, 18), "some epoch of the thirty was less favourable"


def test_fewer_captions_than_a_batch():
    data, rows = data_of([[i % 10] for i in range(50)]), np.arange(50)
    with pytest.raises(
        ConfigError, match=r"data.batch_size: 11 makes batches of 11 cases, but only 10 distinct .* 50 .* Use 10 or less, or"
    ):
        len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=11, seed=0))
    with pytest.raises(ConfigError, match=r"data.batch_size: 4 on 3 processes makes batches of 12 .* Use 3 or less per process, or"):
        len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=4, seed=0, world_size=3))
    with pytest.raises(ConfigError, match="Use fewer processes"):
        len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=1, seed=0, world_size=11))
    assert len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=10, seed=0)) == 5


def test_samplers_that_break_their_promises():
    class Short(RandomSampler):
        def order(self, labels, epoch, seed):
            return super().order(labels, epoch, seed)[1:]

    class Twice(OnlyOrder):
        distinct = "caption"

    class Unknown(RandomSampler):
        distinct = "image"

    data, rows = data_of([[i] for i in range(10)]), np.arange(10)
    with pytest.raises(BuildError, match="Short.order: 9 positions for 10 cases"):
        epoch_of(data, rows, Short(), batch_size=2)
    with pytest.raises(BuildError, match="Twice.order: .* every case once"):
        epoch_of(data, rows, Twice(), batch_size=2)
    with pytest.raises(BuildError, match="Unknown.distinct: 'image'"):
        epoch_of(data, rows, Unknown(), batch_size=2)
