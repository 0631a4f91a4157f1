"""Reading and writing of the JSON files of a run: one dataclass per kind of file, whose annotations define the content.

Each file contains a SHA-256 of its own content, so that any edit or damage is detected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

from clipzoo.config.annotations import described, fits, hints_of
from clipzoo.errors import CheckpointError, ClipzooError, DataError, shortened
from clipzoo.files import finite, json_kind, read_json, write_json
from clipzoo.records.provenance import digest_of

T = TypeVar("T")
DIGEST = "sha256"
NAN_INSIDE = {"nan": True}  # metadata of a field whose content holds numbers at some depth that may be NaN


def write_record(path: str | Path, content: Mapping) -> None:
    """Write plain ``content`` and its digest atomically; NaN becomes ``null``."""
    plain = finite(content)
    write_json(path, {**plain, DIGEST: digest_of(plain)})


def read_record(cls: type[T], path: str | Path, advice: str, error: type[ClipzooError] = CheckpointError) -> T:
    """Read a JSON file into the dataclass ``cls``. In float fields ``null`` is read as NaN, the inverse of ``write_json``.

    Args:
        cls: Dataclass whose fields are the keys, with their types; fields with a default are optional.
        path: JSON file.
        advice: Last sentence of error messages: what to do.
        error: Class of the raised error.

    Raises:
        CheckpointError: The file is missing, unreadable, damaged or not JSON, or has missing, unknown or mistyped keys.
    """
    return as_record(cls, read_plain(path, advice, error), path, advice, error)


def read_plain(path: str | Path, advice: str, error: type[ClipzooError] = CheckpointError) -> dict:
    """Read what ``write_record`` wrote, and verify its digest.

    Raises:
        CheckpointError: The file is missing, unreadable, damaged or not JSON.
    """
    try:
        content = read_json(path)
    except DataError as cause:
        raise error(f"{cause}. {advice}") from cause
    if not isinstance(content, dict):
        raise error(f"{path}: must be a JSON object, not {json_kind(content)}. {advice}")
    digest = content.pop(DIGEST, None)
    if digest != digest_of(content):
        what = "has no digest of its content" if digest is None else "damaged or edited (its content does not match its digest)"
        raise error(f"{path}: {what}. {advice}")
    return content


def as_record(cls: type[T], content: Mapping, where: object, advice: str, error: type[ClipzooError] = CheckpointError) -> T:
    """Convert plain ``content`` to the dataclass; see ``read_record``."""
    hints, needed, known, nested = _shape(cls)
    problems = [f"{name} is missing" for name in needed if name not in content]
    problems += [f"{name} is unknown" for name in content if name not in known]
    values = {name: _nested_nan(v) if name in nested else _with_nan(v, hints[name]) for name, v in content.items() if name in known}
    problems += [f"{name} is not {described(hints[name])}" for name, value in values.items() if not fits(value, hints[name])]
    if problems:
        raise error(f"{where}: damaged, or from another version: {shortened(problems, 3)}. {advice}")
    return cls(**values)


@cache
def _shape(cls: type) -> tuple[dict, list[str], set[str], set[str]]:
    """Annotations, required fields, all fields, and those with ``NAN_INSIDE``."""
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return hints_of(cls), needed, {f.name for f in fields(cls)}, {f.name for f in fields(cls) if f.metadata.get("nan")}


def _nested_nan(value: object) -> object:
    """Convert ``null`` to NaN at any depth: for fields declared with ``NAN_INSIDE``."""
    if isinstance(value, Mapping):
        return {key: _nested_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nested_nan(item) for item in value]
    return math.nan if value is None else value


def _with_nan(value: object, hint: object) -> object:
    """Convert ``null`` to NaN where only a float fits."""
    if value is None and hint is float:
        return math.nan
    if isinstance(value, Mapping) and getattr(hint, "__args__", (None, None))[-1] is float:
        return {key: math.nan if item is None else item for key, item in value.items()}
    return value
