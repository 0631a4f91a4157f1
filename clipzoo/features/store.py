"""Features of image towers, cached on disk: a tower encodes every image once, for all runs.

The key of a row covers everything that it depends on: the tower (class, architecture, weights, code), how images are read and prepared, the
type of device, the versions of the libraries that compute it, and the bytes of the image's file. If any of them changes, so does the key: a
row is never out of date.

Features are the tower's output before any projection or normalisation, computed in full precision and without augmentation.

Legend: N images · F width of the tower's features.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.errors import DataError
from clipzoo.features.arrays import read_arrays, write_arrays
from clipzoo.features.cache_folder import NO_HOME, cache_folder, expanded
from clipzoo.features.digest import feature_digest
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from clipzoo.models.tower import Tower


FILE = "features.npz"
_KEY = re.compile("[!-~]+")  # digest of an image's bytes
_IMAGES_BETWEEN_SAVES = 5000  # at most this many are lost by an interruption


@dataclass(frozen=True)
class FeatureStore:
    """The cache of features, with a folder for every tower.

    Attributes:
        folder: Root folder; ``None`` keeps nothing.
        why: Reason that nothing is kept although it was requested; empty otherwise.
        note: Function called with a one-line message if a file is damaged or a folder is not writable; features are then computed again.
    """

    folder: Path | None
    why: str = ""
    note: Callable[[str], object] = warnings.warn

    @classmethod
    def of(cls, where: str | os.PathLike | None, note: Callable[[str], object] = warnings.warn) -> FeatureStore:
        """The store for a value of ``runtime.feature_cache``; ``'auto'`` is ``features`` in ``cache_folder``."""
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
        """The features of the tower or model with this ``digest``, of the given width or, with ``None``, of any."""
        return Shelf(None if self.folder is None else self.folder / digest, width, self.note)


class Shelf:
    """The features of one tower, by digest of the image.

    Args:
        folder: Folder of the tower; ``None`` keeps features in memory only.
        width: F; ``None`` if unknown until the first feature is computed.
        note: See ``FeatureStore``.
    """

    def __init__(self, folder: Path | None, width: int | None, note: Callable[[str], object] = warnings.warn):
        self.folder, self.width, self.note = folder, width, note
        self.rows: dict[str, np.ndarray] = self._read()
        self.unsaved = 0

    def add(self, digests: Sequence[str], features: np.ndarray) -> None:
        """Add ``[n, F]`` features, and save them from time to time."""
        self.rows.update(zip(digests, features.astype(np.float32), strict=True))
        self.unsaved += len(digests)
        if self.unsaved >= _IMAGES_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Save new features atomically, together with those that another process has saved in the meantime.

        If the disk is full or not writable, the features are not cached, but the run goes on.
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
        """``[n, F]`` features of images that have been added."""
        return np.stack([self.rows[digest] for digest in digests]) if digests else np.zeros((0, self.width or 0), dtype=np.float32)

    def _read(self) -> dict[str, np.ndarray]:
        """The features on disk; empty if the file is damaged, since they are then computed again."""
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
            DataError: Keys and features do not match each other, or were not written by ``save``.
        """
        fitting = keys.ndim == 1 and features.ndim == 2 and len(keys) == len(features) and self.width in (None, features.shape[1])
        names = [key.decode("ascii", "replace") for key in keys.tolist()] if fitting else []
        if not fitting or len(set(names)) != len(names) or not all(map(_KEY.fullmatch, names)) or not np.isfinite(features).all():
            raise DataError(f"{self.folder / FILE}: not the features of this tower")
        return dict(zip(names, features, strict=True))


@contextmanager
def saving(shelf: Shelf | None) -> Iterator[None]:
    """Save the shelf on exit, even after an interruption."""
    try:
        yield
    finally:
        if shelf is not None:
            shelf.save()
