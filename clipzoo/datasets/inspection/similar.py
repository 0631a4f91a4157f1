"""Images that are the same, or nearly the same: after another compression, another size, or mirrored.

Shapes: N images · P pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipzoo.datasets.inspection.image_facts import SIDE, FileFact

Kind = Literal["bytes", "pixels", "near", "mirrored"]
MOST_PAIRS = 100_000
# Unrelated images with at most 10 different bits reach 0.980 in the drawn radiographs (the highest of 404 550 pairs) and 0.974 in the
# digits (of 1 613 706). Of copies with a JPEG quality of 30, or of half the size, 99 % are above 0.99 (photographs of 64 pixels).
MOST_DIFFERENT = 10  # bits of a hash
LEAST_SIMILAR = 0.985  # correlation of details
BITS = 8  # frequencies per direction, so that a hash has 64 bits
_DETAILS = 12  # frequencies per direction that are compared
_SMALL = 32  # side of the pictures that are hashed and compared
_BLOCK = 1024  # rows compared at once
_CANDIDATES = 16_384  # pairs whose details are compared at once
FLAT = 2.0  # grey levels of standard deviation, below which a picture has nothing to compare


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
    clear = pictures.std(axis=(1, 2)) > FLAT
    return np.array(rows, dtype=np.int64)[clear], pictures[clear]


def frequencies(pictures: np.ndarray, number: int) -> np.ndarray:
    """``[N, number, number]`` lowest frequencies (vertical, horizontal) of pictures ``[N, 32, 32]``: a cosine transform (DCT-II)."""
    places = (np.arange(_SMALL) + 0.5) / _SMALL
    basis = np.cos(np.pi * places[None, :] * np.arange(number)[:, None]).astype(np.float32)
    return np.einsum("ui,nij,vj->nuv", basis, pictures, basis, optimize=True)


def hashes(pictures: np.ndarray) -> np.ndarray:
    """``[N, 64]`` float32, -1 or 1: the perceptual hashes of pictures ``[N, 32, 32]``."""
    found_NF = frequencies(pictures, BITS + 1)[:, 1:, 1:].reshape(len(pictures), BITS**2)
    return np.where(found_NF > np.median(found_NF, axis=1, keepdims=True), 1, -1).astype(np.float32)


def details(pictures: np.ndarray) -> np.ndarray:
    """``[N, 144]`` float32 of unit length: frequencies weighted by their height, as the amplitudes of pictures fall with it.

    All radiographs of a joint share their low frequencies, so that plain correlations of unrelated ones are close to 1.
    """
    number = np.arange(_DETAILS)
    weights = np.hypot(number[:, None], number[None, :]).astype(np.float32)
    found_ND = (frequencies(pictures, _DETAILS) * weights).reshape(len(pictures), _DETAILS**2)
    return found_ND / np.maximum(np.linalg.norm(found_ND, axis=1, keepdims=True), 1e-9)


def find_pairs(facts: Sequence[FileFact], most: int = MOST_PAIRS) -> list[Pair]:
    """Pairs of equal and of nearly equal images, by rows.

    Of several equal images, only the first is compared with others. Nearly equal are images whose hashes differ in at most 10 of 64 bits,
    and whose details correlate.

    Args:
        facts: Facts of all images; damaged ones are left out.
        most: Number of pairs of nearly equal images, at which the search ends.

    Source: hash of the signs of low frequencies against their median, as in Zauner 2010, "Implementation and Benchmarking of Perceptual
    Image Hash Functions", with frequencies 1 to 8 of pictures of 32 x 32 pixels. The second measure is our own.
    """
    exact = _equal(facts)
    repeated = {pair.second for pair in exact}
    rows_N, pictures = small_pictures([fact if row not in repeated else FileFact(fact.id) for row, fact in enumerate(facts)])
    near: dict[tuple[int, int], Pair] = {}
    hashes_NF, details_ND = hashes(pictures), details(pictures)
    for kind, other in (("near", pictures), ("mirrored", pictures[:, :, ::-1])):
        for a, b, similarity in _similar(hashes_NF, hashes(other), details_ND, details(other)):
            if len(near) >= most:
                break
            key = (int(rows_N[a]), int(rows_N[b]))
            if key not in near or similarity > near[key].similarity:
                near[key] = Pair(*key, kind, similarity)
    return exact + [near[key] for key in sorted(near)]


def _equal(facts: Sequence[FileFact]) -> list[Pair]:
    """The first of every set of images with equal pixels, with each of the others."""
    sets: dict[str, list[int]] = defaultdict(list)
    for row, fact in enumerate(facts):
        if fact.pixels:
            sets[fact.pixels].append(row)
    pairs = []
    for first, *others in sets.values():
        for other in others:
            same = facts[first].digest and facts[first].digest == facts[other].digest
            pairs.append(Pair(first, other, "bytes" if same else "pixels"))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def _similar(
    hashes_NF: np.ndarray, others_NF: np.ndarray, details_ND: np.ndarray, other_details_ND: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Indices ``a < b`` of pictures with similar hashes and details, and the correlation of these."""
    least = hashes_NF.shape[1] - 2 * MOST_DIFFERENT
    for start in range(0, len(hashes_NF), _BLOCK):
        agreement = hashes_NF[start : start + _BLOCK] @ others_NF[start:].T
        first, second = np.nonzero(np.triu(agreement >= least, k=1))
        for at in range(0, len(first), _CANDIDATES):
            a, b = first[at : at + _CANDIDATES] + start, second[at : at + _CANDIDATES] + start
            correlation = np.einsum("pd,pd->p", details_ND[a], other_details_ND[b])
            for index in np.flatnonzero(correlation >= LEAST_SIMILAR):
                yield int(a[index]), int(b[index]), float(correlation[index])
