"""Groups of cases that belong together (such as a patient's images), from a table or from file names. Groups are never split."""

from __future__ import annotations

import re

from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import read_text
from clipzoo.text import clean_name, clean_path, csv_rows, find_separator, lookalike


def groups_from_table(path: str, ids: list[str], root: str) -> dict[str, str]:
    """Read the group of every case from a table with the columns ``path`` and ``group``; other columns are ignored.

    Args:
        path: Table in UTF-8, or UTF-16 with a byte-order mark; separated by commas, tabs or semicolons.
        ids: Case ids: paths below ``root``.
        root: Dataset root, for messages.

    Raises:
        DataError: The file cannot be read, a column or a group is missing, a row names an unknown case or gives one two groups, or
            a case has no row (treating it as a group of its own could put one patient into two parts).
    """
    known = set(ids)
    groups: dict[str, str] = {}
    text = read_text(path)
    rows = csv_rows(text, path, separator=find_separator(text, path, lambda names: {"path", "group"} <= set(names)))
    line, names = next(rows, (1, []))
    columns = [clean_name(name) for name in names]
    if not {"path", "group"} <= set(columns):
        raise DataError(f"{path}:{line}: the columns path,group are required; found: {shortened(columns or ['nothing'])}")
    twice = next((name for name in ("path", "group") if columns.count(name) > 1), None)
    if twice:
        raise DataError(f"{path}:{line}: duplicate column '{twice}'. Rename one of them")
    for line, cells in rows:
        if any(cell.strip() for cell in cells[len(columns) :]):
            advice = "Put cells that contain a comma in double quotes"
            raise DataError(f"{path}:{line}: the row has {len(cells)} columns, the first line names {len(columns)}. {advice}")
        values = dict(zip(columns, cells, strict=False))
        if any(cell.strip() for cell in cells):
            _add_row(groups, known, clean_path(values.get("path", "")), clean_name(values.get("group", "")), f"{path}:{line}", root)
    missing = [case_id for case_id in ids if case_id not in groups]
    if missing:
        raise DataError(f"{path}: {len(missing)} images have no row, the first one is '{missing[0]}'. Give every image a group")
    return groups


def _add_row(groups: dict[str, str], known: set[str], case_id: str, group: str, where: str, root: str) -> None:
    if case_id not in known:
        near = _near(case_id, known)
        hint = did_you_mean(case_id, near) + lookalike(case_id, near)
        raise DataError(f"{where}: no image '{case_id}' below {root}.{hint} Paths start at that folder")
    if not group:
        raise DataError(f"{where}: empty group for '{case_id}'")
    if groups.setdefault(case_id, group) != group:
        raise DataError(f"{where}: '{case_id}' is in both group '{groups[case_id]}' and group '{group}'")


def _near(case_id: str, known: set[str], limit: int = 500) -> list[str]:
    """Ids with the same file name, or else in the same folder: comparing with tens of thousands would take seconds."""
    folder, _, name = case_id.rpartition("/")
    same_name = sorted(i for i in known if i.rpartition("/")[2] == name)
    return (same_name or sorted(i for i in known if i.rpartition("/")[0] == folder))[:limit]


def groups_from_pattern(pattern: str, ids: list[str], where: str = "data.dataset.group_pattern") -> dict[str, str]:
    """Find the group of every case: what the first group of ``pattern`` (or the whole match) matches in the file name.

    A pattern that contains ``/`` is searched in the whole id instead, for patients with a folder each; file names never contain ``/``.

    Args:
        pattern: Regular expression.
        ids: Case ids (paths).
        where: Owner of the pattern, for messages.

    Raises:
        ConfigError: ``pattern`` is not a regular expression.
        DataError: The pattern does not match a file name, or its group is empty.

    >>> groups_from_pattern('^(P[0-9]+)_', ['a/P001_view1.png', 'b/P001_view2.png'])
    {'a/P001_view1.png': 'P001', 'b/P001_view2.png': 'P001'}
    >>> groups_from_pattern('^images/([^/]+)/', ['images/P001/1.png', 'images/P002/1.png'])
    {'images/P001/1.png': 'P001', 'images/P002/1.png': 'P002'}
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{where}: {pattern!r} is not a regular expression ({error})") from error
    groups = {}
    for case_id in ids:
        match = compiled.search(case_id if "/" in pattern else case_id.rsplit("/", 1)[-1])
        group = match and match.group(1 if compiled.groups else 0)
        if not group:
            raise DataError(f"{where}: {pattern!r} matches no group in the name of '{case_id}'. It must match every image")
        groups[case_id] = group
    return groups


def merge_groups(groups: dict[str, str], together: list[list[str]]) -> dict[str, str]:
    """The same groups, but all cases of each list in ``together`` (and of their groups) share one, named after the first.

    >>> merge_groups({'a': 'A', 'b': 'B', 'c': 'B', 'd': 'D'}, [['a', 'b']])
    {'a': 'A', 'b': 'A', 'c': 'A', 'd': 'D'}
    """
    parent: dict[str, str] = {}

    def top(group: str) -> str:
        while group in parent:
            group = parent[group]
        return group

    for ids in together:
        first, *others = sorted({top(groups[case_id]) for case_id in ids})
        parent.update({other: first for other in others})
    return {case_id: top(group) for case_id, group in groups.items()}
