"""Which kind of data a path holds, as a spec for ``data.dataset``: class folders, given parts, a table with labels, pairs, or shards."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from clipzoo.datasets.files.folders import entries, is_image, supported, walk
from clipzoo.datasets.files.pairs import CAPTION_KEYS, IMAGE_KEYS
from clipzoo.datasets.files.tables.columns import Columns
from clipzoo.datasets.files.tables.sheet import Sheet, read_sheet
from clipzoo.datasets.shards.paths import shard_paths
from clipzoo.errors import BuildError, ConfigError, DataError, shortened
from clipzoo.files import natural, near, parse_json, read_text

Kind = Literal["class folders", "given parts", "table", "pairs"]
_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm")
_OWN_TABLES = ("groups.csv", "attributes.csv")  # beside class folders; they have no labels
_INDEXES = ("data.json", "captions.json")
_EXPECTED = "Expected class folders, a table with the columns path and label (CSV, TSV, XLSX), or image-text pairs (JSON, CSV, shards)"
_SHARD = ".tar"


@dataclass(frozen=True)
class Source:
    """Where the data are.

    Attributes:
        kind: Kind of the data.
        spec: Spec for ``data.dataset``.
        notes: Remarks on the choice, one sentence each.
    """

    kind: Kind
    spec: dict[str, object]
    notes: tuple[str, ...] = ()


def find_source(path: str, images: str | None = None) -> Source:
    """Recognise the data at ``path``.

    A table with labels wins over folders beside it, since folders may be patients or visits.

    Args:
        path: Folder, or file of a table or of pairs.
        images: Folder that relative image paths in a table or in pairs start from; ``None`` uses the file's own.

    Raises:
        ConfigError: ``images`` is given for class folders.
        DataError: Nothing here is a data set, or it is ambiguous which one is meant.
    """
    if os.path.isdir(path):
        source = _of_folder(path)
    elif os.path.lexists(path) or path.endswith(_SHARD):  # braces or a glob of shards
        source = _of_file(path)
    else:
        raise DataError(f"{path}: no such file or folder.{near(path)} {_EXPECTED}")
    if images is None:
        return source
    if not os.path.isdir(images):
        raise DataError(f"--images: {images}: no such folder.{near(images)}")
    if source.kind in ("class folders", "given parts") or source.spec["type"] == "ShardPairs":
        kind = "shards" if source.spec["type"] == "ShardPairs" else source.kind
        raise ConfigError(f"--images: {path} has {kind}, which contain their images. Remove --images, or name a table")
    return Source(source.kind, {**source.spec, "image_root": images}, source.notes)


def _of_file(path: str) -> Source:
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".json":
        return Source("pairs", {"type": "PairsDataset", "path": path, **_json_group(path)})
    if suffix == _SHARD:
        return _of_shards(path)
    if suffix not in _TABLES:
        raise DataError(
            f"{path}: not a table or a list of pairs. Supported: .json, {_SHARD}, {', '.join(_TABLES)}, or a folder. {_EXPECTED}"
        )
    source = _of_table(path, read_sheet(path, _score))
    if source is None:
        columns = shortened(read_sheet(path, _score).columns)
        raise DataError(
            f"{path}: no column for the label or the caption: none has a usual name such as label, 标签 or caption. Rename one. "
            f"Columns: {columns}"
        )
    return source


def _score(names: list[str]) -> int:
    """How well a row fits as the header of a table with labels or captions."""
    folded = {name.casefold() for name in names}
    return Columns().score(names) + len(folded & {*CAPTION_KEYS, *IMAGE_KEYS})


def _of_table(path: str, sheet: Sheet) -> Source | None:
    """The source that a table is; ``None`` if it has neither labels nor captions."""
    roles, group = Columns().roles(sheet.columns), _group_key(sheet.columns)
    if "label" in roles:
        return Source("table", {"type": "TableDataset", "path": path})
    if {name.casefold() for name in sheet.columns} & set(CAPTION_KEYS):
        if path.lower().endswith((".xlsx", ".xlsm")):
            raise DataError(f"{path}: captions in a workbook. Save the table as CSV UTF-8, and give that")
        return Source("pairs", {"type": "PairsDataset", "path": path, **group})
    return None


def _group_key(names: Iterable[str]) -> dict[str, str]:
    """The argument for the only column or key with the usual name of a group; empty without one."""
    found = Columns().roles(names).get("group", [])
    return {"group_key": found[0]} if len(found) == 1 else {}


def _json_group(path: str) -> dict[str, str]:
    """The key of the group in the first object of a list of pairs."""
    content = parse_json(path, read_text(path))
    first = content[0] if isinstance(content, list) and content else None
    return _group_key(first) if isinstance(first, dict) else {}


def _of_shards(path: str) -> Source:
    """Shards; the first ``.json`` of the first one tells the key of the group."""
    group = {}
    with contextlib.suppress(OSError, tarfile.TarError, ValueError), tarfile.open(shard_paths(path)[0], "r:") as shard:
        described = next((member for member in shard if member.isfile() and member.name.lower().endswith(".json")), None)
        first = json.load(shard.extractfile(described)) if described is not None else None
        group = _group_key(first) if isinstance(first, dict) else {}
    return Source("pairs", {"type": "ShardPairs", "shards": path, **group})


def _of_folder(path: str) -> Source:
    inside = {entry.name: entry for entry in entries(path)}
    folders = sorted((name for name, entry in inside.items() if entry.is_dir()), key=natural)
    for name in _INDEXES:
        if name in inside:
            found = _of_file(os.path.join(path, name))
            return Source("pairs", {**found.spec, "path": path})
    if {"images", "captions"} <= set(folders):
        return Source("pairs", {"type": "PairsDataset", "path": path})
    table = _table_in(path, [name for name in inside if name not in folders], len(folders))
    if table is not None and (table.kind == "table" or len(folders) < 2):
        return table
    if any(name.endswith(_SHARD) for name in inside if name not in folders):
        return _of_shards(path)
    return _of_class_folders(path, folders)


def _table_in(path: str, names: list[str], num_folders: int) -> Source | None:
    """The only table with labels or captions in a folder. Beside folders, which may be classes, unreadable tables are passed over.

    Raises:
        BuildError: The only table is a workbook, and openpyxl is not installed.
        DataError: Several tables have labels, or the only one cannot be read.
    """
    found, problems = [], []
    for name in sorted(names, key=natural):
        if not name.lower().endswith(_TABLES) or name.lower().endswith(".txt") or name in _OWN_TABLES or name.startswith("~$"):
            continue
        full = os.path.join(path, name)
        try:
            source = _of_table(full, read_sheet(full, _score))
        except (BuildError, DataError) as problem:
            problems.append(problem)
            continue
        if source is not None:
            note = f"the labels are those of {full}, not the names of folders"
            found.append(Source(source.kind, source.spec, (note,) if source.kind == "table" else ()))
    if problems and not found and num_folders < 2:
        raise problems[0]
    labelled = [source for source in found if source.kind == "table"] or found
    if len(labelled) > 1:
        raise DataError(f"{path}: several tables: {shortened([source.spec['path'] for source in labelled], 4)}. Give one of them")
    return labelled[0] if labelled else None


def _of_class_folders(path: str, folders: list[str]) -> Source:
    parts = {name.casefold(): name for name in folders}
    given = {part: next((parts[name] for name in names if name in parts), None) for part, names in _PARTS.items()}
    if given["train"] and (given["val"] or given["test"]) and _has_folders(os.path.join(path, given["train"])):
        spec = {"type": "ImageFolderDataset", "root": os.path.join(path, given["train"])}
        spec |= {f"{part}_root": os.path.join(path, given[part]) for part in ("val", "test") if given[part]}
        return Source("given parts", {**spec, **_texts_and_groups(path)})
    if "images" in folders and _has_folders(os.path.join(path, "images")):
        return Source("class folders", {"type": "ImageFolderDataset", "root": os.path.join(path, "images"), **_texts_and_groups(path)})
    if not any(is_image(entry.path) for entry in walk(path)):
        raise DataError(f"{path}: no images (supported: {supported()}) and no table with labels or captions. {_EXPECTED}")
    if not folders:
        raise DataError(f"{path}: images, but no class folders and no table with labels or captions. {_EXPECTED}")
    beside = os.path.dirname(os.path.normpath(path)) if os.path.basename(os.path.normpath(path)) == "images" else path
    return Source("class folders", {"type": "ImageFolderDataset", "root": path, **_texts_and_groups(beside or ".")})


_PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def _has_folders(path: str) -> bool:
    return sum(entry.is_dir() for entry in entries(path)) > 1


def _texts_and_groups(folder: str) -> dict[str, str]:
    """Descriptions and groups in the files that the documentation names."""
    names = {"class_texts": "class_texts.json", "groups": "groups.csv"}
    return {argument: os.path.join(folder, name) for argument, name in names.items() if os.path.isfile(os.path.join(folder, name))}
