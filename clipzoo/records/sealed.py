"""Sealed zip archives: checkpoints and caches, as torch and numpy write them, with a SHA-256 in the archive's comment.

Neither library verifies what it reads: a flipped bit in a weight loads without error. The seal covers every byte before it and is
itself compared, so that every flip is detected. An archive without a seal was written by another program.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.files import check_regular, reason

_MARK = b"clipzoo sha256 "
_SEAL_BYTES = len(_MARK) + 64
_LENGTH = struct.Struct("<H")  # length of the comment; the last field of a zip archive without one


def seal(path: str | Path) -> str:
    """Write the digest of the archive at ``path``, which must have no comment yet, into its comment.

    Returns:
        The digest, 64 hexadecimal digits.
    """
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END) - _LENGTH.size
        digest = _digest(file, end)
        assert file.read() == _LENGTH.pack(0), "an archive without a comment is expected"
        file.seek(end)
        file.write(_LENGTH.pack(_SEAL_BYTES) + _MARK + digest.encode("ascii"))
    return digest


def check_seal(path: str | Path) -> str:
    """Verify every byte of a sealed archive and return its digest.

    Raises:
        DataError: The file is missing or not a regular file, has no seal, or its content does not match the seal.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END) - _SEAL_BYTES - _LENGTH.size
            if end < 0:
                raise DataError(f"{path}: truncated, or not written by clipzoo")
            digest = _digest(file, end)
            length, mark, sealed = (file.read(size) for size in (_LENGTH.size, len(_MARK), 64))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    if length != _LENGTH.pack(_SEAL_BYTES) or mark != _MARK:
        raise DataError(f"{path}: truncated, or not written by clipzoo (it has no digest of its content)")
    if sealed != digest.encode("ascii"):
        raise DataError(f"{path}: damaged (its content does not match its digest)")
    return digest


def _digest(file, end: int) -> str:
    """SHA-256 of the first ``end`` bytes; leaves the file position at ``end``."""
    file.seek(0)
    digest, left = hashlib.sha256(), end
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()
