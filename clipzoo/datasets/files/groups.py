"""Groups of cases that belong together (such as a patient's images), from a table or from file names. Groups are never split."""

from __future__ import annotations

import re

from clipzoo.datasets.files.case_table import read_case_table
from clipzoo.errors import ConfigError, DataError


def groups_from_table(path: str, ids: list[str], root: str, notes: list[str] | None = None) -> dict[str, str]:
    """Read the group of every case from a table with the columns ``path`` and ``group``; other columns are ignored.

    Args:
        path: Table in UTF-8, UTF-16 with a byte-order mark, or GB18030; separated by commas, tabs or semicolons.
        ids: Case ids: paths below ``root``.
        root: Dataset root, for messages.
        notes: List that a note on the encoding is added to.

    Raises:
        DataError: The file cannot be read, a column or a group is missing, a row names an unknown case or gives one two groups, or
            a case has no row (treating it as a group of its own could put one patient into two parts).
    """
    groups: dict[str, str] = {}
    for row in read_case_table(path, ids, root, _problem, used=("path", "group"), notes=notes):
        group = row.values.get("group", "")
        if not group:
            raise DataError(f"{row.where}: empty group for '{row.case_id}'")
        if groups.setdefault(row.case_id, group) != group:
            raise DataError(f"{row.where}: '{row.case_id}' is in both group '{groups[row.case_id]}' and group '{group}'")
    missing = [case_id for case_id in ids if case_id not in groups]
    if missing:
        raise DataError(f"{path}: {len(missing)} images have no row, the first one is '{missing[0]}'. Give every image a group")
    return groups


def _problem(columns: list[str]) -> str:
    return "" if {"path", "group"} <= set(columns) else "the columns path,group are required"


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
