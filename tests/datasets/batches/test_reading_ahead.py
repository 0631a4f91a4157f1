"""Workers that are ahead of the epoch: every pass has exactly the batches of its epoch, wherever it starts and whatever happened before."""

import random
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from tiny import data_of

from clipzoo.datasets.batches.epochs import EpochBatches
from clipzoo.datasets.batches.samplers import DistinctCaptionSampler, RandomSampler
from clipzoo.datasets.batches.workers import Loader
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import BuildError


class Draws(torch.utils.data.Dataset):
    """A draw is its own sample; notes what was read in this process."""

    def __init__(self, log=None):
        self.log = log

    def __getitem__(self, draw):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{draw.row}\n")
        return tuple(draw)


class Fails(Exception):
    pass


class Watch:
    """Fails at the ``fails``-th batch, if any."""

    def __init__(self):
        self.fails, self.waited = 0, 0

    def waits(self, seconds):
        if seconds == 0:
            self.waited += 1
            if self.waited == self.fails:
                raise Fails

    def note(self, line):
        pass


def batches_of(rng, seed):
    """Batches of a random size, with or without distinct captions, of one process of one or two."""
    cases, processes = rng.randrange(6, 24), rng.choice([1, 1, 2])
    data = data_of([[case % 7, 7 + case] if rng.random() < 0.5 else [case % 7] for case in range(cases)])
    sampler = RandomSampler() if seed % 2 else DistinctCaptionSampler()
    size = rng.randrange(2, 4)
    return lambda: EpochBatches(data, np.arange(cases), sampler, batch_size=size, seed=seed, rank=processes - 1, world_size=processes)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_every_pass_has_the_batches_of_its_epoch(num_workers):
    for seed in range(8):
        rng = random.Random(seed)
        made = batches_of(rng, seed)
        batches, epoch, start, total = made(), 0, 0, rng.randrange(1, 6)
        with closing(Loader(Draws(), list, num_workers, name="draws", batch_sampler=batches)) as loader:
            for _ in range(10):
                batches.set_epoch(epoch, start, end=rng.choice([total, 0, epoch + 2]))
                alone = made()
                alone.set_epoch(epoch, start)
                expected, found, loader.watch = [list(map(tuple, batch)) for batch in alone], [], Watch()
                happens = rng.choice(["all", "all", "break", "fails", "close"])
                if happens == "close":
                    loader.close()
                elif happens == "break":
                    for batch, _ in zip(loader, range(rng.randrange(len(expected))), strict=False):
                        found.append(batch)
                else:
                    loader.watch.fails = rng.randrange(1, len(expected) + 2) if happens == "fails" else 0
                    try:
                        found.extend(loader)
                    except Fails:
                        happens = "failed"
                assert found == (expected if happens in ("all", "fails") else expected[: len(found)])
                if found == expected:
                    epoch, start = (epoch + 1) % total, 0
                elif rng.random() < 0.5:
                    start += len(found)


class FailsAt(Draws):
    """A case that cannot be read."""

    def __getitem__(self, draw):
        if draw.row == 3:
            raise OSError("unreadable")
        return super().__getitem__(draw)


def test_a_batch_that_could_not_be_read_is_not_left_out_the_next_time():
    data = data_of([[case] for case in range(8)])
    batches = EpochBatches(data, np.arange(8), RandomSampler(), batch_size=2, seed=1)
    before = next(number for number, batch in enumerate(batches) if 3 in [draw.row for draw in batch])
    assert before > 0
    with closing(Loader(FailsAt(), list, 1, name="draws", batch_sampler=batches)) as loader:
        for start in (0, before, before, 0):
            batches.set_epoch(0, start, end=2)
            passed, found = iter(loader), []
            with pytest.raises(OSError, match="unreadable"):
                while True:
                    found.append(next(passed))
            assert len(found) == before - start


def test_a_training_reads_ahead_up_to_its_last_epoch(config_of, tmp_path, quiet, monkeypatch):
    found, original = [], EpochBatches.set_epoch

    def set_epoch(batches, epoch, start=0, end=0):
        found.append((epoch, end))
        original(batches, epoch, start, end)

    monkeypatch.setattr(EpochBatches, "set_epoch", set_epoch)
    CrossValidation(config_of(train={"epochs": 3}), tmp_path / "run", console=quiet).train(fold=1)
    assert found == [(0, 3), (1, 3), (2, 3)]


def read_in(log, number, seconds=5.0):
    """Waits until ``number`` cases were read, and half a second more; what was read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(log.read_text().split()) < number:
        time.sleep(0.02)
    time.sleep(0.5)
    return len(log.read_text().split())


def test_workers_begin_with_the_next_epoch_but_not_with_one_after_the_end(tmp_path):
    batches = EpochBatches(data_of([[case] for case in range(6)]), np.arange(6), RandomSampler(), batch_size=2, seed=0)
    log = tmp_path / "read"
    with closing(Loader(Draws(log), list, 1, name="draws", batch_sampler=batches)) as loader:
        for epoch, read in enumerate([6 + 4, 12 + 4, 18]):  # a worker is two batches ahead
            batches.set_epoch(epoch, end=3)
            assert len(list(loader)) == 3
            assert read_in(log, read) == read
        batches.set_epoch(3)
        assert len(list(loader)) == 3 and read_in(log, 24) == 24, "an epoch of its own"


def test_an_iterator_ends_when_the_loader_is_started_again_or_closed():
    batches = EpochBatches(data_of([[case] for case in range(6)]), np.arange(6), RandomSampler(), batch_size=2, seed=0)
    with closing(Loader(Draws(), list, 1, name="draws", batch_sampler=batches)) as loader:
        for restart in (lambda: next(iter(loader)), loader.close):
            first = iter(loader)
            next(first)
            restart()
            with pytest.raises(BuildError, match="the loader of the draws was closed or started again; this pass of it has ended"):
                next(first)
    with closing(Loader(Draws(), list, 0, name="draws", batch_sampler=batches)) as loader:
        assert all(one == other for one, other in zip(loader, loader, strict=True)), "without workers, passes are independent"
