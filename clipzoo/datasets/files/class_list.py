"""Class lists of image collections: folder names in words, and the class of every image."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from clipzoo.datasets.captions import clean
from clipzoo.errors import DataError
from clipzoo.files import json_kind, parse_json, read_text
from clipzoo.text import clean_name, clean_path, csv_rows, find_separator

_HEADER_WORDS = ("folder", "class", "class_id", "wnid", "synset", "id", "label") + (
    "image",
    "image_path",
    "filepath",
    "file",
    "filename",
    "path",
)


def read_class_list(path: str | Path) -> dict[str, list[str]]:
    """Read the names of every class, by folder, from one of:

    * JSON: ``{folder: name or list of names}``;
    * CSV: the folder first, then names; a header is recognised by a first cell such as ``folder`` or ``wnid``;
    * text: a folder, a tab (or a space), and names with commas between, as in the ``words.txt`` of ImageNet.

    Folders that do not exist may be listed.

    Raises:
        DataError: The file has another form, or a folder has no name or is listed twice with different names.
    """
    listed: dict[str, list[str]] = {}
    whole = _kind(path) == "json"  # a name may contain a comma there
    for key, values, where in _entries(path, clean_name):
        words = values if whole else [word for value in values for word in value.split(",")]
        names = list(dict.fromkeys(filter(None, map(clean, words))))
        if not names:
            raise DataError(f"{where}: no name for '{key}'. Write it after a tab, as in: {key}<tab>brown bear, bruin")
        if listed.setdefault(key, names) != names:
            raise DataError(f"{where}: '{key}' is already listed, as '{listed[key][0]}'. Give all its names in one entry")
    if not listed:
        raise DataError(f"{path}: the class list is empty")
    return listed


def read_annotations(path: str | Path) -> dict[str, str]:
    """Read the class of every image, by path, from one of:

    * JSON: ``{image: class}``;
    * CSV: the image first, then the class; a header is recognised by a first cell such as ``image`` or ``filename``;
    * text: an image, a tab (or a space), and the class, as in the ``val_annotations.txt`` of Tiny ImageNet.

    Anything after the class is ignored.

    Raises:
        DataError: The file has another form, or an image has no class or two classes.
    """
    classes: dict[str, str] = {}
    for key, values, where in _entries(path, clean_path, splits=2):
        name = clean(next(iter(values), ""))
        if not name:
            raise DataError(f"{where}: no class for '{key}'")
        if classes.setdefault(key, name) != name:
            raise DataError(f"{where}: '{key}' has both class '{classes[key]}' and class '{name}'")
    if not classes:
        raise DataError(f"{path}: no annotations in this file")
    return classes


def _kind(path: str | Path) -> str:
    return {".json": "json", ".csv": "csv"}.get(Path(path).suffix.lower(), "text")


def _entries(path: str | Path, cleaned: Callable[[str], str], splits: int = 1) -> Iterator[tuple[str, list[str], str]]:
    """Yield key, values, and file and line of every entry.

    Args:
        path: The list file.
        cleaned: Function that normalises keys.
        splits: Maximum number of spaces that separate fields in a text line without tabs; further spaces belong to the last value.
    """
    text = read_text(path)
    rows = {"json": _json_rows, "csv": _csv_rows, "text": partial(_text_rows, splits=splits)}[_kind(path)]
    for where, (key, *values) in rows(path, text):
        if not key.strip():
            raise DataError(f"{where}: the entry has no key. Start it with a folder or an image")
        yield cleaned(key), values, where


def _json_rows(path: str | Path, text: str) -> Iterator[tuple[str, list[str]]]:
    content = parse_json(path, text)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be a JSON object {{folder: name}}, not {json_kind(content)}")
    for key, value in content.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise DataError(f"{path}: '{key}' must be a name or a list of names, not {json_kind(value)}")
        yield str(path), [key, *values]


def _csv_rows(path: str | Path, text: str) -> Iterator[tuple[str, list[str]]]:
    rows = csv_rows(text, path, separator=find_separator(text, path, len))
    for number, (line, cells) in enumerate(rows):
        header = number == 0 and clean_name(cells[0]).casefold() in _HEADER_WORDS
        if any(cell.strip() for cell in cells) and not header:
            yield f"{path}:{line}", cells


def _text_rows(path: str | Path, text: str, splits: int) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield f"{path}:{number}", line.rstrip("\n").split("\t") if "\t" in line else line.split(None, splits)
