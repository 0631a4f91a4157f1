"""From the draws of an epoch to batches: reading, transforming and putting together. Equal draws give equal batches, in any process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from clipzoo.datasets.augmentations.batched import Drawn
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.batches.epochs import Draw, EpochBatches
from clipzoo.datasets.batches.workers import TIMEOUT, Loader
from clipzoo.datasets.image_cache.cache import ImageCache
from clipzoo.datasets.transforms import FitThen
from clipzoo.errors import ClipzooError
from clipzoo.structures import Batch, Tokens


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
