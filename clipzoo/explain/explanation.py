"""An explanation: maps of what speaks for a text in each image, and their way back to the original pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from clipzoo.datasets.batches.image_list import ImageLike, listed, rgb
from clipzoo.datasets.placement import placement
from clipzoo.explain.overlay import overlay
from clipzoo.structures import Preprocessing


@dataclass(frozen=True)
class Explanation:
    """Where N images speak for their texts or classes.

    Attributes:
        maps: ``[N, size, size]`` float32, at least 0, on the square that the tower sees. The scale means something only within one model.
        scores: ``[N]`` float32 numbers that were explained: cosine similarity or logit, or a difference of two; the mean over folds.
        targets: Sentence or class of each image.
        against: Sentence or class that was subtracted, for each image; empty for nothing.
        method: ``'grad_cam'`` or ``'relevance'``.
        preprocessing: How the images were made square.
    """

    maps: np.ndarray
    scores: np.ndarray
    targets: tuple[str, ...]
    against: tuple[str, ...]
    method: str
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.maps)

    def original(self, row: int, width: int, height: int) -> np.ndarray:
        """The map of image ``row`` on its original picture of ``width x height``, ``[height, width]`` float32.

        What a crop removed is 0: the model did not see it.
        """
        return to_original(self.maps[row], self.preprocessing, width, height)

    def on(self, row: int, image: ImageLike, *, longest: int | None = None) -> Image.Image:
        """The map of image ``row`` laid over it; see ``overlay``.

        Args:
            row: Number of the image.
            image: The image itself: path, Pillow image or tensor, as it was given to ``explain``.
            longest: Length in pixels to which a longer side is scaled down; ``None`` keeps the original size.

        Raises:
            DataError: The image is missing or cannot be decoded.
        """
        (item,) = listed(image)
        picture = rgb(item)
        if longest is not None and max(picture.size) > longest:
            scale = longest / max(picture.size)
            picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.BICUBIC, reducing_gap=3.0)
        return overlay(picture, self.original(row, *picture.size))


def to_original(square: np.ndarray, preprocessing: Preprocessing, width: int, height: int) -> np.ndarray:
    """Undo the geometry of the preprocessing.

    Args:
        square: ``[size, size]`` map on the square that the tower sees.
        preprocessing: Its size and fit are used.
        width: Width of the original picture, upright, in pixels.
        height: Its height.

    Returns:
        ``[height, width]`` float32, interpolated between the pixels of the square; 0 where it shows nothing.
    """
    placed = placement(preprocessing.fit, preprocessing.size, width, height)
    # Pillow asks where the centre of every new pixel lies on the old image.
    across, down = placed.width / width, placed.height / height
    affine = (across, 0, placed.left, 0, down, placed.top)
    found = Image.fromarray(np.ascontiguousarray(square, dtype=np.float32)).transform(
        (width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.asarray(found).copy()
