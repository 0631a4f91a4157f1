"""What a frozen tower makes of the images of a dataset; every image that is new to the store is encoded once."""

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
from clipzoo.models.base import evaluating
from clipzoo.runtime import distributed
from clipzoo.runtime.progress import shown

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.models.base import Tower


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
) -> np.ndarray:
    """What a tower makes of cases of a dataset; every image that is new to the store is encoded once. All processes share the work.

    Args:
        tower: On ``device``; used in evaluation mode.
        data: The cases.
        rows: ``[N]`` rows of ``data``.
        store: Where to look, and where to keep what is new.
        device: Of the tower.
        batch_size: Images that are encoded together.
        num_workers: Processes that read images.
        progress: Given the number of images to encode, if there are any, it makes a context whose function is told how many are through.

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
        # In the dataset's order, whatever the parts of a fold: which images share a batch may change a last bit, and folds shall be alike.
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
    )
    elsewhere = []
    with saving(shelf), closing(loader), progress(len(new)) if progress and new else nullcontext() as through:
        for done, (cases, features) in enumerate(_encoded(tower, loader, device), start=1):
            if shelf is None:
                elsewhere.append((cases, features))
            else:
                shelf.add([digest_of[case] for case in cases], features)
            if through is not None:
                through(min(done * batch_size * distributed.world_size(), len(new)))
        for cases, features in itertools.chain.from_iterable(distributed.gathered(elsewhere)):
            if shelf is not None:
                shelf.add([digest_of[case] for case in cases], features)
    return distributed.from_main(lambda: shelf.take([digest_of[int(row)] for row in rows]))


def features_of_cases(
    tower: Tower, data: Dataset, rows: np.ndarray, store: FeatureStore, *, what: str, console: Console, log: Logger, **options: object
) -> tuple[np.ndarray, int]:
    """The same with progress, as a table of the whole dataset.

    Args:
        tower: As the next three, of ``dataset_features``.
        data: See there.
        rows: See there.
        store: See there.
        what: Is being done, in words.
        console: Where a progress bar goes.
        log: Where lines go, if ``console`` is no terminal.
        options: ``device``, ``batch_size`` and ``num_workers`` of ``dataset_features``.

    Returns:
        ``[N, F]`` float32 of all N cases, 0 in the rows of others; and how many images were encoded now.
    """
    new = 0

    def progress(total: int) -> AbstractContextManager:
        nonlocal new
        new = total
        return shown(what, total, console, log)

    found = dataset_features(tower, data, rows, store, progress=progress, **options)
    table = np.zeros((len(data), found.shape[1]), dtype=np.float32)
    table[rows] = found
    return table, new


@torch.inference_mode()
def _encoded(tower: Tower, loader: Loader, device: torch.device) -> Iterator[tuple[list[int], np.ndarray]]:
    """Cases and ``[B, F]`` features of every batch, in full precision."""
    for batch in loader:
        with evaluating(tower):
            yield batch.cases.tolist(), tower(batch.images.to(device, non_blocking=True)).float().cpu().numpy()
