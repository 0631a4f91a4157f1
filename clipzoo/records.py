"""The door for JSON files that a run leaves: one dataclass per kind of file, whose annotations say what is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TypeVar

from clipzoo.annotations import described, fits, hints_of
from clipzoo.errors import CheckpointError, DataError, shortened
from clipzoo.files import json_kind, read_json

T = TypeVar("T")


def read_record(cls: type[T], path: str | Path, advice: str) -> T:
    """Read the JSON file of the dataclass ``cls``. Where it wants a float, ``null`` is NaN, as ``write_json`` writes it.

    Args:
        cls: Its fields are the keys, its annotations their types; fields with a default may be missing.
        path: The file.
        advice: Last sentence of a message: what to do.

    Raises:
        CheckpointError: The file is missing, unreadable or no JSON, or keys are missing, unknown or of another type.
    """
    try:
        content = read_json(path)
    except DataError as error:
        raise CheckpointError(f"{error}. {advice}") from error
    return as_record(cls, content, path, advice)


def as_record(cls: type[T], content: object, where: object, advice: str) -> T:
    """The dataclass that plain ``content`` describes; see ``read_record``."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where}: must be a JSON object, not {json_kind(content)}. {advice}")
    hints = hints_of(cls)
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    known = {f.name for f in fields(cls)}
    problems = [f"{name} is missing" for name in needed if name not in content]
    problems += [f"{name} is unknown" for name in content if name not in known]
    values = {name: _with_nan(value, hints[name]) for name, value in content.items() if name in known}
    problems += [f"{name} is not {described(hints[name])}" for name, value in values.items() if not fits(value, hints[name])]
    if problems:
        raise CheckpointError(f"{where}: damaged, or of another version: {shortened(problems, 3)}. {advice}")
    return cls(**values)


def _with_nan(value: object, hint: object) -> object:
    """``null`` as NaN where only a float fits."""
    if value is None and hint is float:
        return math.nan
    if isinstance(value, Mapping) and getattr(hint, "__args__", (None, None))[-1] is float:
        return {key: math.nan if item is None else item for key, item in value.items()}
    return value
