"""Results about image files, remembered in the cache folder until one of the files changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from clipzoo.datasets.base import Dataset
from clipzoo.errors import CheckpointError, DataError
from clipzoo.files import cache_folder
from clipzoo.records.json_records import read_record, write_record

T = TypeVar("T")


def record_of(images: Dataset, folder: str, version: int) -> Path | None:
    """The file that remembers a result about exactly these images: their ids and states (of files: paths, sizes and times).

    Args:
        images: Dataset of single images.
        folder: Folder of this kind of result in the cache folder.
        version: Version of the code that makes the result.

    Returns:
        The path, or ``None`` without a cache folder or if the state of an image is unknown.
    """
    from PIL import __version__ as pillow

    cache = cache_folder()
    if cache is None:
        return None
    digest = hashlib.sha256(json.dumps([version, pillow, type(images).__qualname__, getattr(images, "frame", None)]).encode())
    for row, case in enumerate(images.cases):
        state = images.image_state(row)
        if state is None:
            return None
        digest.update(json.dumps([case.id, *state]).encode())
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
