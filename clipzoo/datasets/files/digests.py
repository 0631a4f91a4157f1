"""Digests of files that are read once: later, size and times vouch for the bytes, unless the clock was too coarse to tell a change."""

from __future__ import annotations

import time
from typing import NamedTuple

from clipzoo.datasets.files.copies import file_digest
from clipzoo.files import check_regular

_TICK = 2 * 10**9  # nanoseconds; no file system has a coarser clock than FAT


class FileState(NamedTuple):
    """What is compared without reading a file.

    Attributes:
        size: In bytes.
        modified: When the content was changed, in nanoseconds since 1970.
        changed: When anything of the file was changed. Programs set the other time back, but not this one.
    """

    size: int
    modified: int
    changed: int


class FileDigest(NamedTuple):
    """Of a file's bytes.

    Attributes:
        digest: BLAKE2b-128, hexadecimal.
        state: Of the file, from before it was read.
        read_at: When, in nanoseconds since 1970.
    """

    digest: str
    state: FileState
    read_at: int

    def holds_for(self, state: FileState) -> bool:
        """Does a file in this state still have these bytes? A file that had just been written may have changed within a tick since."""
        return self.state == state and max(state.modified, state.changed) < self.read_at - _TICK


class FileDigests:
    """Digests by path; those that are known and still hold are not computed again. For any number of threads."""

    def __init__(self) -> None:
        self._known: dict[str, FileDigest] = {}

    def add(self, path: str, found: FileDigest) -> None:
        """What an earlier process found."""
        self._known.setdefault(path, found)

    def of(self, path: str) -> FileDigest:
        """The digest of a file as it is now.

        Raises:
            DataError: It is missing, not a regular file, or cannot be read.
        """
        status, now = check_regular(path), time.time_ns()
        state = FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known.get(path)
        if known is None or not known.holds_for(state):
            known = self._known[path] = FileDigest(file_digest(path).hex(), state, now)
        return known
