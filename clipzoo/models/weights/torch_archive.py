"""Zip archives written by torch, verified before use.

torch itself neither compares checksums nor refuses duplicate entries, and its reader ignores case in names: a flipped bit is loaded,
and two readers may see different content.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.files import check_regular, reason

_CHUNK = 1 << 20
_MOST_UNPACKED = 1 << 30  # bytes of compressed entries; only TorchScript has any, for its code
_LARGEST_ENDING = 22 + 0xFFFF  # the last record of a zip archive, and the longest comment
# Exceptions that zipfile raises for a damaged archive.
_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, OverflowError),
    *(RuntimeError, IndexError),  # NotImplementedError is a RuntimeError; IndexError: a field of an entry is truncated
)


def verify_archive(path: str | Path) -> None:
    """Verify the checksum of every entry of a zip archive, and refuse names that two readers could interpret differently.

    Raises:
        DataError: The file is missing, not such an archive, damaged, or ambiguous.
    """
    with verified(path):
        pass


@contextlib.contextmanager
def verified(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive after ``verify_archive``."""
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            _check_ending(path)
            _check_names(archive)
            _check_contents(archive)
        except _ERRORS as error:
            raise DataError(f"{path}: damaged, or not an archive of torch ({reason(error).rstrip('.')})") from error
        yield archive


def is_script(path: str | Path) -> bool:
    """Is this a TorchScript archive? Decided as in torch's reader, ignoring case in names."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.lower() for name in archive.namelist()]
    except _ERRORS:
        return False
    return any(name.endswith("constants.pkl") or "/code/" in name for name in names)


def pickle_mentions(path: str | Path, text: str) -> bool:
    """Does an archive's pickle contain this text? A cheap test before the archive is verified and read."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            return name is not None and text.encode() in archive.read(name)
    except _ERRORS:
        return False


def _check_ending(path: str | Path) -> None:
    """The archive's last record must end at the end of the file; otherwise there may be two."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LARGEST_ENDING))
        tail = file.read()
    start = tail.rfind(b"PK\x05\x06")
    comment = int.from_bytes(tail[start + 20 : start + 22], "little")
    if start + 22 + comment != len(tail):
        raise zipfile.BadZipFile("there are bytes after its end")


def _check_names(archive: zipfile.ZipFile) -> None:
    """Every entry must be in the archive's single folder, under a unique name."""
    seen: set[str] = set()
    names = [info.orig_filename for info in archive.infolist()]
    if not names:
        raise zipfile.BadZipFile("it is empty")
    root = names[0].partition("/")[0]
    for name in names:
        parts = name.removesuffix("/").split("/")
        if {"", ".", ".."} & {*parts} or any(c in name for c in "\\\0") or len(name) > 1 and name[1] == ":":
            raise zipfile.BadZipFile(f"the entry {name!r} points outside the archive")
        if parts[0] != root:
            raise zipfile.BadZipFile(f"the entry {name!r} is not in its folder {root!r}")
        if name.casefold() in seen:
            raise zipfile.BadZipFile(f"the entry {name!r} occurs twice")
        seen.add(name.casefold())


def _check_contents(archive: zipfile.ZipFile) -> None:
    packed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    unpacked = sum(info.file_size for info in packed)
    if unpacked > _MOST_UNPACKED:
        raise zipfile.BadZipFile(f"its compressed entries would expand to {unpacked >> 20} MiB")
    for info in archive.infolist():
        with archive.open(info) as entry:  # compares the checksum when the end is reached
            while entry.read(_CHUNK):
                pass
