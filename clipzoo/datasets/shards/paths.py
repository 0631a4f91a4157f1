"""The shards that a config names: a file, a folder, a glob, braces such as ``{00000..00099}``, or a list of these."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence

from clipzoo.errors import DataError, shortened
from clipzoo.files import expanded, natural, near

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000  # shards; a range with more is a mistake


def shard_paths(named: str | Sequence[str]) -> list[str]:
    """Paths of all shards, in natural order.

    Args:
        named: Names as in the module's first line. A folder stands for its ``*.tar`` files.

    Raises:
        DataError: A name matches no shard, or a shard is named twice.
    """
    found: list[str] = []
    for name in [named] if isinstance(named, str) else named:
        found += _matches(expanded(name))
    if not found:
        raise DataError("data.dataset.shards: the list is empty. Name at least one shard")
    where: dict[str, str] = {}
    for path in found:
        other = where.setdefault(os.path.realpath(path), path)
        if other is not path:
            raise DataError(f"{path}: this shard is named twice{'' if other == path else f', also as {other}'}. Keep one of them")
    return sorted(found, key=natural)


def _matches(name: str) -> list[str]:
    if os.path.isdir(name):
        found = glob.glob(os.path.join(glob.escape(name), "*.tar"))
        if not found:
            raise DataError(f"{name}: no shard (*.tar) in this folder. Give the folder, a glob or braces that match the shards")
        return found
    if os.path.lexists(name):
        return [name]
    found, missing = [], []
    for one in expanded_braces(name):
        matches = glob.glob(one) if glob.has_magic(one) else [one] * os.path.lexists(one)
        found += matches
        missing += [] if matches else [one]
    if missing:
        others = f" ({len(missing)} of {len(missing) + len(found)} are missing: {shortened(missing, 3)})" if len(missing) > 1 else ""
        hint = "" if glob.has_magic(missing[0]) else near(missing[0])
        raise DataError(f"{name}: no shard matches '{missing[0]}'{others}.{hint} Relative paths start at the current folder")
    return found


def expanded_braces(name: str) -> list[str]:
    """All names that braces stand for: a range of numbers, with the zeros of its start, or alternatives.

    Raises:
        DataError: A range is empty or too long.

    >>> expanded_braces('a{08..10}.tar'), expanded_braces('{train,val}.tar')
    (['a08.tar', 'a09.tar', 'a10.tar'], ['train.tar', 'val.tar'])
    """
    return list(_expanded(name))


def _expanded(name: str) -> Iterator[str]:
    braces = _BRACES.search(name)
    if braces is None:
        yield name
        return
    before, inside, after = name[: braces.start()], braces.group(1), name[braces.end() :]
    limits = _RANGE.fullmatch(inside)
    if limits is None:
        parts = inside.split(",")
        # A name may contain braces that are none of ours.
        parts = parts if len(parts) > 1 else ["{" + inside + "}"]
        rest = list(_expanded(after))
        yield from (f"{before}{part}{end}" for part in parts for end in rest)
        return
    first, last = limits.groups()
    if not 0 <= int(last) - int(first) < _MOST:
        raise DataError(f"{name}: the range {{{inside}}} is empty or too long. Write the smaller number first")
    rest = list(_expanded(after))
    yield from (f"{before}{number:0{len(first)}d}{end}" for number in range(int(first), int(last) + 1) for end in rest)
