"""The cache as a run sees it: the pixels of a row, decoded only if no epoch, process or earlier run has done so.

What is kept is the image as ``FitThen.fit`` scales it, uint8. Everything random begins after it, so tensors are equal to the last bit with
and without the cache. Images smaller than what would be kept are not: they take little time to decode, and would need more room.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.datasets.image_cache.budget import Budget, fcntl
from clipzoo.datasets.image_cache.geometry import geometry_digest
from clipzoo.datasets.image_cache.packs import Packs
from clipzoo.datasets.transforms import FITS
from clipzoo.errors import DataError
from clipzoo.files import cache_folder, expanded_if_known

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clipzoo.datasets.base import Dataset
    from clipzoo.structures import Preprocessing

FOLDER = "images"  # in the cache folder
NO_HOME = "note: image cache: there is no home folder for it. Set CLIPZOO_CACHE to a folder"
_GIB = 1 << 30


@dataclass(frozen=True)
class ImageCache:
    """The image cache of a run.

    Attributes:
        budget: Folder and size; ``None`` keeps nothing.
    """

    budget: Budget | None

    @classmethod
    def of(cls, where: str | os.PathLike | None, gib: float, note: Callable[[str], object] = lambda line: None) -> ImageCache:
        """The cache for ``runtime.image_cache`` and ``runtime.image_cache_gib``; ``'auto'`` is ``images`` in the cache folder.

        Args:
            where: Folder, ``'auto'``, or ``None`` for no cache.
            gib: Largest size.
            note: Function called with one line if there can be no cache.
        """
        if where is None:
            return cls(None)
        folder = cache_folder() if where == "auto" else expanded_if_known(where)
        if folder is None or fcntl is None:
            note(NO_HOME if folder is None else "note: image cache: not available on this system")
            return cls(None)
        return cls(Budget(folder / FOLDER if where == "auto" else folder, int(gib * _GIB)))

    def images(self, data: Dataset, preprocessing: Preprocessing) -> CachedImages | None:
        """The images of ``data`` as a tower needs them; ``None`` without a cache, or if the images are not the content of files."""
        images = data.single_images
        if self.budget is None or not images.reads_encoded:
            return None
        return CachedImages(images, preprocessing, self.budget)


class CachedImages:
    """Images of a dataset, scaled for a tower. Calling it with a row gives ``[3, h, w]`` uint8, as ``fit`` would make it of the image.

    Args:
        images: Dataset of single images, which are the content of files.
        preprocessing: The input format of the tower.
        budget: Folder and size of the cache.

    Attributes:
        preprocessing: The argument.
        notes: What the user should know, oldest first; see ``after_batch``.
    """

    def __init__(self, images: Dataset, preprocessing: Preprocessing, budget: Budget):
        self.images, self.preprocessing = images, preprocessing
        self.fit = FITS[preprocessing.fit](preprocessing.size, preprocessing.interpolation)
        self.notes: list[str] = []
        self.packs = Packs(budget.root / geometry_digest(preprocessing, images.frame), budget, self._note)
        self._small: set[int] = set()  # rows that are not kept

    def __call__(self, row: int) -> Tensor:
        """The scaled image in ``row``.

        Raises:
            DataError: The file cannot be read; the message names it.
        """
        if row in self._small:
            return self.fit(self.images.read_image(row))
        digest = self._known_digest(row)
        found = None if digest is None else self.packs.get(digest)
        if found is not None:
            return _channels_first(found)
        content = self.images.encoded_image(row)
        scaled, is_kept = self.keep(hashlib.blake2b(content, digest_size=16).digest(), self.images.decode_image(row, content))
        if not is_kept:
            self._small.add(row)
        return scaled

    def keep(self, digest: bytes, image: Image.Image) -> tuple[Tensor, bool]:
        """Scale a decoded image and keep it, unless it is small.

        Args:
            digest: BLAKE2b-128 of the very bytes that ``image`` was decoded from; the file may have changed since.
            image: The decoded image.

        Returns:
            The scaled image, and whether images like it are kept.
        """
        scaled = self.fit(image)
        is_kept = image.width * image.height >= scaled.shape[1] * scaled.shape[2]
        if is_kept:
            self.packs.put(digest, scaled.permute(1, 2, 0).numpy())
        return scaled, is_kept

    def keep_if_new(self, digest: bytes, image: Image.Image) -> None:
        """``keep``, unless another run has done so."""
        if digest not in self.packs:
            self.keep(digest, image)

    def after_batch(self) -> list[str]:
        """Write what was decoded since the last call; returns lines for the user."""
        self.packs.flush()
        notes, self.notes = self.notes, []
        return notes

    def _known_digest(self, row: int) -> bytes | None:
        try:
            return bytes.fromhex(self.images.encoded_digest(row))
        except DataError:  # reading the image says more
            return None

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)


def _channels_first(pixels_HWC: object) -> Tensor:
    """``[3, H, W]`` with channels last in memory, as every fit returns it: sums over an image depend on the order of its values."""
    import torch

    return torch.from_numpy(pixels_HWC).permute(2, 0, 1)
