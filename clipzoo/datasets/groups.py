"""Which cases belong together (a patient's images): from a table, or from the file names. Groups are never split."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import read_text


def groups_from_table(path: str, ids: list[str], root: str) -> dict[str, str]:
    """The group of every case, from a CSV file with the columns ``path`` and ``group``; other columns are ignored.

    Args:
        path: UTF-8, with or without a byte-order mark.
        ids: Case ids: paths below ``root``.
        root: For messages.

    Raises:
        DataError: The file cannot be read, a column or a group is missing, a row names no case or names one twice with different groups,
            or a case has no row: to guess that it stands alone could put one patient on two sides of a split.
    """
    known = set(ids)
    groups: dict[str, str] = {}
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        if not {"path", "group"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path}:1: needs the columns path,group; found: {shortened(reader.fieldnames or ['nothing'])}")
        for row in reader:
            _add_row(groups, known, row, f"{path}:{reader.line_num}", root)
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    missing = [case_id for case_id in ids if case_id not in groups]
    if missing:
        raise DataError(f"{path}: {len(missing)} images have no row, the first is '{missing[0]}'. Give every image a group")
    return groups


def _add_row(groups: dict[str, str], known: set[str], row: dict, where: str, root: str) -> None:
    case_id = unicodedata.normalize("NFC", (row["path"] or "").strip().replace("\\", "/"))
    group = unicodedata.normalize("NFC", (row["group"] or "").strip())
    if case_id not in known:
        hint = did_you_mean(case_id, _near(case_id, known))
        raise DataError(f"{where}: there is no image '{case_id}' below {root}.{hint} Paths start at that folder")
    if not group:
        raise DataError(f"{where}: '{case_id}' has an empty group")
    if groups.setdefault(case_id, group) != group:
        raise DataError(f"{where}: '{case_id}' is in group '{groups[case_id]}' and in group '{group}'")


def _near(case_id: str, known: set[str], limit: int = 500) -> list[str]:
    """Ids with the same file name, else in the same folder: to compare with all of tens of thousands would take seconds."""
    folder, _, name = case_id.rpartition("/")
    same_name = sorted(i for i in known if i.rpartition("/")[2] == name)
    return (same_name or sorted(i for i in known if i.rpartition("/")[0] == folder))[:limit]


def groups_from_pattern(pattern: str, ids: list[str], where: str = "data.dataset.group_pattern") -> dict[str, str]:
    """The group of every case: what the first group of ``pattern`` (the whole match where it has none) finds in the file name.

    A pattern with ``/`` is searched in the whole id instead, for patients who have a folder each; no file name contains ``/``.

    Args:
        pattern: A regular expression.
        ids: Case ids: paths.
        where: What the pattern belongs to, for messages.

    Raises:
        ConfigError: ``pattern`` is not a regular expression.
        DataError: It is not found in a file name, or finds nothing there.

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
            raise DataError(f"{where}: {pattern!r} finds no group in the name of '{case_id}'. It must fit every image")
        groups[case_id] = group
    return groups


def merge_groups(groups: dict[str, str], together: list[list[str]]) -> dict[str, str]:
    """The same groups, but all cases of each list in ``together`` (and all cases of their groups) share one, named like the first of them.

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
