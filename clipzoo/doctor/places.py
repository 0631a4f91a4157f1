"""Where every image is: its class, its group, and its part in every fold.

Shapes: N images · C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clipzoo.datasets.base import Dataset
from clipzoo.records.folds import PARTS, Folds


@dataclass(frozen=True, eq=False)
class Places:
    """The places of all images, by row.

    Attributes:
        ids: Ids.
        classes: Class names.
        labels: ``[N]`` int64 class; -1 without a single class.
        kinds: Classes of each image: its class, all its findings, or none.
        groups: Group as given, before copies were merged.
        joined: Group that the folds keep together.
        parts: Part in each fold, by image: indices into ``PARTS``; -1 for no part. Empty without folds.
        folds: Names of the folds; of data that cannot be split but have given parts, ``'given'``.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    kinds: tuple[tuple[int, ...] | None, ...]
    groups: tuple[str, ...]
    joined: tuple[str, ...]
    parts: np.ndarray
    folds: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset, folds: Folds | None) -> Places:
        """The places of the images of ``data``, which may have several for a case."""
        images = data.single_images
        row_of_image = np.zeros(len(images), dtype=np.int64)
        for row in range(len(data)):
            row_of_image[list(data.image_rows(row))] = row
        cases = [data.cases[row] for row in row_of_image]
        rounds = _rounds(data, folds)
        parts = np.full((len(images), len(rounds)), -1, dtype=np.int64)
        for number, part_of in enumerate(rounds.values()):
            parts[:, number] = [part_of.get(case.id, -1) for case in cases]
        return cls(
            ids=tuple(case.id for case in images.cases),
            classes=data.classes,
            labels=np.array([-1 if case.label is None else case.label for case in cases], dtype=np.int64),
            kinds=tuple(None if case.findings is None and case.label is None else case.classes for case in cases),
            groups=tuple(images.given_groups.get(case.id, case.group) for case in images.cases),
            joined=tuple(case.group for case in cases),
            parts=parts,
            folds=tuple(rounds),
        )

    def class_names(self, row: int) -> str:
        """The classes of an image, in words; empty without any."""
        return ", ".join(self.classes[label] for label in self.kinds[row] or ())

    def conflict(self, first: int, second: int) -> bool:
        """Whether two images have classes, and not the same."""
        a, b = self.kinds[first], self.kinds[second]
        return a is not None and b is not None and a != b

    def apart(self, first: int, second: int) -> tuple[str, str, str] | None:
        """The first fold that has two images in two parts, and these parts; ``None`` if there is none."""
        a, b = self.parts[first], self.parts[second]
        folds = np.flatnonzero((a != b) & (a >= 0) & (b >= 0))
        return (self.folds[folds[0]], PARTS[a[folds[0]]], PARTS[b[folds[0]]]) if len(folds) else None

    def rounds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For every fold, ``[N]`` bool: what may be learned from (train and val), and what is tested."""
        for parts_N in self.parts.T:
            yield (parts_N == 0) | (parts_N == 1), parts_N == 2


def _rounds(data: Dataset, folds: Folds | None) -> dict[str, dict[str, int]]:
    """For every fold, the part of each case that is in one; without folds, the parts that the data's own files assign."""
    if folds is not None:
        parts = {split.name: {part: getattr(split, part) for part in PARTS} for split in folds.splits}
        return {name: {i: number for number, part in enumerate(PARTS) for i in ids[part]} for name, ids in parts.items()}
    given = {case.id: PARTS.index(case.part) for case in data.cases if case.part is not None}
    return {"given": given} if given else {}
