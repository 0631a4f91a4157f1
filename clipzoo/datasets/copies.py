"""Which files are copies of each other, byte for byte."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from clipzoo.datasets.groups import merge_groups
from clipzoo.errors import DataError, shortened


def copies_among(files: Iterable[tuple[str, str, int]]) -> list[list[str]]:
    """Sets of names whose files have the same bytes, each in the given order. Only files of equal size are read.

    Args:
        files: For each file a name, its path and its size in bytes.

    Raises:
        DataError: A file cannot be read.
    """
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for name, path, size in files:
        by_size[size].append((name, path))
    by_content: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for size, same_size in by_size.items():
        if len(same_size) > 1:
            for name, path in same_size:
                by_content[size, file_digest(path)].append(name)
    return [same for same in by_content.values() if len(same) > 1]


def merge_copies(groups: dict[str, str], copies: list[list[str]]) -> tuple[dict[str, str], list[str]]:
    """The groups with every set of copies in one of them, and the note that says so; unchanged, and no note, where there are no copies.

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
        DataError: It cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.digest()
