"""Attributes of cases, such as sex, scanner or view: results are also reported for each of their values."""

from __future__ import annotations

from collections.abc import Collection

from clipzoo.datasets.files.case_table import read_case_table
from clipzoo.errors import DataError


def read_attributes(path: str, ids: Collection[str], root: str, notes: list[str] | None = None) -> dict[str, dict[str, str]]:
    """Read a table with the column ``path`` and one column per attribute.

    Args:
        path: Table in UTF-8, UTF-16 with a byte-order mark, or GB18030; separated by commas, tabs or semicolons.
        ids: Case ids: paths below ``root``.
        root: Dataset root, for messages.
        notes: List that a note on the encoding is added to.

    Returns:
        Values by attribute and case id, attributes in the order of the columns; a case with an empty cell or without a row has no value.

    Raises:
        DataError: The file cannot be read, it has no attribute, a row names an unknown case, or a case has two different rows.
    """
    seen: dict[str, dict[str, str]] = {}
    found: dict[str, dict[str, str]] = {}
    for row in read_case_table(path, ids, root, _problem, notes=notes):
        values = {name: value for name, value in row.values.items() if value}
        if seen.setdefault(row.case_id, values) != values:
            raise DataError(f"{row.where}: '{row.case_id}' has an earlier row with other values. Keep one of them")
        for name, value in row.values.items():
            of_case = found.setdefault(name, {})
            if value:
                of_case[row.case_id] = value
    if not seen:
        raise DataError(f"{path}: has no rows below the first line. Give at least one image its attributes")
    return found


def _problem(columns: list[str]) -> str:
    if "path" not in columns or len(columns) < 2:
        return "the column path and at least one attribute are required"
    return "a column has no name" if "" in columns else ""
