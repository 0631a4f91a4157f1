"""Tables with one row per scored case: class predictions, findings or retrieval ranks. All reported numbers are computed from them.

Does not import torch, so that tables are read quickly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from clipzoo.errors import DataError, shortened
from clipzoo.files import write_text
from clipzoo.records.findings_table import FindingsTable
from clipzoo.records.table_file import Rows, ScoredCases, check_lengths, check_once, floats, integers, not_a_table, problem_of, read_rows
from clipzoo.text import csv_text

DIRECTIONS = ("image_to_text", "text_to_image")

_PREDICTION_COLUMNS = ("case_id", "group", "fold", "label", "prediction")
_OFF = 1e-3  # largest accepted deviation from 1: the sum of a case's probabilities, or the magnitude of a cosine


@dataclass(frozen=True)
class PredictionTable(ScoredCases):
    """Class predictions, as stored in a CSV file.

    Attributes:
        labels: ``[N]`` int64 true classes; -1 where unknown.
        probabilities: ``[N, C]`` float32; each row sums to 1, or is NaN if the model's output was not finite.
    """

    kind = "predictions"

    labels: np.ndarray
    probabilities: np.ndarray

    def write(self, path: str | Path) -> None:
        """Write ``case_id,group,fold,label,prediction,p_<class>…``; probabilities keep nine significant digits, enough for a float32."""
        predicted = self.probabilities.argmax(axis=1)
        rows: list[list[str]] = [[*_PREDICTION_COLUMNS, *(f"p_{name}" for name in self.classes)]]
        for row, case_id in enumerate(self.case_ids):
            label = self.classes[self.labels[row]] if self.labels[row] >= 0 else ""
            numbers = [f"{p:.9g}" for p in self.probabilities[row]]
            rows.append([case_id, self.groups[row], self.folds[row], label, self.classes[predicted[row]], *numbers])
        write_text(path, csv_text(rows))

    @classmethod
    def from_rows(cls, path: str | Path, header: list[str], rows: Rows) -> PredictionTable:
        """The table of the rows of a file; see ``read``."""
        first = len(_PREDICTION_COLUMNS)
        if tuple(header[:first]) != _PREDICTION_COLUMNS or not all(name.startswith("p_") for name in header[first:]):
            raise not_a_table("predictions", path, 1, f"its columns are {shortened(header, 5) or 'none'}")
        classes = tuple(name.removeprefix("p_") for name in header[first:])
        index = {name: i for i, name in enumerate(classes)}
        if problem := problem_of(classes):
            raise not_a_table("predictions", path, 1, problem)
        check_lengths("predictions", path, header, rows)
        for line, (_, _, _, label, prediction, *_) in rows:
            if not {label or prediction, prediction} <= index.keys():
                raise not_a_table("predictions", path, line, f"{label!r} or {prediction!r} is not one of the classes")
        check_once("predictions", path, [(line, cells[0]) for line, cells in rows])
        numbers = [floats("predictions", path, line, cells[first:]) for line, cells in rows]
        probabilities = np.array(numbers, dtype=np.float32).reshape(len(rows), len(classes))
        _check_probabilities(path, rows, probabilities, np.array([index[cells[4]] for _, cells in rows], dtype=np.int64))
        return cls(
            classes=classes,
            case_ids=tuple(cells[0] for _, cells in rows),
            groups=tuple(cells[1] for _, cells in rows),
            folds=tuple(cells[2] for _, cells in rows),
            labels=np.array([index[cells[3]] if cells[3] else -1 for _, cells in rows], dtype=np.int64),
            probabilities=probabilities,
        )


@dataclass(frozen=True, eq=False)
class RetrievalTable:
    """Retrieval ranks, as stored in a CSV file: one row per query, in both directions.

    Each attribute is a column of Q rows. Similarities are cosines; two that differ by at most 1e-6, about the resolution of a float32
    dot product, are tied. If features were not finite, both similarities are NaN, ``best_match`` is empty, and all others are ahead.

    Attributes:
        direction: ``'image_to_text'`` or ``'text_to_image'``.
        query: Case id of the image, or the caption itself.
        group: Group of the image; of a caption, the group of all images that it matches, empty if they are of several groups.
        fold: Name of the fold whose test part contains the query and its gallery.
        gallery: ``[Q]`` int64 number of searched items.
        ahead: ``[Q]`` int64 number of non-matching items more similar to the query than its best match.
        tied: ``[Q]`` int64 number of non-matching items exactly as similar as the best match.
        positives: ``[Q]`` int64 number of matching items as similar as the best one; 1 or more.
        positive_similarity: ``[Q]`` float64 mean cosine to all matching items.
        negative_similarity: ``[Q]`` float64 mean cosine to all other items; NaN if none exist.
        best_match: Item most similar to the query: a caption, or the case id of an image.
    """

    direction: np.ndarray
    query: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    gallery: np.ndarray
    ahead: np.ndarray
    tied: np.ndarray
    positives: np.ndarray
    positive_similarity: np.ndarray
    negative_similarity: np.ndarray
    best_match: np.ndarray

    def __len__(self) -> int:
        return len(self.query)

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Case ids of the image queries."""
        return tuple(self.query[self.direction == DIRECTIONS[0]])

    def take(self, rows: np.ndarray) -> RetrievalTable:
        """Select rows by index, or by a ``[Q]`` bool mask."""
        return RetrievalTable(*(getattr(self, f.name)[rows] for f in fields(self)))

    def write(self, path: str | Path) -> None:
        """Write one column per attribute, in declaration order; similarities keep every digit."""
        columns = (getattr(self, name).tolist() for name in _RETRIEVAL_COLUMNS)
        write_text(path, csv_text([_RETRIEVAL_COLUMNS]) + csv_text(zip(*columns, strict=True), quote_text=True))

    @classmethod
    def read(cls, path: str | Path) -> RetrievalTable:
        """Read what ``write`` wrote.

        Raises:
            DataError: The file is missing or has another format; the message gives the line.
        """
        return cls.from_rows(path, *read_rows(path))

    @classmethod
    def from_rows(cls, path: str | Path, header: list[str], rows: Rows) -> RetrievalTable:
        """The table of the rows of a file; see ``read``."""
        if tuple(header) != _RETRIEVAL_COLUMNS:
            raise not_a_table("ranks", path, 1, f"its columns are {shortened(header, 5) or 'none'}")
        check_lengths("ranks", path, header, rows)
        for line, cells in rows:
            if cells[0] not in DIRECTIONS:
                raise not_a_table("ranks", path, line, f"the direction is {cells[0]!r}")
        # an image is a query once; a caption shared by several folds is a query in each of them
        check_once("ranks", path, [(line, (*cells[:2], cells[3] if cells[0] == DIRECTIONS[1] else "")) for line, cells in rows])
        columns: list[Iterable] = list(zip(*(cells for _, cells in rows), strict=True)) if rows else [()] * len(header)
        first = _RETRIEVAL_COLUMNS.index("gallery")
        counts = [integers("ranks", path, line, cells[first : first + 4]) for line, cells in rows]
        columns[first : first + 4] = zip(*counts, strict=True) if rows else [()] * 4
        similarities = [floats("ranks", path, line, cells[first + 4 : first + 6]) for line, cells in rows]
        columns[first + 4 : first + 6] = zip(*similarities, strict=True) if rows else [()] * 2
        table = cls.from_columns(*columns)
        too_many = table.ahead + table.tied + table.positives > table.gallery
        for wrong, what in (
            ((table.ahead < 0) | (table.tied < 0) | (table.positives < 1), "a count is too small"),
            (too_many, "the counts exceed the size of the gallery"),
            (_beyond_cosine(table.positive_similarity) | _beyond_cosine(table.negative_similarity), "a similarity is not between -1 and 1"),
        ):
            if wrong.any():
                raise not_a_table("ranks", path, rows[int(wrong.argmax())][0], what)
        return table

    @classmethod
    def from_columns(cls, *columns: Iterable, **named: Iterable) -> RetrievalTable:
        """Create a table from one iterable per attribute, in declaration order or by name; numbers may be strings."""
        named = {**dict(zip(_RETRIEVAL_COLUMNS, columns, strict=False)), **named}
        return cls(**{name: np.array(list(values), dtype=_COLUMN_TYPES.get(name, object)) for name, values in named.items()})

    @classmethod
    def join(cls, tables: Sequence[RetrievalTable]) -> RetrievalTable:
        """Concatenate ``tables``: images before captions, each sorted. A caption shared by several folds is a query in each of them.

        Raises:
            DataError: An image is a query in two tables.
        """
        joined = cls(*(np.concatenate([getattr(t, name) for t in tables]) for name in _RETRIEVAL_COLUMNS))
        twice = [case_id for case_id, times in Counter(joined.case_ids).items() if times > 1]
        if twice:
            raise DataError(f"retrieval ranks: {twice[0]!r} is a query in two folds")
        keys = list(zip(joined.direction, joined.query, joined.fold, strict=True))
        return joined.take(np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64))


