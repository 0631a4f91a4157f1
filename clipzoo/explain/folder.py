"""Explanations on disk: a picture for each image and text, a listing, and the maps as arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipzoo.explain.explanation import Explanation
from clipzoo.files import new_folder, write_json

ARRAYS, LISTING = "explanations.npz", "explanations.json"
_LONGEST_STEM = 40  # characters


@dataclass(frozen=True)
class Entry:
    """One picture of a folder.

    Attributes:
        image: Path of the explained image.
        picture: File name of the overlay in the folder.
        target: Sentence or class.
        against: What was subtracted; ``None`` for nothing.
        score: The explained number.
        probability: Probability of the class; ``None`` for a sentence.
    """

    image: str
    picture: str
    target: str
    against: str | None
    score: float
    probability: float | None


def write_folder(
    folder: Path,
    source: str,
    images: Sequence[str],
    explanations: Sequence[Explanation],
    probabilities: Sequence[Sequence[float]] | None = None,
    *,
    longest: int | None = 1024,
    progress: Callable[[int], None] | None = None,
) -> list[Entry]:
    """Write the new folder ``folder``, either completely or not at all.

    Args:
        folder: Target; must be missing or empty.
        source: Description of the model.
        images: N paths.
        explanations: One or more explanations of the N images.
        probabilities: For each explanation, the N probabilities of its classes.
        longest: See ``Explanation.on``.
        progress: Function called with the number of pictures drawn.

    Returns:
        One entry for each image and explanation, image by image. ``explanations.npz`` has their maps in this order.

    Raises:
        DataError: The folder exists, or cannot be written.
    """
    entries, maps = [], []
    with new_folder(folder) as temporary:
        for row, image in enumerate(images):
            for rank, explanation in enumerate(explanations):
                name = picture_name(row, image, len(images), rank if len(explanations) > 1 else None)
                explanation.on(row, image, longest=longest).save(temporary / name)
                against = explanation.against[row] if explanation.against else None
                probability = None if probabilities is None else float(probabilities[rank][row])
                entries.append(Entry(image, name, explanation.targets[row], against, float(explanation.scores[row]), probability))
                maps.append(explanation.maps[row])
                if progress is not None:
                    progress(len(entries))
        scores = np.array([entry.score for entry in entries], dtype=np.float32)
        np.savez_compressed(temporary / ARRAYS, maps=np.stack(maps), scores=scores)
        write_json(temporary / LISTING, _listing(source, explanations[0], entries))
    return entries


def _listing(source: str, explanation: Explanation, entries: Sequence[Entry]) -> dict:
    geometry = {"size": explanation.preprocessing.size, "fit": explanation.preprocessing.fit}
    rows = [vars(entry) | {"image": _encodable(entry.image)} for entry in entries]
    return {"version": 1, "source": _encodable(source), "method": explanation.method, **geometry, "explanations": rows}


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file name that are no text become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def picture_name(row: int, image: str, num_images: int, rank: int | None) -> str:
    """A file name that is safe everywhere: a number, and what is left of the image's name without anything but letters and digits.

    >>> picture_name(6, "scans/<b>左 1.png", 100, None)
    '007_b_左_1.png'
    """
    stem = re.sub(r"[^\w-]+", "_", Path(image).stem)[:_LONGEST_STEM].strip("_")
    number = f"{row + 1:0{len(str(num_images))}d}"
    return "_".join(part for part in (number, stem, "" if rank is None else str(rank + 1)) if part) + ".png"
