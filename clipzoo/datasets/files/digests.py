"""Cached file digests: size and times stand for the bytes, unless the clock was too coarse to detect a change."""

from __future__ import annotations

import time
from typing import NamedTuple

from clipzoo.datasets.files.copies import file_digest
from clipzoo.files import check_regular

_TICK = 2 * 10**9  # nanoseconds; no file system has a coarser clock than FAT


class FileState(NamedTuple):
    """File attributes that are compared without reading the file.

    Attributes:
        size: Size in bytes.
        modified: Time of the last content change, in nanoseconds since 1970.
        changed: Time of the last change of anything in the file's inode. Programs can set the other time back, but not this one.
    """

    size: int
    modified: int
    changed: int


class FileDigest(NamedTuple):
    """Digest of a file's bytes.

    Attributes:
        digest: BLAKE2b-128, hexadecimal.
        state: State of the file before it was read.
        read_at: Time of reading, in nanoseconds since 1970.
    """

    digest: str
    state: FileState
    read_at: int

    def holds_for(self, state: FileState) -> bool:
        """Does a file in this state still have these bytes? A file written just before may have changed within the clock resolution."""
        return self.state == state and max(state.modified, state.changed) < self.read_at - _TICK


class FileDigests:
    """Digests by path; valid known digests are not computed again. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, FileDigest] = {}

    def add(self, path: str, found: FileDigest) -> None:
        """Add a digest found by an earlier process."""
        self._known.setdefault(path, found)

    def of(self, path: str) -> FileDigest:
        """The digest of a file in its current state.

        Raises:
            DataError: The file is missing, not a regular file, or unreadable.
        """
        status, now = check_regular(path), time.time_ns()
        state = FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known.get(path)
        if known is None or not known.holds_for(state):
            known = self._known[path] = FileDigest(file_digest(path).hex(), state, now)
        return known
