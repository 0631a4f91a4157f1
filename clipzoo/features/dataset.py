"""Features that a frozen tower computes from the images of a dataset; only images that are not in the store are encoded, once each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipzoo.datasets.batches.loader import eval_loader
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.features.store import FeatureStore, Shelf, saving
from clipzoo.models.modules import evaluating
from clipzoo.runtime import distributed
from clipzoo.runtime.progress import shown

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.datasets.image_cache.cache import ImageCache
    from clipzoo.models.tower import Tower


Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def dataset_features(
    tower: Tower,
    data: Dataset,
    rows: np.ndarray,
    store: FeatureStore,
    *,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    progress: Progress | None = None,
    cache: ImageCache | None = None,
) -> np.ndarray:
    """Features of cases of a dataset; only images that are not in the store are encoded, once each. All processes share the work.

    Args:
        tower: Image tower on ``device``; used in evaluation mode.
        data: Dataset with the cases.
        rows: ``[N]`` rows of ``data``.
        store: Store to read cached features from and to add new ones to.
        device: Device of the tower.
        batch_size: Images per batch.
        num_workers: Worker processes that read images.
        progress: Function that takes the number of images to encode and returns a context manager, whose value is called with the number of
            images done; not called if there is nothing to encode.
        cache: Cache of decoded images; it changes no feature.

    Returns:
        ``[N, F]`` float32, on every process.

    Raises:
        DataError: An image cannot be read; the message names it.
    """
    shelf: Shelf | None = None  # of the main process

    def plan() -> tuple[dict[int, str], list[int]]:
        nonlocal shelf
        shelf = store.shelf(tower, tower.preprocessing)
        digests = {int(row): data.content_digest(int(row)) for row in rows}
        # In the dataset's order, whatever the parts of a fold: which images share a batch may change the last bit, and folds should agree.
        return digests, list({digests[row]: row for row in sorted(digests) if digests[row] not in shelf.rows}.values())

    digest_of, new = distributed.from_main(plan)
    loader = eval_loader(
        data,
        np.array(new, dtype=np.int64),
        evaluation_transform(tower.preprocessing),
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        cache=cache,
    )
    elsewhere = []
    with saving(shelf), closing(loader), progress(len(new)) if progress and new else nullcontext() as report:
        for done, (cases, features) in enumerate(_encoded(tower, loader, device), start=1):
            if shelf is None:
                elsewhere.append((cases, features))
            else:
                shelf.add([digest_of[case] for case in cases], features)
            if report is not None:
                report(min(done * batch_size * distributed.world_size(), len(new)))
        for cases, features in itertools.chain.from_iterable(distributed.gathered(elsewhere)):
            if shelf is not None:
                shelf.add([digest_of[case] for case in cases], features)
    return distributed.from_main(lambda: shelf.take([digest_of[int(row)] for row in rows]))


def features_of_cases(
    tower: Tower, data: Dataset, rows: np.ndarray, store: FeatureStore, *, what: str, console: Console, log: Logger, **options: object
) -> tuple[np.ndarray, int]:
    """``dataset_features`` with a progress bar, as a table of the whole dataset; of several images of a case, the mean.

    Args:
        tower: Image tower.
        data: Dataset with the cases.
        rows: ``[n]`` rows of ``data`` to compute features for.
        store: Store to read cached features from and to add new ones to.
        what: Description of the work, for the progress bar.
        console: Console for the progress bar.
        log: Logger for progress lines, if ``console`` is not a terminal.
        options: ``device``, ``batch_size``, ``num_workers`` and ``cache`` of ``dataset_features``.

    Returns:
        ``[N, F]`` float32 for all N cases, 0 in rows that are not in ``rows``; and the number of images that had to be encoded.
    """
    new = 0

    def progress(total: int) -> AbstractContextManager:
        nonlocal new
        new = total
        return shown(what, total, console, log)

    images_of = [list(data.image_rows(int(row))) for row in rows]
    wanted = np.array([row for images in images_of for row in images], dtype=np.int64)
    found = dataset_features(tower, data.single_images, wanted, store, progress=progress, **options)
    table = np.zeros((len(data), found.shape[1]), dtype=np.float32)
    if len(rows):
        counts = [len(images) for images in images_of]
        sums = np.add.reduceat(found, np.cumsum([0, *counts[:-1]]), axis=0)
        table[rows] = sums / np.array(counts, dtype=np.float32)[:, None]
    return table, new


@torch.inference_mode()
def _encoded(tower: Tower, loader: Loader, device: torch.device) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the cases and ``[B, F]`` features of every batch, in full precision."""
    for batch in loader:
        with evaluating(tower):
            yield batch.cases.tolist(), tower.averaged(batch.images.to(device, non_blocking=True)).float().cpu().numpy()
