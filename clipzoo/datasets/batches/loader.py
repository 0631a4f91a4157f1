"""Conversion of cases to batches. The content of a batch is a pure function of (seed, epoch, position), independent of the number of
processes, worker processes and restarts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from clipzoo.datasets.augmentations.batched import Drawn
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.batches import arrange
from clipzoo.datasets.batches.samplers import Sampler, generator
from clipzoo.datasets.batches.workers import TIMEOUT, Loader
from clipzoo.datasets.image_cache.cache import ImageCache
from clipzoo.datasets.transforms import FitThen
from clipzoo.errors import BuildError, ClipzooError, ConfigError
from clipzoo.structures import Batch, Tokens


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


class CaseReader(torch.utils.data.Dataset):
    """Reads and transforms the image of a ``Draw``, ``[3, H, W]``, or the images of its case, ``[V, 3, H, W]``.

    Args:
        dataset: Dataset with the cases.
        transform: Function from a PIL image to a ``[3, H, W]`` tensor, or ``Drawn``; uses torch's generator, which is seeded per case.
        most: Maximum number of images per case, drawn with the seed; ``None`` for all.
        cache: Cache of decoded images; it changes no tensor, and serves transforms that begin with a ``fit`` (``FitThen``).
    """

    def __init__(self, dataset: Dataset, transform: Callable, most: int | None = None, cache: ImageCache | None = None):
        self.dataset, self.transform, self.most = dataset, transform, most
        images = cache.images(dataset, transform.preprocessing) if cache is not None and isinstance(transform, FitThen) else None
        self.cached = images
        self._read, self._finish = (dataset.single_images.read_image, transform) if images is None else (images, transform.finish)

    def __getitem__(self, draw: Draw) -> tuple[int, torch.Tensor | Drawn, int] | ClipzooError:
        try:
            images = [self._read(row) for row in self._chosen(draw)]
        except ClipzooError as error:
            if torch.utils.data.get_worker_info() is None:
                raise
            return error  # ``Loader`` raises it: torch re-raises a worker's exception with all tracebacks in its message
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw.seed)  # torch.manual_seed would also record the call stack for an uninitialised GPU
            with _one_thread():
                tensors = [self._finish(image) for image in images]
        several = self.dataset.single_images is not self.dataset
        return draw.row, _joined(tensors, torch.stack) if several else tensors[0], draw.caption

    def after_batch(self) -> list[str]:
        """Called by ``Loader`` in the process that has read a batch; returns lines for the user."""
        return [] if self.cached is None else self.cached.after_batch()

    def _chosen(self, draw: Draw) -> Sequence[int]:
        rows = self.dataset.image_rows(draw.row)
        return rows if self.most is None or len(rows) <= self.most else random.Random(draw.seed).sample(rows, self.most)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker process: the sum of an image, as for its contrast, depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class FeatureReader(torch.utils.data.Dataset):
    """Looks up the cached features of the case of a ``Draw``; no image is read.

    Args:
        features_NF: ``[N, F]`` float32, one row per case of the dataset.
    """

    def __init__(self, features_NF: torch.Tensor):
        self.features_NF = features_NF

    def __getitem__(self, draw: Draw) -> tuple[int, torch.Tensor, int]:
        return draw.row, self.features_NF[draw.row], draw.caption


class Collate:
    """Builds a ``Batch`` with the distinct captions of its cases, trimmed; tokenisation happens earlier.

    Args:
        dataset: Dataset with cases and captions.
        tokens: The whole tokenised caption table; ``None`` for batches without text (evaluation, and models without a text tower).
        all_captions: Whether every batch contains the whole caption table, for losses that compare with all captions.
        of_features: Whether the samples are features instead of images.
        augment: Function applied to every batch; see ``BatchedAugmentation``.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokens: Tokens | None,
        *,
        all_captions: bool = False,
        of_features: bool = False,
        augment: Callable[[Batch], Batch] | None = None,
    ):
        self.dataset, self.tokens, self.all_captions, self.of_features, self.augment = dataset, tokens, all_captions, of_features, augment
        self.caption_labels = None if tokens is None else _caption_labels(dataset, len(tokens))

    def __call__(self, samples: Sequence[tuple[int, torch.Tensor, int] | ClipzooError]) -> Batch | ClipzooError:
        for sample in samples:
            if isinstance(sample, ClipzooError):
                return sample
        batch = self._batch(samples)
        return batch if self.augment is None else self.augment(batch)

    def _batch(self, samples: Sequence[tuple[int, torch.Tensor, int]]) -> Batch:
        rows = [row for row, _, _ in samples]
        values = [value for _, value, _ in samples]
        common: dict[str, torch.Tensor | None] = {"cases": torch.tensor(rows)}
        if self.of_features:
            common |= {"features": torch.stack(values), "images": torch.empty(len(rows), 0)}
        elif self.dataset.single_images is self.dataset:
            common |= _images(_joined(values, torch.stack))
        else:
            images = _joined(values, torch.cat)
            common |= {**_images(images), "num_images": torch.tensor([len(_images(value)["images"]) for value in values])}
        common |= {"labels": torch.from_numpy(self.dataset.labels_if_any[rows]), "findings": self._findings(rows)}
        if self.tokens is None:
            return Batch(**common)
        drawn = torch.tensor([caption for _, _, caption in samples])
        caption_ids = drawn[drawn >= 0].unique()  # a case without findings has no caption
        caption = torch.where(drawn >= 0, torch.searchsorted(caption_ids, drawn), -1)
        if self.all_captions:
            caption_ids, caption = torch.arange(len(self.tokens)), drawn
        described = [self.dataset.captions_of(row) for row in rows]
        positive_ids = torch.full((len(rows), max(1, *map(len, described))), -1)
        for i, ids in enumerate(described):
            positive_ids[i, : len(ids)] = torch.tensor(ids)
        return Batch(
            **common,
            text=self.tokens.take(caption_ids),
            caption=caption,
            caption_ids=caption_ids,
            caption_labels=self.caption_labels[caption_ids],
            positive_ids=positive_ids,
        )

    def _findings(self, rows: Sequence[int]) -> torch.Tensor | None:
        """See ``Batch.findings``."""
        return None if self.dataset.findings is None else torch.from_numpy(self.dataset.findings[rows]).float()


