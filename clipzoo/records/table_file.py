"""The CSV tables of scored cases: what tables with one row per case share, reading of rows, and checks that all kinds of table need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from clipzoo.errors import DataError, shortened
from clipzoo.files import read_text
from clipzoo.records.folds import Case
from clipzoo.text import csv_rows

KINDS = {"predictions": "not a table of predictions", "ranks": "not a table of retrieval ranks", "findings": "not a table of findings"}

Rows = Sequence[tuple[int, list[str]]]  # first line number and cells of each row
T = TypeVar("T", bound="ScoredCases")


@dataclass(frozen=True, eq=False)
class ScoredCases:
    """Base class of tables with one row per case; subclasses add arrays with N rows and implement ``from_rows``.

    Attributes:
        kind: Key of ``KINDS``.
        called: What the classes are called in messages.
        classes: C class names.
        case_ids: N ids.
        groups: N group names.
        folds: N fold names.

    Raises:
        DataError: There are no classes, two have the same name, or one has an empty name, which marks an unknown label in the file.
    """

    kind: ClassVar[str]
    called: ClassVar[str] = "classes"

    classes: tuple[str, ...]
    case_ids: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[str, ...]

    def __post_init__(self) -> None:
        if problem := problem_of(self.classes):
            raise DataError(f"{self.kind}: {problem}")

    @classmethod
    def read(cls: type[T], path: str | Path) -> T:
        """Read what ``write`` wrote.

        Raises:
            DataError: The file is missing or has another format; the message gives the line.
        """
        return cls.from_rows(path, *read_rows(path))

    @classmethod
    def from_rows(cls: type[T], path: str | Path, header: list[str], rows: Rows) -> T:
        """The table of the rows of a file; see ``read``."""
        raise NotImplementedError(f"{cls.__name__} has no method 'from_rows'")

    @classmethod
    def join(cls: type[T], tables: Sequence[T]) -> T:
        """Concatenate ``tables``, sorted by case id.

        Raises:
            DataError: The tables have different classes, or a case is in two of them.
        """
        classes = tables[0].classes
        if any(table.classes != classes for table in tables):
            raise DataError(f"{cls.kind}: the folds have different {cls.called}")
        columns = {f.name: [getattr(table, f.name) for table in tables] for f in fields(cls)[1:]}
        joined = {name: sum(parts, ()) if isinstance(parts[0], tuple) else np.concatenate(parts) for name, parts in columns.items()}
        return cls(classes, **joined).take(order_of(joined["case_ids"], cls.kind))

    def take(self: T, rows: np.ndarray) -> T:
        """Select rows by index."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        taken = {name: tuple(c[row] for row in rows) if isinstance(c, tuple) else c[rows] for name, c in columns.items()}
        return replace(self, **taken)


def columns_of(classes: Sequence[str], cases: Sequence[Case], fold: str) -> tuple[tuple[str, ...], ...]:
    """The first fields of a table of ``ScoredCases`` for cases of one fold: class names, case ids, groups and folds."""
    return tuple(classes), tuple(case.id for case in cases), tuple(case.group for case in cases), (fold,) * len(cases)


def read_rows(path: str | Path) -> tuple[list[str], Rows]:
    """Header and rows of a CSV file; an empty file has an empty header."""
    rows = list(csv_rows(read_text(path), path))
    return (rows[0][1], rows[1:]) if rows else ([], [])


def problem_of(classes: Sequence[str]) -> str:
    """What is wrong with the class names; an empty name would mark an unknown label in the file."""
    if classes and "" not in classes and len(set(classes)) == len(classes):
        return ""
    return f"class names must be distinct and not empty, not: {shortened(map(repr, classes)) or 'none'}"


def not_a_table(kind: str, path: str | Path, line: int, what: str) -> DataError:
    """The error about a file that is not a table of this kind, a key of ``KINDS``."""
    return DataError(f"{path}:{line}: {KINDS[kind]} ({what})")


def check_lengths(kind: str, path: str | Path, header: list[str], rows: Rows) -> None:
    """Refuse rows with more or fewer cells than the header."""
    for line, cells in rows:
        if len(cells) != len(header):
            raise not_a_table(kind, path, line, f"the row has {len(cells)} columns instead of {len(header)}")


def check_once(kind: str, path: str | Path, keys: Sequence[tuple[int, object]]) -> None:
    """Refuse two rows with the same key."""
    seen: dict[object, int] = {}
    for line, key in keys:
        if seen.setdefault(key, line) != line:
            name = key[1] if isinstance(key, tuple) else key
            raise not_a_table(kind, path, line, f"{name!r} is also on line {seen[key]}")


def floats(kind: str, path: str | Path, line: int, cells: Sequence[str]) -> list[float]:
    """The cells as numbers."""
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        raise not_a_table(kind, path, line, str(error)) from error


def integers(kind: str, path: str | Path, line: int, cells: Sequence[str]) -> list[int]:
    """The cells as 64-bit integers."""
    try:
        return [int(np.int64(int(cell))) for cell in cells]
    except (ValueError, OverflowError) as error:
        raise not_a_table(kind, path, line, str(error)) from error


def order_of(case_ids: Sequence[str], what: str) -> np.ndarray:
    """``[N]`` int64 rows in the order of the case ids, of several tables together.

    Raises:
        DataError: A case is in two of them.
    """
    if len(set(case_ids)) != len(case_ids):
        raise DataError(f"{what}: a case is predicted in two folds")
    return np.array(sorted(range(len(case_ids)), key=case_ids.__getitem__), dtype=np.int64)
