"""Detection of byte-identical files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from clipzoo.datasets.files.groups import merge_groups
from clipzoo.errors import DataError, shortened
from clipzoo.files import reason

_BLOCK = 1 << 14  # bytes; a few rows of a radiograph


def copies_among(files: Iterable[tuple[str, str, int]]) -> list[list[str]]:
    """Sets of names whose files have the same bytes, each in the given order.

    Only files of equal size are opened, and for large files first three blocks: the rest is read only if these are equal. Radiographs of
    one machine all have the same size, and reading them completely at every start would take longer than a short training.

    Args:
        files: Name, path and size in bytes of each file.

    Raises:
        DataError: A file cannot be read.
    """
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for name, path, size in files:
        by_size[size].append((name, path))
    found = []
    for size, same_size in by_size.items():
        alike = _alike(same_size, lambda path, size=size: _sample(path, size)) if size > 3 * _BLOCK else [same_size]
        found += [[name for name, _ in same] for suspects in alike for same in _alike(suspects, file_digest)]
    return found


def _alike(files: list[tuple[str, str]], digest: Callable[[str], bytes]) -> list[list[tuple[str, str]]]:
    """The given files (names and paths) that share a digest with another one."""
    if len(files) < 2:
        return []
    found: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for name, path in files:
        found[digest(path)].append((name, path))
    return [same for same in found.values() if len(same) > 1]


def _sample(path: str, size: int) -> bytes:
    """Digest of the first, the middle and the last block of a file."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as stream:
            for start in (0, (size - _BLOCK) // 2, size - _BLOCK):
                stream.seek(start)
                digest.update(stream.read(_BLOCK))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    return digest.digest()


def merge_copies(groups: dict[str, str], copies: list[list[str]]) -> tuple[dict[str, str], list[str]]:
    """Merge every set of copies into one group; returns the groups, and a note if there are copies.

    >>> merge_copies({'a': 'a', 'b': 'b'}, [['a', 'b']])
    ({'a': 'a', 'b': 'a'}, ['1 sets of byte-identical images, each kept together in every split: a, b'])
    """
    if not copies:
        return groups, []
    note = f"{len(copies)} sets of byte-identical images, each kept together in every split: {shortened(copies[0], 3)}"
    return merge_groups(groups, copies), [note]


def file_digest(path: str | Path) -> bytes:
    """BLAKE2b-128 of the bytes of a file.

    Raises:
        DataError: The file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    return digest.digest()
