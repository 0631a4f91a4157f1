"""The order of an epoch as batches of draws: a pure function of (seed, epoch, position), independent of the number of processes, worker
processes and restarts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.batches import arrange
from clipzoo.datasets.batches.samplers import Sampler, generator
from clipzoo.errors import BuildError, ConfigError


class Draw(NamedTuple):
    """One drawn case of an epoch.

    Attributes:
        row: Row in the dataset.
        seed: Seed of the augmentation and the caption choice; differs between epochs and between two draws of a case.
        caption: Id of the drawn caption; -1 for none (evaluation).
    """

    row: int
    seed: int
    caption: int = -1


class EpochBatches:
    """The batches of an epoch as lists of ``Draw``, for use as a batch sampler of ``DataLoader``.

    One order for all processes is drawn from the shared seed and cut into joint batches of ``world_size * batch_size`` cases, of which
    process r takes every ``world_size``-th: the same step of all processes together contains what a single process with the joint batch
    would see, and all batches have the same size. No case, and if the sampler requires it no caption, is repeated in a joint batch (see
    ``Sampler``). Cases of the last batch that do not divide evenly are dropped (at most ``world_size - 1`` per epoch, different ones in the
    next). A last batch with a single case per process is dropped, as batch normalisation cannot train on it, unless it is the only batch.

    Args:
        dataset: Dataset with cases and captions.
        rows: Rows of the training part in the dataset.
        sampler: An entry of SAMPLERS.
        batch_size: Cases per batch and per process.
        seed: Seed of order, captions and augmentation.
        rank: Rank of this process.
        world_size: Number of processes.

    Raises:
        BuildError: ``sampler.distinct`` is neither ``'case'`` nor ``'caption'``.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: np.ndarray,
        sampler: Sampler,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.dataset, self.rows, self.sampler = dataset, rows, sampler
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.epoch, self.start, self.end = 0, 0, 1
        self.distinct = getattr(sampler, "distinct", "case")
        if self.distinct not in ("case", "caption"):
            raise BuildError(f"{type(sampler).__name__}.distinct: {self.distinct!r} is neither 'case' nor 'caption'")

    def set_epoch(self, epoch: int, start: int = 0, end: int = 0) -> None:
        """Go to ``epoch``, counted from 0, skipping its first ``start`` batches (consumed before a restart).

        Args:
            epoch: The epoch.
            start: Number of batches to skip.
            end: Epoch before which worker processes may read ahead: those that have read this epoch begin with the next one.
        """
        self.epoch, self.start, self.end = epoch, start, max(end, epoch + 1)

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and number of the next batch."""
        return self.epoch, self.start

    def __len__(self) -> int:
        """Number of batches per epoch, the same in all epochs.

        Raises:
            ConfigError: The batches cannot hold distinct captions.
        """
        if self.distinct == "caption":
            return self._batches_of_captions
        cases = len(self.rows) // self.world_size
        batches, rest = divmod(cases, self.batch_size)
        return batches + (rest > 1 or (rest == 1 and batches == 0))

    @property
    def smallest(self) -> int:
        """The smallest possible number of cases in a batch of one process: 1, or 2 for any larger ``batch_size``."""
        return 1 if self.batch_size == 1 or len(self.rows) // self.world_size == 1 else 2

    @property
    def joint_size(self) -> int:
        """Cases per joint batch of all processes."""
        return self.batch_size * self.world_size

    @property
    def cases_per_epoch(self) -> int:
        """Draws per epoch of all processes. With distinct captions an epoch may have slightly fewer."""
        return min(len(self) * self.joint_size, len(self.rows) // self.world_size * self.world_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        """The batches of the epoch, and of those up to ``end``."""
        starts = [self.start, *[0] * (self.end - self.epoch - 1)]
        return itertools.chain.from_iterable(map(self._epoch, range(self.epoch, self.end), starts))

    def _epoch(self, epoch: int, start: int) -> Iterator[list[Draw]]:
        positions, seeds, sizes = self._arranged(epoch)
        ends = np.cumsum(sizes)
        for batch in range(start, len(self)):
            first = ends[batch] - sizes[batch]
            mine = slice(first + self.rank, first + sizes[batch] // self.world_size * self.world_size, self.world_size)
            yield [
                Draw(row, s, self._caption(row, s))
                for row, s in zip(self.rows[positions[mine]].tolist(), seeds[mine].tolist(), strict=True)
            ]

    def _arranged(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions and seeds of the epoch's draws for all processes, joint batch by joint batch, and the sizes of the joint batches."""
        rng = generator(self.seed, epoch, 0, 0)
        positions, seeds = self._drawn(epoch)
        if self.distinct == "case":
            positions = arrange.without_repeats(positions, self.joint_size, len(self.rows), rng)
            return positions, seeds, arrange.cut(len(positions), self.joint_size)
        captions = self._captions(positions, seeds)
        if arrange.most_batches(captions, min(self.batch_size, 2) * self.world_size) < len(self):
            # With very few cases, so few captions may be drawn that a process would get fewer than two. The first epoch's are sufficient.
            positions, seeds = self._drawn(0)
            captions = self._captions(positions, seeds)
        ranks = generator(self.seed).permutation(len(self.rows))[positions]
        places = arrange.fitting(captions, ranks, len(self), self.joint_size, epoch)
        sizes = arrange.share_out(len(places), len(self))
        places = places[arrange.deal(captions[places], sizes, rng)]
        return positions[places], seeds[places], sizes

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The sampler's order of ``epoch``, and a seed for every position in it."""
        positions = np.asarray(self.sampler.order(self.dataset.labels_if_any[self.rows], epoch, self.seed))
        name = type(self.sampler).__name__
        if len(positions) != len(self.rows):
            raise BuildError(f"{name}.order: {len(positions)} positions for {len(self.rows)} cases; the numbers must be equal")
        if self.distinct == "caption" and len(np.unique(positions)) < len(positions):
            raise BuildError(f"{name}.order: a sampler of distinct captions must return every case once")
        return positions, np.random.SeedSequence([self.seed, epoch]).generate_state(len(positions), dtype=np.uint64) >> np.uint64(1)

    def _caption(self, row: int, seed: int) -> int:
        ids = self.dataset.captions_of(row)
        if not ids:  # no finding
            return -1
        return ids[0] if len(ids) == 1 else random.Random(seed).choice(ids)

    def _captions(self, positions: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        drawn = zip(self.rows[positions].tolist(), seeds.tolist(), strict=True)
        return np.array([self._caption(row, seed) for row, seed in drawn], dtype=np.int64)

    @cached_property
    def _batches_of_captions(self) -> int:
        keys = self._captions(*self._drawn(0))
        batches = arrange.most_batches(keys, self.joint_size)
        if not batches:
            raise ConfigError(self._too_few_captions(len(np.unique(keys))))
        return batches

    def _too_few_captions(self, distinct: int) -> str:
        several = self.world_size > 1
        fits = distinct // self.world_size
        return (
            f"data.batch_size: {self.batch_size}{f' on {self.world_size} processes' * several} makes batches of {self.joint_size} cases, "
            f"but only {distinct} distinct captions were drawn for the {len(self.rows)} training cases, "
            f"and {type(self.sampler).__name__} does not repeat a caption in a batch. "
            + (f"Use {fits} or less{' per process' * several}, or " if fits > 1 else "Use fewer processes, or " if several else "Use ")
            + "RandomSampler with a loss that identifies positives by caption"
        )
