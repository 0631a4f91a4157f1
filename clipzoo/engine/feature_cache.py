"""Features of an image tower, kept on disk: an image that a tower has seen once is not encoded again, whichever run asks.

A row is found by what makes it: the tower (kind, architecture, weights, code), how images are read and prepared, the kind of device, the
versions of the libraries that compute it, and the bytes of the image's file. Where any of them differs there is no row, so a row cannot be
out of date.

Features are computed in full precision and without augmentation: what a tower makes of an image before any projection or normalisation.

Legend: N images · F width of the tower's features · D width of what the model makes of them.
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipzoo.datasets.copies import file_digest
from clipzoo.datasets.loader import eval_loader
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine import distributed
from clipzoo.engine.arrays import read_arrays, write_arrays
from clipzoo.engine.cache_folder import NO_HOME, cache_folder, expanded
from clipzoo.engine.digest import feature_digest
from clipzoo.engine.evaluation import evaluating
from clipzoo.engine.image_inputs import ImageReader, batches
from clipzoo.engine.progress import shown
from clipzoo.errors import DataError
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.workers import Loader
    from clipzoo.engine.loaded import LoadedModel
    from clipzoo.models.base import Tower

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]

FILE = "features.npz"
_KEY = re.compile("[!-~]+")  # digest of an image's bytes
_IMAGES_BETWEEN_SAVES = 5000  # what an interruption costs at most


@dataclass(frozen=True)
class FeatureStore:
    """Where features are kept, a folder for every tower.

    Attributes:
        folder: ``None`` keeps nothing.
        why: Nothing is kept, where that was not asked for; otherwise empty.
        note: Told, in a line, of a damaged file and of a folder that cannot be written to: features are computed again then.
    """

    folder: Path | None
    why: str = ""
    note: Callable[[str], object] = warnings.warn

    @classmethod
    def of(cls, where: str | os.PathLike | None, note: Callable[[str], object] = warnings.warn) -> FeatureStore:
        """The store that ``runtime.feature_cache`` means: ``'auto'`` is ``features`` in ``cache_folder``."""
        if where is None:
            return cls(None)
        folder = cache_folder() if where == "auto" else expanded(where)
        if folder is None:
            return cls(None, NO_HOME, note)
        return cls(folder / "features" if where == "auto" else folder, "", note)

    def shelf(self, tower: Tower, preprocessing: Preprocessing) -> Shelf:
        """The features of one tower."""
        return self.shelf_of(feature_digest(tower, preprocessing, on_device=True), tower.num_features)

    def shelf_of(self, digest: str, width: int | None) -> Shelf:
        """The features that ``digest`` stands for, ``width`` of them or any number."""
        return Shelf(None if self.folder is None else self.folder / digest, width, self.note)


class Shelf:
    """The features of one tower, by the digest of the image.

    Args:
        folder: Where they are kept; ``None`` for this process's memory alone.
        width: F; ``None`` if it is not known before there is a feature.
        note: As that of ``FeatureStore``.
    """

    def __init__(self, folder: Path | None, width: int | None, note: Callable[[str], object] = warnings.warn):
        self.folder, self.width, self.note = folder, width, note
        self.rows: dict[str, np.ndarray] = self._read()
        self.unsaved = 0

    def add(self, digests: Sequence[str], features: np.ndarray) -> None:
        """Put ``[n, F]`` features on the shelf, and on disk from time to time."""
        self.rows.update(zip(digests, features.astype(np.float32), strict=True))
        self.unsaved += len(digests)
        if self.unsaved >= _IMAGES_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Write what is new, whole or not at all; what another process has written in the meantime is kept.

        A disk that is full or may not be written costs the rows, not the run.
        """
        if self.folder is None or not self.unsaved:
            return
        self.rows = {**self._read(), **self.rows}
        sound = {key: row for key, row in self.rows.items() if np.isfinite(row).all()}
        if not sound:
            return
        try:
            write_arrays(self.folder / FILE, keys=np.array(list(sound), dtype="S"), features=np.stack(list(sound.values())))
        except DataError as error:
            self.note(f"features are not kept: {error}")
            self.folder = None
            return
        self.unsaved = 0

    def take(self, digests: Sequence[str]) -> np.ndarray:
        """``[n, F]`` features of images that are on the shelf."""
        return np.stack([self.rows[digest] for digest in digests]) if digests else np.zeros((0, self.width or 0), dtype=np.float32)

    def _read(self) -> dict[str, np.ndarray]:
        """What is on disk; nothing where it is damaged, for then it is computed again."""
        if self.folder is None or not os.path.lexists(self.folder / FILE):
            return {}
        try:
            content = read_arrays(self.folder / FILE, keys="S", features="f4")
            return self._rows(content["keys"], content["features"])
        except DataError as error:
            self.note(f"{error}; its features are computed again")
            return {}

    def _rows(self, keys: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
        """The features by key.

        Raises:
            DataError: The two do not go together, or are not what was written.
        """
        fitting = keys.ndim == 1 and features.ndim == 2 and len(keys) == len(features) and self.width in (None, features.shape[1])
        names = [key.decode("ascii", "replace") for key in keys.tolist()] if fitting else []
        if not fitting or len(set(names)) != len(names) or not all(map(_KEY.fullmatch, names)) or not np.isfinite(features).all():
            raise DataError(f"{self.folder / FILE}: not the features of this tower")
        return dict(zip(names, features, strict=True))


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
    with _saving(shelf), closing(loader), progress(len(new)) if progress and new else nullcontext() as through:
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


@contextmanager
def _saving(shelf: Shelf | None) -> Iterator[None]:
    """What is on the shelf is on disk afterwards, also if the work was interrupted."""
    try:
        yield
    finally:
        if shelf is not None:
            shelf.save()


@dataclass(frozen=True)
class EncodedFiles:
    """What a model makes of image files.

    Attributes:
        features: ``[N, D]`` float32 of length 1; NaN in the rows of files that cannot be read.
        failed: What is wrong with those, by row.
        digests: Of every file's bytes; empty where it cannot be read.
        num_cached: How many images were not encoded now: known already, or the same as another one.
    """

    features: np.ndarray
    failed: dict[int, str]
    digests: tuple[str, ...]
    num_cached: int


def encode_files(
    loaded: LoadedModel,
    paths: Sequence[str | os.PathLike],
    store: FeatureStore,
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: Callable[[int], object] | None = None,
) -> EncodedFiles:
    """Features of image files, each content encoded once; files that cannot be read are said and not raised.

    Args:
        loaded: What ``clipzoo.load`` returned.
        paths: N files.
        store: Where to look, and where to keep what is new.
        batch_size: Images that are encoded together.
        num_workers: Processes that read images.
        progress: Told how many of the N images are through, after each batch.

    Raises:
        BuildError: The model makes no features of images.
    """
    shelf, encode, finish = _steps(loaded, store)
    digests, failed = _digests(paths)
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest and digest not in shelf.rows:
            rows_of.setdefault(digest, []).append(row)
    new = list(rows_of)
    reader = ImageReader([Path(paths[rows_of[digest][0]]) for digest in new], loaded.preprocess)
    through = len(paths) - len(new)
    with _saving(shelf):
        for batch in batches(reader, batch_size, num_workers) if new else ():
            for place, problem in batch.failed.items():
                same = rows_of[new[place]]
                failed |= {row: problem.replace(os.fspath(paths[same[0]]), os.fspath(paths[row]), 1) for row in same}
            if batch.rows:
                shelf.add([new[place] for place in batch.rows], encode(batch.images).numpy())
            through += len(batch.rows) + len(batch.failed)
            if progress is not None:
                progress(through)
    found = [row for row in range(len(paths)) if row not in failed]
    made = finish(torch.from_numpy(shelf.take([digests[row] for row in found]))).numpy()
    features = np.full((len(paths), made.shape[1]), np.nan, dtype=np.float32)
    features[found] = made
    return EncodedFiles(features, failed, tuple(digests), len(paths) - len(new))


def _steps(
    loaded: LoadedModel, store: FeatureStore
) -> tuple[Shelf, Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]:
    """Where features of images are kept, what makes them, and what makes the model's own of them.

    A model that takes features of its image tower shares these with all others that have the tower; of another one its own are kept.
    """
    loaded.require_image_features()
    net = loaded.model
    if not net.takes_features:
        return store.shelf_of(loaded.digest_of(on_device=True), None), loaded.image_features, lambda kept: kept

    @torch.inference_mode()
    def encode(images: torch.Tensor) -> torch.Tensor:
        with evaluating(net):
            return net.image_encoder(images.to(loaded.device)).float().cpu()

    @torch.inference_mode()
    def finish(kept: torch.Tensor) -> torch.Tensor:
        with evaluating(net):
            return net.encode_image(None, kept.to(loaded.device)).float().cpu()

    return store.shelf(net.image_encoder, net.preprocessing), encode, finish


def _digests(paths: Sequence[str | os.PathLike]) -> tuple[list[str], dict[int, str]]:
    """Of every file's bytes, and what is wrong with the files that cannot be read."""
    digests, failed = [], {}
    for row, path in enumerate(paths):
        try:
            digests.append(file_digest(os.fspath(path)).hex())
        except DataError as error:
            digests.append("")
            failed[row] = str(error)
    return digests, failed
