"""Reading of a table as rows of text, whatever it is stored in; the bytes decide what that is, not the ending of the name."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

from clipzoo.datasets.files.tables.encoding import decode_table
from clipzoo.datasets.files.tables.workbook import read_workbook
from clipzoo.errors import ConfigError, DataError, shortened
from clipzoo.files import near, read_bytes
from clipzoo.text import clean_name, csv_rows

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # name of a stream, [MS-OFFCRYPTO] 2.3.4.4
_MOST_TITLE_ROWS = 10


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        name: File name, for messages.
        header: Line or row number of the header, from 1.
        columns: Clean column names.
        rows: Number, from 1, and cells of each row below the header that is not blank.
        notes: Remarks for the reader of a result, one sentence each.
    """

    name: str
    header: int
    columns: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    notes: tuple[str, ...] = ()


def read_sheet(path: str, fits: Callable[[list[str]], int], *, sheet: str | None = None) -> Sheet:
    """Read a table: text with commas, tabs or semicolons, or a worksheet of an Excel workbook (``.xlsx``, ``.xlsm``).

    The header is the first of the first ten rows that ``fits`` scores highest: titles above a table are skipped.

    Args:
        path: The file.
        fits: Function that scores the clean cells of a row as a header: the number of columns found.
        sheet: Name of the worksheet; ``None`` for the first one that is visible.

    Raises:
        ConfigError: The workbook has no such worksheet, or the file is not a workbook.
        DataError: The file is missing, empty, encrypted, of another kind, or damaged; or a row has more cells than the header.
    """
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder, not a table. Pass a CSV, TSV or XLSX file; for class folders use ImageFolderDataset")
    if not os.path.lexists(path):
        raise DataError(f"{path}: no such file.{near(path)} Pass a CSV, TSV or XLSX file with a row for every image")
    content = read_bytes(path)
    if not content.strip():
        raise DataError(f"{path}: the file is empty. Export the table again")
    notes: list[str] = []
    if content.startswith(_ZIP):
        rows = read_workbook(path, content, sheet)
    else:
        _refuse_other_kinds(path, content)
        if sheet is not None:
            raise ConfigError(f"data.dataset.sheet: {path} is not an Excel workbook. Remove this option")
        text, note = decode_table(path, content)
        notes += [note] if note else []
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            what = "the file contains zero bytes: it is not text, was only partly written, or is UTF-16 without a byte-order mark"
            raise DataError(f"{path}:{line}: {what}. Save it as UTF-8")
        rows = list(csv_rows(text, path, separator=_separator(text, path, fits)))
    return _below_header(path, [(n, cells) for n, cells in rows if any(cell.strip() for cell in cells)], fits, notes)


def _refuse_other_kinds(path: str, content: bytes) -> None:
    """Refuse files that are no text."""
    if content.startswith(_OLE):
        if _ENCRYPTED in content:
            raise DataError(f"{path}: the workbook is encrypted. Open it in Excel, remove its password and save it again")
        raise DataError(f"{path}: a workbook of Excel 97-2003 (.xls), which is not supported. Save it as .xlsx or as CSV UTF-8")
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<html", b"<!doctype html", b"<table", b"<?xml", b"<meta")):
        raise DataError(f"{path}: a web page or XML, whatever its name says. Open it in Excel and save it as .xlsx or CSV UTF-8")


def _separator(text: str, path: str, fits: Callable[[list[str]], int]) -> str:
    """The separator with which one of the first rows fits best, or else has the most cells."""

    def score(separator: str) -> tuple[int, int]:
        scores = [(0, 0)]
        with contextlib.suppress(DataError):  # unbalanced quotation marks under this separator
            for _, cells in itertools.islice(csv_rows(text, path, separator=separator), _MOST_TITLE_ROWS):
                scores.append((fits([clean_name(cell) for cell in cells]), len(cells)))
        return max(scores)

    return max((",", "\t", ";"), key=score)


def _below_header(path: str, rows: list[tuple[int, list[str]]], fits: Callable[[list[str]], int], notes: list[str]) -> Sheet:
    if not rows:
        raise DataError(f"{path}: all cells are empty. Export the table again")
    named = [[clean_name(cell) for cell in cells] for _, cells in rows[:_MOST_TITLE_ROWS]]
    at = max(range(len(named)), key=lambda row: (fits(named[row]), -row))
    header, columns = rows[at][0], named[at]
    while columns and not columns[-1]:
        columns.pop()
    for number, cells in rows[at + 1 :]:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise DataError(
                f"{path}:{number}: the row has {len(cells)} cells, the header in row {header} names {len(columns)} columns. "
                "Put cells that contain the separator in double quotes, or name every column"
            )
    if at:
        notes.append(f"{path}: {at} {'rows' if at > 1 else 'row'} above the header in row {header} skipped")
    padded = tuple((number, (cells + [""] * len(columns))[: len(columns)]) for number, cells in rows[at + 1 :])
    if not padded:
        raise DataError(f"{path}: no rows below the header ({shortened(columns)}). Export the table again")
    return Sheet(path, header, tuple(columns), padded, tuple(notes))
