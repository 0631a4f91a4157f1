"""Results about image files, remembered in the cache folder until one of the files changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.errors import CheckpointError, DataError
from clipzoo.files import cache_folder, check_regular
from clipzoo.records.json_records import read_record, write_record

T = TypeVar("T")


def record_of(images: FileDataset, folder: str, version: int) -> Path | None:
    """The file that remembers a result about exactly these files: their ids, paths, sizes and times.

    Args:
        images: Dataset of single images.
        folder: Folder of this kind of result in the cache folder.
        version: Version of the code that makes the result.

    Returns:
        The path, or ``None`` without a cache folder or if a file is missing.
    """
    from PIL import __version__ as pillow

    cache = cache_folder()
    if cache is None:
        return None
    digest = hashlib.sha256(json.dumps([version, pillow, type(images).__qualname__, images.frame]).encode())
    for row, case in enumerate(images.cases):
        path = images.path_of(row)
        try:
            status = check_regular(path)
        except DataError:
            return None
        state = [case.id, os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        digest.update(json.dumps(state).encode())
    return cache / folder / f"{digest.hexdigest()[:32]}.json"


def read_remembered(cls: type[T], record: Path | None) -> T | None:
    """The remembered result as ``cls``; ``None`` if there is none, or it is damaged."""
    if record is None or not record.exists():
        return None
    try:
        return read_record(cls, record, "")
    except CheckpointError:
        return None


def remember(record: Path | None, content: Mapping) -> None:
    """Write a result. If the cache folder is full or not writable, nothing is kept, and the next start makes it again."""
    if record is not None:
        try:
            write_record(record, content)
        except DataError:
            pass
