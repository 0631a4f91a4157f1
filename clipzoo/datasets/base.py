"""Base class of all datasets: cases in a fixed order, one image per case, and one shared table of captions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from clipzoo.datasets.captions import Captions
from clipzoo.errors import DataError, shortened
from clipzoo.records.folds import PARTS, Case
from clipzoo.text import visible
from clipzoo.text_tables import terminal_columns

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class Dataset:
    """Cases sorted by id, with their classes and captions. Reads images on demand; independent of tensors, towers and folds.

    Subclasses call this constructor and implement ``read_image``.

    Args:
        cases: Cases in any order; they are sorted by id. A *row* is an index into the sorted cases.
        classes: Class names, indexed by ``case.label``. Empty if cases have no class.
        captions: Distinct captions of the dataset.
        captions_of_case: Caption ids by case id, at least one per case; may be empty for cases with a class.
        captions_of_class: Caption ids of every class, at least one per class.
        notes: Remarks for the reader of a result, one sentence each.

    Attributes:
        attributes: Values by attribute name and case id, for which results are also reported; empty unless a subclass sets them. They
            change neither training nor folds.

    Raises:
        DataError: Two cases have the same id, or there are no cases.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        classes: Sequence[str],
        *,
        captions: Captions,
        captions_of_case: dict[str, Sequence[int]],
        captions_of_class: Sequence[Sequence[int]] = (),
        notes: Sequence[str] = (),
    ):
        self.cases: tuple[Case, ...] = tuple(sorted(cases, key=lambda case: case.id))
        self.classes: tuple[str, ...] = tuple(classes)
        self.captions = captions
        self.notes: tuple[str, ...] = tuple(notes)
        self.attributes: dict[str, dict[str, str]] = {}
        self._captions_of_row = [list(captions_of_case[case.id]) for case in self.cases]
        self._captions_of_class = [list(ids) for ids in captions_of_class]
        if not self.cases:
            raise DataError(f"{type(self).__name__}: there are no cases")
        if len(self.rows) != len(self.cases):
            twice = [i for i, n in Counter(case.id for case in self.cases).items() if n > 1]
            raise DataError(f"{type(self).__name__}: case ids are not unique: {shortened(twice, 3)}")

    def __len__(self) -> int:
        return len(self.cases)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row by case id."""
        return {case.id: row for row, case in enumerate(self.cases)}

    def rows_of(self, case_ids: Sequence[str]) -> np.ndarray:
        """``[N]`` int64 rows of the given case ids, in order."""
        import numpy as np

        return np.array([self.rows[case_id] for case_id in case_ids], dtype=np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        """``[N]`` int64 class index of every row; -1 for cases without a class."""
        import numpy as np

        return np.array([-1 if case.label is None else case.label for case in self.cases], dtype=np.int64)

    def captions_of(self, row: int) -> list[int]:
        """Ids of all captions of the case in ``row``."""
        return self._captions_of_row[row]

    def class_captions(self) -> list[list[int]]:
        """Caption ids of every class, for evaluation; empty if there are no classes."""
        return self._captions_of_class

    def read_image(self, row: int) -> Image.Image:
        """The image of the case in ``row``, upright, in Pillow's mode RGB.

        Raises:
            DataError: The file cannot be read; the message names it.
        """
        raise NotImplementedError

    def source_of(self, row: int) -> str | None:
        """The path of the file whose bytes fully determine the image in ``row``; ``None`` if there is no such file, as here."""
        return None

    def content_digest(self, row: int) -> str:
        """Hexadecimal digest that changes with the image in ``row``; here, of its size and pixels.

        Raises:
            DataError: The image cannot be read.
        """
        image = self.read_image(row)
        return hashlib.blake2b(f"{image.width}x{image.height}:".encode() + image.tobytes(), digest_size=16).hexdigest()

    def describe(self) -> list[str]:
        """Lines for the log: numbers of cases, groups and captions, in total, per given part and per class, followed by the notes."""
        num_groups = len({case.group for case in self.cases})
        lines = [f"{len(self.cases)} cases, {len(self.classes)} classes, {num_groups} groups, {len(self.captions)} distinct captions"]
        parts = Counter(case.part for case in self.cases if case.part is not None)
        if parts:
            lines[0] += "; " + "  ".join(f"{part} {parts[part]}" for part in PARTS if part in parts)
        counts = Counter(case.label for case in self.cases)
        groups: dict[int | None, set[str]] = {}
        for case in self.cases:
            groups.setdefault(case.label, set()).add(case.group)
        names = [visible(name) for name in self.classes]
        width = max(map(terminal_columns, names), default=0)
        for label, name in enumerate(names):
            padding = " " * (width - terminal_columns(name))
            share = f"{100 * counts[label] / len(self.cases):5.1f} %"
            lines.append(f"  {name}{padding}  {counts[label]:6d} cases  {share}  {len(groups.get(label, ())):6d} groups")
        return lines + [f"note: {note}" for note in self.notes]
