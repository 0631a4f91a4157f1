"""From cases to batches. What a batch holds is a pure function of (seed, epoch, position): worker processes, restarts and the number of
processes change nothing.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from clipzoo.datasets.base import Dataset
from clipzoo.structures import Batch, Tokens


class Draw(NamedTuple):
    """One case of an epoch.

    Attributes:
        row: Row in the dataset.
        seed: Seeds the augmentation and the choice of a caption; differs between epochs and between two draws of one case.
    """

    row: int
    seed: int


class EpochBatches:
    """The batches of an epoch as lists of ``Draw``; a batch sampler for ``DataLoader``.

    One order is drawn for all processes from the shared seed; process r takes every ``world_size``-th case of it, so that the same step
    of all processes together holds what one process with the joint batch would hold. Cases that do not divide evenly are left out (at
    most ``world_size - 1`` of an epoch, others in the next). A last batch of a single case is left out, batch normalisation cannot train
    on it; the only batch never is.

    Args:
        rows: Rows of the training part in the dataset.
        labels: Class of each of them, for weighted sampling.
        order: ``order(labels, epoch, seed) -> positions``, what a sampler offers.
        batch_size: Cases per batch and process.
        seed: Of order and augmentation.
        rank: Of this process.
        world_size: Processes.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        order: Callable[[np.ndarray, int, int], np.ndarray],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.rows, self.labels, self.order = rows, labels, order
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to ``epoch``, counted from 0, and leave out its first ``start`` batches (they were consumed before a restart)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        cases = len(self.rows) // self.world_size
        batches, rest = divmod(cases, self.batch_size)
        return batches + (rest > 1 or (rest == 1 and batches == 0))

    def draws(self) -> list[Draw]:
        """The cases of this process in this epoch, in order."""
        positions = np.asarray(self.order(self.labels, self.epoch, self.seed))
        seeds = np.random.SeedSequence([self.seed, self.epoch]).generate_state(len(positions), dtype=np.uint64) >> np.uint64(1)
        usable = len(positions) // self.world_size * self.world_size
        mine = slice(self.rank, usable, self.world_size)
        return [Draw(int(self.rows[p]), int(s)) for p, s in zip(positions[mine], seeds[mine], strict=True)]

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = self.draws()
        for batch in range(self.start, len(self)):
            yield draws[batch * self.batch_size : (batch + 1) * self.batch_size]


class CaseReader(torch.utils.data.Dataset):
    """Reads and transforms the image of a ``Draw`` and draws one of its captions.

    Args:
        dataset: The cases.
        transform: PIL image to ``[3, H, W]`` tensor; it draws from torch's generator, which is seeded per case.
        with_captions: Draw a caption id per case (training).
    """

    def __init__(self, dataset: Dataset, transform: Callable, *, with_captions: bool):
        self.dataset, self.transform, self.with_captions = dataset, transform, with_captions

    def __getitem__(self, draw: Draw) -> tuple[int, torch.Tensor, int]:
        image = self.dataset.read_image(draw.row)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw.seed)  # torch.manual_seed notes a call, with its stack, for a GPU it has not met
            tensor = self.transform(image)
        caption = random.Random(draw.seed).choice(self.dataset.captions_of(draw.row)) if self.with_captions else -1
        return draw.row, tensor, caption


class Collate:
    """Makes a ``Batch``: the distinct captions of its cases, trimmed; nothing is tokenised here.

    Args:
        dataset: The cases and their captions.
        tokens: The whole caption table, tokenised; ``None`` makes batches without text (evaluation).
        all_captions: Every batch carries the whole table, for losses that compare with all captions.
    """

    def __init__(self, dataset: Dataset, tokens: Tokens | None, *, all_captions: bool = False):
        self.dataset, self.tokens, self.all_captions = dataset, tokens, all_captions
        self.caption_labels = None if tokens is None else _caption_labels(dataset, len(tokens))

    def __call__(self, samples: Sequence[tuple[int, torch.Tensor, int]]) -> Batch:
        rows = [row for row, _, _ in samples]
        images = torch.stack([image for _, image, _ in samples])
        labels = torch.from_numpy(self.dataset.labels[rows])
        if self.tokens is None:
            return Batch(images=images, labels=labels, cases=torch.tensor(rows))
        drawn = torch.tensor([caption for _, _, caption in samples])
        caption_ids, caption = drawn.unique(return_inverse=True)
        if self.all_captions:
            caption_ids, caption = torch.arange(len(self.tokens)), drawn
        described = [self.dataset.captions_of(row) for row in rows]
        positive_ids = torch.full((len(rows), max(map(len, described))), -1)
        for i, ids in enumerate(described):
            positive_ids[i, : len(ids)] = torch.tensor(ids)
        return Batch(
            images=images,
            labels=labels,
            cases=torch.tensor(rows),
            text=self.tokens.take(caption_ids),
            caption=caption,
            caption_ids=caption_ids,
            caption_labels=self.caption_labels[caption_ids],
            positive_ids=positive_ids,
        )


def _caption_labels(dataset: Dataset, num_captions: int) -> torch.Tensor:
    labels = torch.full((num_captions,), -1)
    for label, ids in enumerate(dataset.class_captions()):
        labels[torch.tensor(ids)] = label
    return labels


def train_loader(
    dataset: Dataset,
    batches: EpochBatches,
    transform: Callable,
    tokens: Tokens,
    *,
    all_captions: bool,
    num_workers: int,
    pin_memory: bool,
) -> DataLoader:
    """A loader of training batches; call ``batches.set_epoch`` before each pass."""
    reader = CaseReader(dataset, transform, with_captions=True)
    return _loader(reader, batches, Collate(dataset, tokens, all_captions=all_captions), num_workers, pin_memory)


def eval_loader(
    dataset: Dataset,
    rows: np.ndarray,
    transform: Callable,
    *,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader of ``rows`` in order; with several processes each reads its share, and no case is read twice."""
    draws = [Draw(int(row), 0) for row in rows[rank::world_size]]
    batches = [draws[i : i + batch_size] for i in range(0, len(draws), batch_size)]
    return _loader(CaseReader(dataset, transform, with_captions=False), batches, Collate(dataset, None), num_workers, pin_memory)


def _loader(reader: CaseReader, batches: object, collate: Collate, num_workers: int, pin_memory: bool) -> DataLoader:
    return DataLoader(
        reader,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=_quiet_worker,
        generator=torch.Generator(),  # its own, so that loading draws nothing from the run's generator
    )


def _quiet_worker(_: int) -> None:
    """Leave Ctrl-C and SIGTERM to the training process, which ends its workers: a worker killed with it would keep it from saving."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "setpgrp"):  # torchrun and timeout(1) signal the whole process group
        os.setpgrp()
