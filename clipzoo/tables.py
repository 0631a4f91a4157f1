"""What is written down of every scored case: predictions of classes, or ranks of retrieval. All reported numbers are computed from it.

Needs no torch, so that a table is read at once.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from clipzoo.errors import DataError, shortened
from clipzoo.files import write_text

DIRECTIONS = ("image_to_text", "text_to_image")

_PREDICTION_COLUMNS = ("case_id", "group", "fold", "label", "prediction")


@dataclass(frozen=True)
class PredictionTable:
    """Predictions as they stand in a CSV file.

    Attributes:
        classes: C class names.
        case_ids: N ids.
        groups: N group names.
        folds: N fold names.
        labels: ``[N]`` int64 true classes; -1 where unknown.
        probabilities: ``[N, C]`` float32.
    """

    classes: tuple[str, ...]
    case_ids: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    def write(self, path: str | Path) -> None:
        """Write ``case_id,group,fold,label,prediction,p_<class>…``; probabilities keep all nine digits of a float32."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_PREDICTION_COLUMNS, *(f"p_{name}" for name in self.classes)])
        predicted = self.probabilities.argmax(axis=1) if len(self.case_ids) else []
        for row, case_id in enumerate(self.case_ids):
            label = self.classes[self.labels[row]] if self.labels[row] >= 0 else ""
            numbers = [f"{p:.9g}" for p in self.probabilities[row]]
            writer.writerow([case_id, self.groups[row], self.folds[row], label, self.classes[predicted[row]], *numbers])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> PredictionTable:
        """Read what ``write`` wrote.

        Raises:
            DataError: The file is missing or is not such a table.
        """
        header, rows = _read_rows(path, "predictions")
        try:
            if tuple(header[: len(_PREDICTION_COLUMNS)]) != _PREDICTION_COLUMNS:
                raise ValueError(f"its columns are {shortened(header, 5)}")
            classes = tuple(name.removeprefix("p_") for name in header[len(_PREDICTION_COLUMNS) :])
            index = {name: i for i, name in enumerate(classes)}
            return cls(
                classes=classes,
                case_ids=tuple(r[0] for r in rows),
                groups=tuple(r[1] for r in rows),
                folds=tuple(r[2] for r in rows),
                labels=np.array([index[r[3]] if r[3] else -1 for r in rows], dtype=np.int64),
                probabilities=np.array([[float(p) for p in r[5:]] for r in rows], dtype=np.float32).reshape(len(rows), len(classes)),
            )
        except (ValueError, KeyError, IndexError) as error:
            raise DataError(f"{path}: not a table of predictions ({error})") from error

    @classmethod
    def join(cls, tables: Sequence[PredictionTable]) -> PredictionTable:
        """All rows of ``tables``, sorted by case id.

        Raises:
            DataError: The tables have different classes, or a case stands in two of them.
        """
        classes = tables[0].classes
        if any(t.classes != classes for t in tables):
            raise DataError("predictions: the folds have different classes")
        case_ids = [i for t in tables for i in t.case_ids]
        if len(set(case_ids)) != len(case_ids):
            raise DataError("predictions: a case is predicted in two folds")
        order = np.array(sorted(range(len(case_ids)), key=case_ids.__getitem__), dtype=np.int64)
        groups = [g for t in tables for g in t.groups]
        folds = [f for t in tables for f in t.folds]
        return cls(
            classes=classes,
            case_ids=tuple(case_ids[i] for i in order),
            groups=tuple(groups[i] for i in order),
            folds=tuple(folds[i] for i in order),
            labels=np.concatenate([t.labels for t in tables])[order],
            probabilities=np.concatenate([t.probabilities for t in tables])[order],
        )


