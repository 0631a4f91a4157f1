"""Base class of all datasets: cases in a fixed order, one image per case, and one shared table of captions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from clipzoo.datasets.captions import Captions
from clipzoo.errors import ConfigError, DataError, shortened
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
        classes: Class names, indexed by ``case.label``; or the findings, of which a case may have several (``case.findings``). Empty if
            cases have no class.
        captions: Distinct captions of the dataset.
        captions_of_case: Caption ids by case id, at least one per case; may be empty for cases with a class, or without any finding.
        captions_of_class: Caption ids of every class, at least one per class.
        notes: Remarks for the reader of a result, one sentence each.

    Attributes:
        attributes: Values by attribute name and case id, for which results are also reported; empty unless a subclass sets them. They
            change neither training nor folds, unless ``data.views`` names one.
        given_groups: Group by case id, before those that share byte-identical (``data.near_duplicates``: or nearly equal) images
            were merged; empty unless a subclass sets it.
        group_notes: Those of ``notes`` that say which groups were joined, for ``folds.json`` too.
        most_images: Maximum number of images of a case that are used at a time in training; ``None`` for all.
        frame: Number of the frame of DICOM files that is the image, from 1; ``None`` if all have one frame.
        noted: Notes about reading the images that the user has seen, so that every fold does not repeat them.

    Raises:
        DataError: Two cases have the same id, or there are no cases.
    """

    most_images: int | None = None
    frame: int | None = None

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
        self.given_groups: dict[str, str] = {}
        self.group_notes: tuple[str, ...] = ()
        self.noted: set[str] = set()
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

    @property
    def task(self) -> Literal["classification", "retrieval", "findings"]:
        """What the cases can be scored by: one class each, captions only, or several labels each."""
        return "retrieval" if not self.classes else "classification" if self.findings is None else "findings"

    @property
    def labels(self) -> np.ndarray:
        """``[N]`` int64 class index of every row; -1 for cases without a class.

        Raises:
            DataError: Cases have several labels: whatever needs one class per case would be silently wrong.
        """
        if self.findings is not None:
            raise DataError(
                f"data.dataset: {type(self).__name__} has findings (several labels per image), but this needs one class per image. "
                "Use label_key, without findings and separator"
            )
        return self.labels_if_any

    def require_classes(self, what: str) -> None:
        """Refuse cases without one class each, in the words of ``what`` requires it (``'Baselines require'``).

        Raises:
            ConfigError: The cases have captions only, or findings.
        """
        if self.task == "retrieval":
            raise ConfigError(f"data.dataset: {type(self).__name__} has captions but no classes. {what} class labels")
        if self.task == "findings":
            raise ConfigError(f"data.dataset: {type(self).__name__} has findings (several labels per image). {what} one class per image")

    @cached_property
    def labels_if_any(self) -> np.ndarray:
        """Like ``labels``, but -1 for every case with findings: for what works with and without a class per case."""
        import numpy as np

        return np.array([-1 if case.label is None else case.label for case in self.cases], dtype=np.int64)

    @cached_property
    def findings(self) -> np.ndarray | None:
        """``[N, C]`` int8: 1 (present), 0 (absent) or -1 (unknown) for every row and finding; ``None`` unless cases have several labels."""
        import numpy as np

        if all(case.findings is None for case in self.cases):
            return None
        unknown = (-1,) * len(self.classes)
        return np.array([case.findings or unknown for case in self.cases], dtype=np.int8)

    @cached_property
    def labelled(self) -> np.ndarray:
        """``[N]`` bool: whether the class of a row, or one of its findings, is known."""
        return self.labels_if_any >= 0 if self.findings is None else (self.findings >= 0).any(axis=1)

    def label_counts(self, rows: np.ndarray) -> np.ndarray:
        """``[C]`` int64 number of cases per class among ``rows``; of findings, ``[2, C]``: known to be absent, and present."""
        import numpy as np

        if self.findings is not None:
            return np.stack([(self.findings[rows] == value).sum(axis=0) for value in (0, 1)]).astype(np.int64)
        labels = self.labels[rows]
        return np.bincount(labels[labels >= 0], minlength=len(self.classes))

    def captions_of(self, row: int) -> list[int]:
        """Ids of all captions of the case in ``row``."""
        return self._captions_of_row[row]

    def class_captions(self) -> list[list[int]]:
        """Caption ids of every class, for evaluation; empty if there are no classes."""
        return self._captions_of_class

    @property
    def single_images(self) -> Dataset:
        """The dataset whose cases are single images: this one, unless its cases have several images (``Views``)."""
        return self

    def image_rows(self, row: int) -> Sequence[int]:
        """Rows in ``single_images`` of the images of the case in ``row``."""
        return (row,)

    def image_groups(self) -> list[str]:
        """The group of every image of ``single_images``; with several images per case, together with the case's id."""
        return [case.group for case in self.cases]

    def read_image(self, row: int) -> Image.Image:
        """The image of the case in ``row``, upright, in Pillow's mode RGB.

        Raises:
            DataError: The file cannot be read; the message names it.
        """
        raise NotImplementedError

    @property
    def reads_encoded(self) -> bool:
        """Whether ``read_image`` decodes some bytes and does nothing else, so that its result can be kept under their digest."""
        return False

    def encoded_digest(self, row: int) -> str:
        """BLAKE2b-128 of ``encoded_image``, hexadecimal, without reading the bytes again if they cannot have changed.

        Raises:
            DataError: The bytes cannot be read.
        """
        raise NotImplementedError

    def encoded_image(self, row: int) -> bytes:
        """The bytes that ``read_image`` decodes.

        Raises:
            DataError: They cannot be read; the message names the file.
        """
        raise NotImplementedError

    def decode_image(self, row: int, content: bytes) -> Image.Image:
        """The image that ``read_image`` makes of these bytes.

        Raises:
            DataError: They cannot be decoded; the message names the file in ``row``.
        """
        raise NotImplementedError

    def source_of(self, row: int) -> str | None:
        """The path of the file whose bytes fully determine the image in ``row``; ``None`` if there is no such file, as here."""
        return None

    def image_state(self, row: int) -> list | None:
        """Plain values that change whenever the image in ``row`` may have changed, without reading it; ``None`` if unknown, as here."""
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
        kind = "findings" if self.task == "findings" else "classes"
        lines = [f"{len(self.cases)} cases, {len(self.classes)} {kind}, {num_groups} groups, {len(self.captions)} distinct captions"]
        parts = Counter(case.part for case in self.cases if case.part is not None)
        if parts:
            lines[0] += "; " + "  ".join(f"{part} {parts[part]}" for part in PARTS if part in parts)
        counts = Counter(label for case in self.cases for label in case.classes)
        groups: dict[int, set[str]] = {}
        for case in self.cases:
            for label in case.classes:
                groups.setdefault(label, set()).add(case.group)
        names = [visible(name) for name in self.classes]
        width = max(map(terminal_columns, names), default=0)
        for label, name in enumerate(names):
            padding = " " * (width - terminal_columns(name))
            share = f"{100 * counts[label] / len(self.cases):5.1f} %"
            unknown = 0 if self.findings is None else int((self.findings[:, label] < 0).sum())
            rest = f"  {unknown:6d} unknown" if unknown else ""
            lines.append(f"  {name}{padding}  {counts[label]:6d} cases  {share}  {len(groups.get(label, ())):6d} groups{rest}")
        return lines + [f"note: {note}" for note in self.notes]
