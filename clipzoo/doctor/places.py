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
        folds: Names of the folds.
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
        splits = () if folds is None else folds.splits
        parts = np.full((len(images), len(splits)), -1, dtype=np.int64)
        for number, split in enumerate(splits):
            part_of = {case_id: index for index, part in enumerate(PARTS) for case_id in getattr(split, part)}
            parts[:, number] = [part_of.get(case.id, -1) for case in cases]
        return cls(
            ids=tuple(case.id for case in images.cases),
            classes=data.classes,
            labels=np.array([-1 if case.label is None else case.label for case in cases], dtype=np.int64),
            kinds=tuple(None if case.findings is None and case.label is None else case.classes for case in cases),
            groups=tuple(images.given_groups.get(case.id, case.group) for case in images.cases),
            joined=tuple(case.group for case in cases),
            parts=parts,
            folds=tuple(split.name for split in splits),
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