@dataclass(frozen=True, eq=False)
class RetrievalTable:
    """Where every query found what belongs to it, as it stands in a CSV file: one row per query, in both directions.

    An attribute is a column, of Q rows. Similarities are cosines. Two that differ by at most 1e-6, about what a float32 dot product
    resolves, are tied. Where features were not finite, both similarities are NaN, ``best_match`` is empty, and all others are ahead.

    Attributes:
        direction: ``'image_to_text'`` or ``'text_to_image'``.
        query: Case id of the image, or the caption itself.
        group: Group of the image; empty for a caption, which may belong to images of several groups.
        fold: Name of the fold whose test part the query and its gallery are.
        gallery: ``[Q]`` int64: how many items were searched.
        ahead: ``[Q]`` int64: how many items that do not belong to the query are more similar to it than the best one that does.
        tied: ``[Q]`` int64: how many that do not belong to it are exactly as similar as that.
        positives: ``[Q]`` int64: how many that do belong to it are as similar as the best of them; 1 or more.
        positive_similarity: ``[Q]`` float64: mean cosine to all that belongs to it.
        negative_similarity: ``[Q]`` float64: mean cosine to everything else; NaN where there is nothing else.
        best_match: The item most similar to the query: a caption, or the case id of an image.
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
        """Ids of the images that are queries."""
        return tuple(self.query[self.direction == DIRECTIONS[0]])

    def take(self, rows: np.ndarray) -> RetrievalTable:
        """Some rows: indices, or a ``[Q]`` bool mask."""
        return RetrievalTable(*(getattr(self, f.name)[rows] for f in fields(self)))

    def write(self, path: str | Path) -> None:
        """Write one column per attribute, in their order; similarities keep every digit."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(_RETRIEVAL_COLUMNS)
        # All text in quotes: csv leaves a lone carriage return bare before Python 3.13, and reads it back as the end of a row.
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows(zip(*(getattr(self, name).tolist() for name in _RETRIEVAL_COLUMNS), strict=True))
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> RetrievalTable:
        """Read what ``write`` wrote.

        Raises:
            DataError: The file is missing or is not such a table.
        """
        header, rows = _read_rows(path, "retrieval ranks")
        try:
            if tuple(header) != _RETRIEVAL_COLUMNS:
                raise ValueError(f"its columns are {shortened(header, 5)}")
            for number, row in enumerate(rows, start=1):
                if len(row) != len(header):
                    raise ValueError(f"row {number} has {len(row)} columns instead of {len(header)}")
                if row[0] not in DIRECTIONS:
                    raise ValueError(f"row {number} has the direction {row[0]!r}")
            table = cls.from_columns(*(zip(*rows, strict=True) if rows else [()] * len(header)))
            impossible = np.flatnonzero((table.ahead < 0) | (table.tied < 0) | (table.positives < 1))
            if len(impossible):
                raise ValueError(f"row {impossible[0] + 1} has a count that is too small")
            return table
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path}: not a table of retrieval ranks ({error})") from error

    @classmethod
    def from_columns(cls, *columns: Iterable, **named: Iterable) -> RetrievalTable:
        """From one iterable per attribute, in their order or by name; numbers may be text."""
        named = {**dict(zip(_RETRIEVAL_COLUMNS, columns, strict=False)), **named}
        return cls(**{name: np.array(list(values), dtype=_COLUMN_TYPES.get(name, object)) for name, values in named.items()})

    @classmethod
    def join(cls, tables: Sequence[RetrievalTable]) -> RetrievalTable:
        """All rows of ``tables``: images before captions, each sorted. A caption that several folds hold is a query in each of them.

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


def read_table(path: str | Path) -> PredictionTable | RetrievalTable:
    """Read a table of either kind; its header says which.

    Raises:
        DataError: The file is missing or is neither.
    """
    header, _ = _read_rows(path, "predictions or retrieval ranks", header_only=True)
    for cls, columns in ((PredictionTable, _PREDICTION_COLUMNS), (RetrievalTable, _RETRIEVAL_COLUMNS)):
        if tuple(header[: len(columns)]) == columns:
            return cls.read(path)
    raise DataError(
        f"{path}: neither predictions ({', '.join(_PREDICTION_COLUMNS)}, p_<class>…) nor retrieval ranks "
        f"({', '.join(_RETRIEVAL_COLUMNS[:5])}…); its columns are {shortened(header, 5) or 'none'}"
    )


def _read_rows(path: str | Path, kind: str, *, header_only: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file; the header of an empty file is empty."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            return next(rows, []), [] if header_only else list(rows)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table of {kind} ({error})") from error
