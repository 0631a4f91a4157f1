"""Features of an image tower, kept on disk: an image that a tower has seen once is not encoded again, whichever run asks.

A row is found by what makes it: the tower (kind, architecture, weights, code), how images are read and prepared, the kind of device, the
versions of the libraries that compute it, and the bytes of the image's file. Where any of them differs there is no row, so a row cannot be
out of date.

Features are computed in full precision and without augmentation: what a tower makes of an image before any projection or normalisation.

Legend: N images · F width of the tower's features · D width of what the model makes of them.
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
    from clipzoo.models.base import Tower


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


@contextmanager
def saving(shelf: Shelf | None) -> Iterator[None]:
    """What is on the shelf is on disk afterwards, also if the work was interrupted."""
    try:
        yield
    finally:
        if shelf is not None:
            shelf.save()
