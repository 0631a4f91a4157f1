"""Reading of image–text pairs: a JSON list, a table (CSV, TSV), or a folder of images and a folder of captions.

Does not access images; ``PairsDataset`` does.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecoder
from typing import Literal, NamedTuple

from clipzoo.commands import typed
from clipzoo.datasets.captions import clean
from clipzoo.datasets.files.folders import entries, kinds, walk
from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.datasets.files.tables.encoding import decode_table
from clipzoo.datasets.samples.missing import how_to_make
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import check_regular, json_kind, natural, near, parse_json, read_bytes, read_text
from clipzoo.text import clean_name, clean_path, csv_rows, differences, find_separator

IMAGE_KEYS = ("image_path", "filepath", "file_path", "link", "path", "image", "img_path", "img", "filename", "file_name")
CAPTION_KEYS = ("caption", "captions", "title", "text", "sentence", "description")
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";"}

_TABLES = (".csv", ".tsv", ".txt")
_INDEXES = ("data.json", "captions.json")


class Pair(NamedTuple):
    """One caption of one image.

    Attributes:
        image: Image path as written.
        caption: Normalised, non-empty caption.
        group: Group of the image; ``None`` if no group is requested.
        where: File and line, for messages.
    """

    image: str
    caption: str
    group: str | None
    where: str


@dataclass(frozen=True)
class Keys:
    """Names of columns or keys; ``None`` finds them by common names.

    Attributes:
        image: Column (of a table) or key (of a JSON object) with the image path.
        caption: Column or key with the caption.
        group: Column or key with the group; ``None`` reads no groups.
        separator: ``'tab'``, ``'comma'``, ``'semicolon'`` or a character.
    """

    image: str | None = None
    caption: str | None = None
    group: str | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        for name in ("image", "caption", "group"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, clean_name(getattr(self, name)))
        separator = self.separator
        if separator is not None and separator not in SEPARATORS and (len(separator) != 1 or separator in '"\r\n'):
            hint = did_you_mean(separator, SEPARATORS)
            raise ConfigError(
                f"data.dataset.separator: {separator!r} is not allowed.{hint} Use tab, comma, semicolon or a single character"
            )
        if self.image is not None and self.image == self.caption:
            raise ConfigError(f"data.dataset: image_key and caption_key are both '{self.image}'. They must name two columns")


@dataclass(frozen=True)
class PairsFile:
    """The pairs of one source.

    Attributes:
        name: File or folder that was read, for messages.
        kind: Kind of the source.
        root: Folder that relative image paths start from.
        pairs: Pairs in the order of the source, at least one.
        notes: Remarks for the reader of a result, one sentence each.
    """

    name: str
    kind: Literal["json", "table", "folder"]
    root: str
    pairs: list[Pair]
    notes: tuple[str, ...] = ()


def expected_pairs(path: str) -> str:
    """The supported forms of pairs, and how to get sample data, for messages."""
    return (
        "Expected one of:\n"
        '    data.json      [{"image_path": "images/1.jpg", "caption": "…"}, …]; a caption may be a list of sentences\n'
        "    data.csv       a header with the column names, such as filepath,title or image_path,caption; also .tsv\n"
        f"    {path + '/':<14} images/NAME.jpg … and captions/NAME.txt …, one caption per line; or a data.json in it\n"
        f"To create sample data: {typed('make_sample_data pairs --out data/pairs')}   (then the path is data/pairs)"
    )


def read_pairs(path: str, keys: Keys) -> PairsFile:
    """Read one source, depending on its kind: a folder, ``.json``, or a table (``.csv``, ``.tsv``, ``.txt``).

    In a folder, ``data.json`` or ``captions.json`` is read if present, otherwise ``images/`` and ``captions/``.

    Raises:
        DataError: The source is missing or has another form; the message gives file and line.
    """
    if os.path.isdir(path):
        return _read_folder(path, keys)
    if not os.path.lexists(path):
        raise DataError(f"{path}: no such file or folder.{near(path)} {how_to_make(path) or expected_pairs('data')}")
    check_regular(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix != ".json" and suffix not in _TABLES:
        raise DataError(f"{path}: unknown kind of file. Supported: .json, {', '.join(_TABLES)}, or a folder")
    text, note = decode_table(path, read_bytes(path)) if suffix != ".json" else (read_text(path), "")
    if not text.strip():
        raise DataError(f"{path}: the file is empty. It may have been partly written; write it again")
    read = _read_json if suffix == ".json" else _read_table
    pairs = list(read(path, text, keys))
    if not pairs:
        raise DataError(f"{path}: contains no pairs, {'the list is empty' if suffix == '.json' else 'only a header'}")
    return PairsFile(path, "json" if suffix == ".json" else "table", os.path.dirname(path) or ".", pairs, (note,) if note else ())


# ---- JSON ----


def _read_json(path: str, text: str, keys: Keys) -> Iterator[Pair]:
    content = parse_json(path, text)
    if not isinstance(content, list):
        raise DataError(f"{path}: must be a JSON list of {{image_path, caption}}, not {json_kind(content)}")
    image_key = caption_key = None
    for item, line in zip(content, _lines_of_items(text), strict=True):
        where = f"{path}:{line}"
        if not isinstance(item, dict):
            raise DataError(f"{where}: must be an object {{image_path, caption}}, not {json_kind(item)}")
        item = _clean_keys(item, where)
        if image_key is None:
            image_key = _find_key(where, "key", list(item), keys.image, IMAGE_KEYS, "image")
            caption_key = _find_key(where, "key", list(item), keys.caption, CAPTION_KEYS, "caption")
        for key in (image_key, caption_key, keys.group):
            if key is not None and key not in item:
                raise DataError(f"{where}: no key '{key}'.{did_you_mean(key, item)} Keys: {shortened(item) or 'none'}")
        image, captions = item[image_key], item[caption_key]
        if not isinstance(image, str):
            raise DataError(f"{where}: '{image_key}' must be a path, not {json_kind(image)}")
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise DataError(f"{where}: '{caption_key}' must be a sentence or a list of sentences, not {json_kind(item[caption_key])}")
        group = None if keys.group is None else _group_of(item[keys.group], where, keys.group)
        for caption in captions or [""]:
            yield _pair(image, caption, group, where)


def _clean_keys(item: dict, where: str) -> dict:
    keys: dict[str, str] = {}
    for key in item:
        name = clean_name(key)
        if name in keys:
            raise DataError(f"{where}: two keys are read as '{name}': {differences(keys[name], key)}. Keep one of them")
        keys[name] = key
    return {name: item[key] for name, key in keys.items()}


def _group_of(value: object, where: str, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise DataError(f"{where}: '{key}' must be a name or a whole number, not {json_kind(value)}")
    return "" if value is None else str(value)


def _lines_of_items(text: str) -> Iterator[int]:
    """The line number of each item in a valid JSON list."""
    decode, between = JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    position = before = text.index("[") + 1
    line = 1 + text.count("\n", 0, position)
    while True:
        position = between.match(text, position).end()
        if text[position] == "]":
            return
        line += text.count("\n", before, position)
        before = position
        yield line
        _, position = decode(text, position)


# ---- tables ----


def _read_table(path: str, text: str, keys: Keys) -> Iterator[Pair]:
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: the file contains zero bytes: it is not text, or was only partly written. Write it again")
    separator = _separator(path, text, keys)
    rows = _rows(path, text, separator)
    line, names = next(rows, (1, [""]))  # a file with only blank cells has one unnamed column
    names = [clean_name(name) for name in names]
    where = f"{path}:{line}"
    if len(names) == 1:
        raise DataError(
            f"{where}: only one column, '{_short(names[0])}'. The first line must name the columns, separated by tab, comma or "
            "semicolon, such as filepath,title; data.dataset.separator sets another separator"
        )
    image_at = names.index(_find_key(where, "column", names, keys.image, IMAGE_KEYS, "image"))
    caption_at = names.index(_find_key(where, "column", names, keys.caption, CAPTION_KEYS, "caption"))
    group_at = None if keys.group is None else names.index(_find_key(where, "column", names, keys.group, (), "group"))
    for line, cells in rows:
        if len(cells) != len(names):
            few, many = "The file may have been only partly written", "Put captions that contain the separator in double quotes"
            advice = few if len(cells) < len(names) else many
            raise DataError(f"{path}:{line}: the row has {len(cells)} columns, the first line names {len(names)}. {advice}")
        yield _pair(cells[image_at], cells[caption_at], None if group_at is None else cells[group_at], f"{path}:{line}")


def _separator(path: str, text: str, keys: Keys) -> str:
    """The given separator, or the one of three whose first row contains the known columns, or else the most columns."""
    if keys.separator is not None:
        return SEPARATORS.get(keys.separator, keys.separator)

    def fits(names: list[str]) -> tuple[bool, int]:
        folded = {name.casefold() for name in names}
        image = bool(folded & set(IMAGE_KEYS)) if keys.image is None else keys.image in names
        caption = bool(folded & set(CAPTION_KEYS)) if keys.caption is None else keys.caption in names
        return image and caption, len(names)

    return find_separator(text, path, fits)


def _rows(path: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Non-empty rows with the numbers of their first lines; the first row is always included."""
    for line, cells in csv_rows(text, path, separator=separator):
        if len(cells) > 1 or cells[0].strip():
            yield line, cells


