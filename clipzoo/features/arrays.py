"""Numpy archives of data that can be recomputed: sealed when written, and rejected if damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipzoo.errors import DataError
from clipzoo.files import write_atomically
from clipzoo.records.sealed import check_seal, seal


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a sealed ``.npz`` atomically.

    Raises:
        DataError: The file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        seal(temporary)

    write_atomically(path, write)


def read_arrays(path: Path, **kinds: str) -> dict[str, np.ndarray]:
    """The arrays of a sealed ``.npz``.

    Args:
        path: The file.
        kinds: The dtype of every array that the file must contain: ``'f4'``, or ``'S'`` for bytes of any length.

    Raises:
        DataError: The file is missing, damaged, was not written by ``write_arrays``, or contains other arrays.
    """
    check_seal(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
    except Exception as error:  # numpy, zipfile and zlib raise many types
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from error
    other = {name: array.dtype.str for name, array in found.items() if not _is_of(array.dtype, kinds.get(name))}
    if other or found.keys() != kinds.keys():
        raise DataError(f"{path}: does not contain the expected arrays (it has {', '.join(sorted(other or found)) or 'none'})")
    return found


def _is_of(dtype: np.dtype, kind: str | None) -> bool:
    return dtype.kind == kind if kind == "S" else kind is not None and dtype == np.dtype(kind)
