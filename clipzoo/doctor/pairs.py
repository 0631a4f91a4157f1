"""Images that are the same, or nearly the same: after another compression, another size, or mirrored.

Shapes: N images · P pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipzoo.doctor.files import SIDE, FileFact

Kind = Literal["bytes", "pixels", "near", "mirrored"]
BITS = 8  # frequencies per direction, so that a hash has 64 bits
_SMALL = 32  # side of the pictures that are hashed and compared
_BLOCK = 1024  # rows compared at once
_FLAT = 2.0  # grey levels of standard deviation, below which a picture has nothing to compare


@dataclass(frozen=True)
class Pair:
    """Two images.

    Attributes:
        first: Row of an image.
        second: Row of another image, larger than ``first``.
        kind: ``'bytes'`` and ``'pixels'`` for exactly equal ones, ``'near'``, or ``'mirrored'`` for nearly equal after a flip.
        similarity: Correlation of the details, 1 for equal images.
    """

    first: int
    second: int
    kind: Kind
    similarity: float = 1.0


def small_pictures(facts: Sequence[FileFact]) -> tuple[np.ndarray, np.ndarray]:
    """``[N]`` int64 rows of images that can be compared, and their ``[N, 32, 32]`` float32 pictures."""
    rows = [row for row, fact in enumerate(facts) if fact.thumbnail is not None]
    step = SIDE // _SMALL
    pictures = np.stack([facts[row].thumbnail for row in rows]) if rows else np.zeros((0, SIDE, SIDE), dtype=np.uint8)
    pictures = pictures.reshape(-1, _SMALL, step, _SMALL, step).mean(axis=(2, 4), dtype=np.float32)
    clear = pictures.std(axis=(1, 2)) > _FLAT
    return np.array(rows, dtype=np.int64)[clear], pictures[clear]


def frequencies(pictures: np.ndarray) -> np.ndarray:
    """``[N, 8, 8]`` low frequencies (rows, columns) of pictures ``[N, 32, 32]``, without the constant ones, by a cosine transform."""
    n = np.arange(_SMALL)
    basis = np.cos(np.pi * (n[None, :] + 0.5) * np.arange(1, BITS + 1)[:, None] / _SMALL).astype(np.float32)
    return np.einsum("ui,nij,vj->nuv", basis, pictures, basis, optimize=True)