# ---- folders ----


def _read_folder(path: str, keys: Keys) -> PairsFile:
    inside = {entry.name: entry for entry in entries(path)}
    found = [name for name in _INDEXES if name in inside and inside[name].is_file()]
    if len(found) > 1:
        raise DataError(f"{path}: contains {' and '.join(found)}. Give the intended one: {os.path.join(path, found[0])}")
    if found:
        return read_pairs(os.path.join(path, found[0]), keys)
    images, captions = (os.path.join(path, name) for name in ("images", "captions"))
    if os.path.isdir(images) and os.path.isdir(captions):
        return _read_caption_folder(path, images, captions)
    tables = sorted((name for name in inside if name.lower().endswith((".json", ".csv", ".tsv"))), key=natural)
    if tables:
        names = shortened([os.path.join(path, name) for name in tables], 4)
        raise DataError(f"{path}: contains neither {' nor '.join(_INDEXES)}. Give the intended file: {names}")
    if os.path.isdir(images):
        raise DataError(
            f"{path}: images/ without captions. Write captions/NAME.txt for every image, or a data.json; for images in class folders "
            f"use {typed('make_pairs')}"
        )
    raise DataError(f"{path}: no pairs in this folder. {expected_pairs(path)}")


def _read_caption_folder(path: str, images: str, captions: str) -> PairsFile:
    """Match images and caption files whose paths below ``images`` and ``captions`` differ in the extension only."""
    image_of, ignored = _stems(images, EXTENSIONS)
    file_of, others = _stems(captions, (".txt",))
    alone = [name for name in image_of if name not in file_of]
    if alone:
        names = shortened([f"images/{os.path.relpath(image_of[name], images)}" for name in alone], 3)
        hint = did_you_mean(alone[0], [name for name in list(file_of)[:500] if name not in image_of])
        raise DataError(f"{path}: {len(alone)} images have no captions/NAME.txt: {names}.{hint} Write their captions or remove the images")
    alone = [name for name in file_of if name not in image_of]
    if alone:
        names = shortened([f"captions/{name}.txt" for name in alone], 3)
        raise DataError(f"{path}: {len(alone)} caption files have no image: {names}. Add the images or remove the captions")
    if not image_of:
        raise DataError(f"{path}: images/ and captions/ are empty. {expected_pairs(path)}")
    pairs = []
    for name, image in image_of.items():
        lines = [(n, line) for n, line in enumerate(io.StringIO(read_text(file_of[name]), newline=None), start=1) if line.strip()]
        relative = os.path.join("images", os.path.relpath(image, images))
        for n, line in lines or [(1, "")]:
            pairs.append(_pair(relative, line, None, f"{file_of[name]}:{n}"))
    notes = (f"files that are neither images nor captions were ignored: {kinds(ignored + others)}",) if ignored + others else ()
    return PairsFile(path, "folder", path, pairs, notes)


