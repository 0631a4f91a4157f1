"""Tables with one row per case, such as groups or attributes: the column ``path`` names the case."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from clipzoo.datasets.files.tables.encoding import decode_table
from clipzoo.errors import DataError, did_you_mean, shortened
from clipzoo.files import read_bytes
from clipzoo.text import clean_name, clean_path, csv_rows, find_separator, lookalike


@dataclass(frozen=True)
class CaseRow:
    """One row of a table of cases.

    Attributes:
        where: File and line, for messages.
        case_id: The case.
        values: Cleaned cells by column name, without ``path``.
    """

    where: str
    case_id: str
    values: dict[str, str]


def read_case_table(
    path: str,
    ids: Collection[str],
    root: str,
    check: Callable[[list[str]], str],
    *,
    used: Collection[str] | None = None,
    notes: list[str] | None = None,
) -> Iterator[CaseRow]:
    """The rows of a table that are not empty.

    Args:
        path: Table in UTF-8, UTF-16 with a byte-order mark, or GB18030; separated by commas, tabs or semicolons.
        ids: Case ids: paths below ``root``.
        root: Dataset root, for messages.
        check: Function from the names of the columns to what is wrong with them; an empty string if nothing is.
        used: Columns that must not occur twice; ``None`` for all of them.
        notes: List that a note on the encoding is added to.

    Raises:
        DataError: The file cannot be read, its columns are wrong or occur twice, or a row names an unknown case or has too many cells.
    """
    known = set(ids)
    text, note = decode_table(path, read_bytes(path))
    if note and notes is not None:
        notes.append(note)
    rows = csv_rows(text, path, separator=find_separator(text, path, lambda names: not check([clean_name(name) for name in names])))
    line, names = next(rows, (1, []))
    columns = [clean_name(name) for name in names]
    if problem := check(columns):
        raise DataError(f"{path}:{line}: {problem}; found: {shortened(columns or ['nothing'])}")
    twice = next((name for name in (columns if used is None else used) if columns.count(name) > 1), None)
    if twice:
        raise DataError(f"{path}:{line}: duplicate column '{twice}'. Rename one of them")
    for line, cells in rows:
        if any(cell.strip() for cell in cells[len(columns) :]):
            advice = "Put cells that contain a comma in double quotes"
            raise DataError(f"{path}:{line}: the row has {len(cells)} columns, the first line names {len(columns)}. {advice}")
        if any(cell.strip() for cell in cells):
            values = dict(zip(columns, cells, strict=False))
            case_id = clean_path(values.pop("path", ""))
            if case_id not in known:
                near = _near(case_id, known)
                hint = did_you_mean(case_id, near) + lookalike(case_id, near)
                raise DataError(f"{path}:{line}: no image '{case_id}' below {root}.{hint} Paths start at that folder")
            yield CaseRow(f"{path}:{line}", case_id, {name: clean_name(cell) for name, cell in values.items()})


def _near(case_id: str, known: set[str], limit: int = 500) -> list[str]:
    """Ids with the same file name, or else in the same folder: comparing with tens of thousands would take seconds."""
    folder, _, name = case_id.rpartition("/")
    same_name = sorted(i for i in known if i.rpartition("/")[2] == name)
    return (same_name or sorted(i for i in known if i.rpartition("/")[0] == folder))[:limit]