def _joined(values: Sequence[torch.Tensor | Drawn], join: Callable) -> torch.Tensor | Drawn:
    return Drawn(*map(join, zip(*values, strict=True))) if isinstance(values[0], Drawn) else join(values)


def _images(value: torch.Tensor | Drawn) -> dict[str, torch.Tensor]:
    """The attributes of a batch."""
    return {"images": value.pixels, "draws": value.numbers} if isinstance(value, Drawn) else {"images": value}


def _caption_labels(dataset: Dataset, num_captions: int) -> torch.Tensor:
    labels = torch.full((num_captions,), -1)
    for label, ids in enumerate(dataset.class_captions()):
        labels[torch.tensor(ids)] = label
    return labels


def train_loader(
    dataset: Dataset,
    batches: EpochBatches,
    transform: Callable,
    tokens: Tokens | None,
    *,
    all_captions: bool,
    num_workers: int,
    pin_memory: bool,
    augment: Callable[[Batch], Batch] | None = None,
    features: torch.Tensor | None = None,
    timeout: float = TIMEOUT,
    cache: ImageCache | None = None,
) -> Loader:
    """A loader of training batches; call ``batches.set_epoch`` before each epoch.

    Args:
        transform: See ``CaseReader``.
        augment: Function applied to every batch by the process that has read it: a ``BatchedAugmentation`` whose ``transform`` is used.
        features: ``[N, F]`` features of all cases, used instead of images; ``transform`` and ``num_workers`` are then ignored.
        timeout: Maximum seconds that worker processes may take per batch.
        cache: See ``CaseReader``.
    """
    collate = Collate(dataset, tokens, all_captions=all_captions, of_features=features is not None, augment=augment)
    options = {"pin_memory": pin_memory, "name": "training cases", "timeout": timeout}
    return _loader(_reader(dataset, transform, features, cache, dataset.most_images), batches, collate, num_workers, **options)


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
    features: torch.Tensor | None = None,
    timeout: float = TIMEOUT,
    name: str = "images",
    cache: ImageCache | None = None,
) -> Loader:
    """A loader of ``rows`` in order; with several processes each reads its share, and no case is read twice.

    Args:
        features: See ``train_loader``.
        timeout: See ``train_loader``.
        name: Description of ``rows`` for messages.
        cache: See ``CaseReader``.
    """
    draws = [Draw(int(row), 0) for row in rows[rank::world_size]]
    batches = [draws[i : i + batch_size] for i in range(0, len(draws), batch_size)]
    collate = Collate(dataset, None, of_features=features is not None)
    options = {"pin_memory": pin_memory, "name": name, "timeout": timeout}
    return _loader(_reader(dataset, transform, features, cache), batches, collate, num_workers, **options)


def _reader(
    dataset: Dataset, transform: Callable, features: torch.Tensor | None, cache: ImageCache | None, most: int | None = None
) -> CaseReader | FeatureReader:
    return CaseReader(dataset, transform, most, cache) if features is None else FeatureReader(features)


def _loader(reader: CaseReader | FeatureReader, batches: object, collate: Collate, num_workers: int, **options: object) -> Loader:
    num_workers = 0 if isinstance(reader, FeatureReader) else num_workers  # a look-up is faster than a process
    return Loader(reader, collate, num_workers, batch_sampler=batches, **options)
