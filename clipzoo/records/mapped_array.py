"""A numeric array in a file of its own, read through a memory map: processes share its pages, and only those that are used are loaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from clipzoo.errors import DataError
from clipzoo.files import check_regular, reason, write_atomically

_MARK = b"clipzoo sha256 "
_SEAL_BYTES = len(_MARK) + 64


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a sealed ``.npy`` atomically; numpy and other programs ignore the digest at its end.

    Raises:
        DataError: The file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w+b") as file:
            np.save(file, array, allow_pickle=False)
            digest = _digest(file, file.tell())
            file.write(_MARK + digest)

    write_atomically(path, write)


def map_array(path: Path, kinds: tuple[str, ...], ndim: int = 2) -> np.ndarray:
    """The array of a sealed ``.npy``, every byte of which is verified; changes of it stay in this process.

    Args:
        path: The file.
        kinds: Dtypes that it may have, such as ``'uint16'``.
        ndim: Number of its dimensions.

    Raises:
        DataError: The file is missing, damaged, or contains another array.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) - _SEAL_BYTES
            if end < 0 or _MARK + _digest(file, end) != file.read():
                raise DataError(f"{path}: damaged, or not written by clipzoo (its content does not match its digest)")
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    if found.dtype.name not in kinds or found.ndim != ndim:
        raise DataError(f"{path}: does not contain the expected array (it has {found.dtype} of shape {found.shape})")
    return found


def _digest(file, end: int) -> bytes:
    """SHA-256 of the first ``end`` bytes, 64 hexadecimal digits; leaves the file position at ``end``."""
    file.seek(0)
    digest, left = hashlib.sha256(), end
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest().encode("ascii")