def _stems(folder: str, extensions: tuple[str, ...]) -> tuple[dict[str, str], Counter[str]]:
    """Path by normalised path without extension below ``folder``, sorted; and the number of other files per extension."""
    found: dict[str, str] = {}
    others: Counter[str] = Counter()
    for entry in walk(folder):
        stem, extension = os.path.splitext(os.path.relpath(entry.path, folder))
        name = clean_path(stem)
        if extension.lower() not in extensions:
            others[extension.lower() or "(none)"] += 1
        elif found.setdefault(name, entry.path) != entry.path:
            raise DataError(f"{entry.path}: {found[name]!r} differs only in the extension. Rename one of them, and its captions")
    return dict(sorted(found.items())), others


# ---- shared ----


def _pair(image: str, caption: str, group: str | None, where: str) -> Pair:
    image, caption = image.strip(), clean(caption)
    if not image:
        raise DataError(f"{where}: empty image path")
    if not caption:
        raise DataError(f"{where}: empty caption for '{image}'. Write a sentence, or remove the entry")
    if group is not None:
        group = clean(group)
        if not group:
            raise DataError(f"{where}: empty group for '{image}'. Treating it as a group of its own could split a patient")
    return Pair(image, caption, group, where)


def _find_key(where: str, what: str, names: list[str], wanted: str | None, usual: tuple[str, ...], role: str) -> str:
    """The column or key for ``role``: ``wanted``, or the only one with a common name."""
    setting = f"data.dataset.{role}_key"
    found = [name for name in names if (name.casefold() in usual if wanted is None else name == wanted)]
    if len(found) == 1:
        return found[0]
    named = f"{'Columns' if what == 'column' else 'Keys'}: {shortened([_short(name) for name in names]) or 'none'}"
    if len(found) != len(set(found)):
        raise DataError(f"{where}: duplicate column '{max(found, key=found.count)}'. Rename one of them")
    if found:
        raise DataError(f"{where}: ambiguous {role}: {what} '{found[0]}' or '{found[1]}'. Set {setting}. {named}")
    if wanted is not None:
        raise DataError(f"{where}: no {what} '{wanted}' ({setting}).{did_you_mean(wanted, names)} {named}")
    if any(name.lower().endswith(EXTENSIONS) for name in names):
        raise DataError(f"{where}: the first line must name the columns, such as filepath and title, but it looks like data. {named}")
    raise DataError(f"{where}: cannot find the {what} for the {role}: none has a common name such as '{usual[0]}'. Set {setting}. {named}")


def _short(name: str, limit: int = 40) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
