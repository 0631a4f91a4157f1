"""Excel workbooks (``.xlsx``, ``.xlsm``) as rows of text, through openpyxl; formulas count with the value that Excel stored."""

from __future__ import annotations

import datetime
import importlib.util
import io
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipzoo.errors import ANY_DAMAGE, BuildError, ConfigError, DataError, did_you_mean, shortened

if TYPE_CHECKING:
    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

_MOST_COLUMNS = 1000
_LARGEST = 1 << 30  # bytes of all parts together, unpacked; a million rows need a tenth
_OTHER_KINDS = {"xl/workbook.bin": "a binary workbook (.xlsb)", "mimetype": "an OpenDocument file (.ods)", "word/document.xml": "Word"}
_ZEROS = re.compile("0{2,}")  # number format of ids such as 00012
_DAMAGE = (*ANY_DAMAGE, zipfile.BadZipFile)


def read_workbook(path: str, content: bytes, sheet: str | None = None) -> list[tuple[int, list[str]]]:
    """The rows of a worksheet with their numbers, cells as the text that Excel shows.

    A merged cell counts as its value repeated in every cell that it covers: one patient, several images. Whole numbers have no decimal
    point, and leading zeros of a format such as ``00000`` are kept. Dates are written as ``2024-05-31``.

    Args:
        path: File name, for messages.
        content: Bytes of the workbook.
        sheet: Name of the worksheet; ``None`` for the first one that is visible.

    Raises:
        BuildError: openpyxl is not installed.
        ConfigError: There is no such worksheet.
        DataError: The file is damaged or not a workbook, or a cell has an error such as ``#N/A``.
    """
    _check_archive(path, content)
    if importlib.util.find_spec("openpyxl") is None:
        raise BuildError(f"{path}: Excel workbooks require the package openpyxl. Run pip install openpyxl, or save the table as CSV UTF-8")
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # extensions that openpyxl does not keep when saving
            book = openpyxl.load_workbook(io.BytesIO(content), data_only=True, keep_links=False)
    except _DAMAGE as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: the workbook cannot be read ({what}). Open it in Excel and save it again") from error
    page = _chosen(path, book.worksheets, sheet)
    return [(number, [_shown(path, cell) for cell in row]) for number, row in _rows(path, page)]


def _check_archive(path: str, content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {part.filename: part.file_size for part in archive.infolist()}
    except _DAMAGE as error:
        raise DataError(f"{path}: a damaged workbook or archive ({error}). It may have been partly copied; copy it again") from error
    other = next((kind for part, kind in _OTHER_KINDS.items() if part in parts), "an archive (zip)")
    if "[Content_Types].xml" not in parts or not any(part.startswith("xl/workbook") for part in parts) or "xl/workbook.bin" in parts:
        raise DataError(f"{path}: {other}, not a workbook of Excel. Save the table as .xlsx or as CSV UTF-8")
    if sum(parts.values()) > _LARGEST:
        raise DataError(f"{path}: more than 1 GiB when unpacked. Save the table as CSV UTF-8")


def _chosen(path: str, pages: list[Worksheet], sheet: str | None) -> Worksheet:
    visible = [page for page in pages if page.sheet_state == "visible"] or pages
    if not visible:
        raise DataError(f"{path}: has no worksheet. Save the table as .xlsx or as CSV UTF-8")
    if sheet is None:
        return visible[0]
    names = [page.title for page in pages]
    if sheet not in names:
        hint = did_you_mean(sheet, names)
        raise ConfigError(f"data.dataset.sheet: no worksheet '{sheet}' in {path}.{hint} Worksheets: {shortened(names)}")
    return pages[names.index(sheet)]


def _rows(path: str, page: Worksheet) -> Iterator[tuple[int, list[Cell | None]]]:
    """The rows that have a value, with their numbers.

    Only cells that exist are visited: a format may reach to the last of a million rows. A merged cell counts in every row that it covers,
    but in its first column only, as titles go across.
    """
    found: dict[int, dict[int, Cell]] = defaultdict(dict)
    for (row, column), cell in page._cells.items():  # iter_rows would make the missing ones
        if cell.value is not None:
            found[row][column] = cell
    for area in page.merged_cells.ranges:
        first = found.get(area.min_row, {}).get(area.min_col)
        for row in range(area.min_row + 1, area.max_row + 1) if first is not None else ():
            found[row][area.min_col] = first
    for row in sorted(found):
        last = max(found[row])
        if last > _MOST_COLUMNS:
            raise DataError(f"{path}:{row}: more than {_MOST_COLUMNS} columns. Save only the table as CSV UTF-8")
        yield row, [found[row].get(column) for column in range(1, last + 1)]


def _shown(path: str, cell: Cell | None) -> str:
    value = None if cell is None else cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        raise DataError(f"{path}:{cell.row}: cell {cell.coordinate} has the error {value}. Correct the formula or write the value")
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and _ZEROS.fullmatch(cell.number_format):
        return str(value).zfill(len(cell.number_format))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    return str(value)