_RETRIEVAL_COLUMNS = tuple(f.name for f in fields(RetrievalTable))
_COLUMN_TYPES = {
    **dict.fromkeys(("gallery", "ahead", "tied", "positives"), np.int64),
    **dict.fromkeys(("positive_similarity", "negative_similarity"), np.float64),
}


Table = PredictionTable | FindingsTable | RetrievalTable


def read_table(path: str | Path) -> Table:
    """Read a table of any kind, detected by its header.

    Raises:
        DataError: The file is missing or is no such table.
    """
    header, rows = read_rows(path)
    for cls, columns in ((PredictionTable, _PREDICTION_COLUMNS), (RetrievalTable, _RETRIEVAL_COLUMNS)):
        if tuple(header[: len(columns)]) == columns:
            return cls.from_rows(path, header, rows)
    if FindingsTable.fits(header):
        return FindingsTable.from_rows(path, header, rows)
    raise DataError(
        f"{path}: neither predictions ({', '.join(_PREDICTION_COLUMNS)}, p_<class>…) nor retrieval ranks "
        f"({', '.join(_RETRIEVAL_COLUMNS[:5])}…) nor findings (case_id, group, fold, y_<finding>…, p_<finding>…); its columns are "
        f"{shortened(header, 5) or 'none'}"
    )


def _check_probabilities(path: str | Path, rows: Rows, probabilities: np.ndarray, predicted: np.ndarray) -> None:
    """Check that each row is all NaN, or sums to 1 with its largest value at the predicted class."""
    undefined = np.isnan(probabilities).all(axis=1)
    with np.errstate(invalid="ignore"):  # infinity - infinity
        fits = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) <= _OFF)
    if not (fits | undefined).all():
        line = rows[int((fits | undefined).argmin())][0]
        raise not_a_table("predictions", path, line, "the probabilities of a case must be between 0 and 1 and sum to 1")
    agrees = probabilities.argmax(axis=1) == predicted
    if not agrees.all():
        raise not_a_table(
            "predictions", path, rows[int(agrees.argmin())][0], "the prediction is not the class with the largest probability"
        )


def _beyond_cosine(values: np.ndarray) -> np.ndarray:
    return ~(np.isnan(values) | (np.abs(values) <= 1 + _OFF))
