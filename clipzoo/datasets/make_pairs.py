"""Creation of a table of image paths and captions from class folders and a list of class names, for training a CLIP from scratch."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipzoo.datasets.captions import clean
from clipzoo.datasets.files.class_list import read_annotations, read_class_list
from clipzoo.datasets.files.class_texts import texts_from_template
from clipzoo.datasets.files.copies import copies_among
from clipzoo.datasets.files.folders import ImageFile, scan_class_folders, size_of, walk
from clipzoo.datasets.files.groups import groups_from_pattern, merge_groups
from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.datasets.files.pairs import SEPARATORS
from clipzoo.datasets.shards.write import Sample, write_shards
from clipzoo.datasets.splitters.base import carve, random_state
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import DataError, did_you_mean, shortened
from clipzoo.files import check_new, write_text
from clipzoo.records.folds import Case
from clipzoo.text import clean_path, csv_text, differences, is_formula

Names = Literal["first", "all", "each"]

_BY_SUFFIX = {".csv": "comma", ".tsv": "tab", ".txt": "tab"}


@dataclass(frozen=True)
class Columns:
    """Format of a table.

    Attributes:
        image: Name of the image path column.
        caption: Name of the caption column.
        separator: ``'tab'``, ``'comma'`` or ``'semicolon'``; ``None`` chooses by the file's extension.
    """

    image: str = "filepath"
    caption: str = "title"
    separator: str | None = None


@dataclass(frozen=True)
class Made:
    """A created table.

    Attributes:
        path: Table file.
        images: Number of images.
        classes: Number of classes.
        captions: Number of distinct captions.
        text: Content of the table.
        unlabelled: Number of other images, without an annotation.
        num_shards: Number of shards, if ``path`` is a folder of them.
    """

    path: Path
    images: int
    classes: int
    captions: int
    text: str
    unlabelled: int = 0
    num_shards: int = 0

    def __str__(self) -> str:
        others = f"; {self.unlabelled} images without a class are left out" if self.unlabelled else ""
        shards = f"{self.num_shards} shards, " * bool(self.num_shards)
        return f"{self.path}: {shards}{self.images} images, {self.classes} classes, {self.captions} distinct captions{others}"


def make_pairs(
    images: str | Path,
    out: str | Path,
    *,
    class_list: str | Path | None = None,
    annotations: str | Path | None = None,
    template: str = "a photo of a {class_name}",
    names: Names = "first",
    columns: Columns = Columns(),
    group_pattern: str | None = None,
    val_fraction: float = 0.0,
    val_out: str | Path | None = None,
    limit_per_class: int | None = None,
    seed: int = 0,
    force: bool = False,
    shard_size: int | None = None,
) -> list[Made]:
    """Write a table for ``PairsDataset`` (and other programs that train CLIP) with one row per image and caption.

    Image paths are relative to the table's folder. All tables are created before the first is written.

    Args:
        images: Folder of class folders, with images at any depth; or, with ``annotations``, a folder of images.
        out: Table file, ``.csv`` or ``.tsv``.
        class_list: Names of the classes, see ``read_class_list``; ``None`` uses the folder names.
        annotations: Class of every image, see ``read_annotations``; replaces class folders.
        template: Template that turns a class name into a caption.
        names: Which names of a class to use: the first; all in one caption, separated by commas; or each in a separate caption
            (and row).
        columns: Format of the table.
        group_pattern: Regular expression that finds the group of an image in its file name, as in ``PairsDataset``. Adds the column
            ``group`` to the table.
        val_fraction: Share of the images that go to ``val_out``, stratified by class, in whole groups; identical images form one group.
        val_out: Table file of the val part.
        limit_per_class: Maximum number of images per class, drawn at random.
        seed: Seed of all random draws.
        force: Whether to overwrite tables of different content.
        shard_size: Number of images per shard: ``out`` and ``val_out`` are then new folders of WebDataset shards for ``ShardPairs``, with
            the images in them, and ``columns`` is not used. ``None`` writes tables.

    Returns:
        The tables or folders that were written, or tables that already existed with exactly this content.

    Raises:
        ConfigError: The template or pattern is invalid.
        DataError: The images, list or annotations are unusable, two classes have the same caption, or a table already exists.
    """
    _check(val_fraction, val_out, limit_per_class)
    paths = [Path(out), *([] if val_out is None else [Path(val_out)])]
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise DataError(f"{out}: used for both parts. Give val_out another name")
    separators = [_separator(path, columns) for path in paths] if shard_size is None else []
    found, unlabelled = (scan_class_folders(Path(images))[0], 0) if annotations is None else _annotated(str(images), annotations)
    empty = [file.path for file in found if file.size == 0]
    if empty:
        raise DataError(f"{empty[0]}: the image is empty (zero bytes){_more(len(empty))}. Replace or remove it")
    if limit_per_class is not None:
        found = _drawn(found, limit_per_class, seed)
    classes = sorted({file.class_name for file in found})
    captions = _captions(classes, class_list, template, names)
    groups = {file.id: file.id for file in found}
    if group_pattern is not None:
        groups = groups_from_pattern(group_pattern, list(groups), "group_pattern")
    parts = [found] if val_out is None else _divided(found, classes, groups, val_fraction, seed)
    if shard_size is not None:
        return _written_shards(paths, parts, captions, None if group_pattern is None else groups, shard_size)
    made = []
    for path, files, separator in zip(paths, parts, separators, strict=True):
        text = _table(path, str(images), files, captions, columns, separator, None if group_pattern is None else groups)
        used = {file.class_name for file in files}
        made.append(Made(path, len(files), len(used), len({caption for name in used for caption in captions[name]}), text, unlabelled))
    _write(made, force)
    return made


def _written_shards(
    paths: Sequence[Path], parts: Sequence[list[ImageFile]], captions: dict[str, list[str]], groups: dict[str, str] | None, size: int
) -> list[Made]:
    """A folder of shards for every part."""
    for path in paths:
        check_new(path)
    made = []
    for path, files in zip(paths, parts, strict=True):
        samples = (Sample(file.id, file.path, captions[file.class_name], None if groups is None else groups[file.id]) for file in files)
        num_shards = write_shards(path, samples, size)
        used = {file.class_name for file in files}
        made.append(Made(path, len(files), len(used), len({c for name in used for c in captions[name]}), "", num_shards=num_shards))
    return made


def _annotated(images: str, annotations: str | Path) -> tuple[list[ImageFile], int]:
    """The images of ``annotations``, whose paths start at ``images`` or at ``images/images/``; and the number of other images."""
    if not os.path.isdir(images):
        raise DataError(f"{images}: no such folder")
    there: dict[str, tuple[str, int]] = {}
    for entry in walk(images):
        if entry.name.lower().endswith(EXTENSIONS):
            name = clean_path(os.path.relpath(entry.path, images))
            if name in there:
                raise DataError(f"{entry.path}: {differences(there[name][0], entry.path)}; both are read as '{name}'. Rename one of them")
            there[name] = entry.path, size_of(entry)
    files, missing = [], []
    for key, class_name in read_annotations(annotations).items():
        key = key.removeprefix("./")
        name = key if key in there else f"images/{key}"
        if name in there:
            files.append(ImageFile(name, class_name, *there[name]))
        else:
            missing.append(key)
    if missing:
        hint = did_you_mean(missing[0], sorted(there)[:2000])
        what = f"no image '{missing[0]}' below {images}{_more(len(missing))}"
        raise DataError(f"{annotations}: {what}.{hint} Paths start at that folder")
    return sorted(files, key=lambda file: file.id), len(there) - len({file.id for file in files})


def _drawn(files: list[ImageFile], limit: int, seed: int) -> list[ImageFile]:
    by_class: dict[str, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_class[file.class_name].append(file)
    kept = []
    for number, (_, members) in enumerate(sorted(by_class.items())):
        kept += [members[i] for i in random_state(seed, 1 + number).permutation(len(members))[:limit]]
    return sorted(kept, key=lambda file: file.id)


def _captions(classes: Sequence[str], class_list: str | Path | None, template: str, names: Names) -> dict[str, list[str]]:
    """The captions of every class; no two classes share one."""
    listed = {name: [name] for name in classes} if class_list is None else read_class_list(class_list)
    unnamed = [name for name in classes if name not in listed]
    if unnamed:
        hint = did_you_mean(unnamed[0], list(listed)[:5000])
        raise DataError(f"{class_list}: no name for class {shortened([repr(name) for name in unnamed], 5)}.{hint} Add one for each")
    captions: dict[str, list[str]] = {}
    described: dict[str, str] = {}
    for name in classes:
        chosen = {"first": listed[name][:1], "all": [", ".join(listed[name])], "each": listed[name]}[names]
        captions[name] = [clean(sentence) for ((sentence,),) in (texts_from_template(template, [word], "template") for word in chosen)]
        for caption in captions[name]:
            other = described.setdefault(" ".join(caption.casefold().split()), name)  # many text towers ignore case
            if other != name:
                both = " and ".join(f"'{one}' ({', '.join(listed[one])})" for one in (other, name))
                advice = "Put all their names into one caption (--names all), or give them" if names != "all" else "Give them"
                raise DataError(f"'{caption}' would describe two classes, {both}. {advice} distinct names in the class list")
    return captions


def _divided(
    files: list[ImageFile], classes: Sequence[str], groups: dict[str, str], fraction: float, seed: int
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Training and val images: no group, and no image under two names, is in both; every class keeps a group for training."""
    groups = merge_groups(groups, copies_among((file.id, file.path, file.size) for file in files))
    label_of = {name: label for label, name in enumerate(classes)}
    table = CaseTable([Case(file.id, label_of[file.class_name], groups[file.id]) for file in files], classes)
    val = set(table.ids_of(carve(table.counts_GC, fraction, random_state(seed, 0))))
    if not val:
        raise DataError(f"val_fraction: {fraction} of {len(files)} images leaves no images for the val part. Use a larger share")
    return [file for file in files if file.id not in val], [file for file in files if file.id in val]


def _table(
    path: Path,
    images: str,
    files: list[ImageFile],
    captions: dict[str, list[str]],
    columns: Columns,
    separator: str,
    groups: dict[str, str] | None,
) -> str:
    """The text of one table; paths are relative to its folder, or absolute if no relative path exists (two drives)."""
    root = os.path.realpath(images)
    try:
        start = os.path.relpath(root, os.path.realpath(path.parent))
    except ValueError:
        start = root
    rows = [[columns.image, columns.caption, *([] if groups is None else ["group"])]]
    for file in files:
        written = os.path.normpath(os.path.join(start, os.path.relpath(file.path, images))).replace(os.sep, "/")
        written = f"./{written}" if is_formula(written) else written  # for other programs that read this table: same file, not a formula
        for caption in captions[file.class_name]:
            rows.append([written, caption, *([] if groups is None else [groups[file.id]])])
    return csv_text(rows, separator=SEPARATORS[separator])


def _write(made: Sequence[Made], force: bool) -> None:
    same = {table.path for table in made if table.path.is_file() and table.path.read_bytes() == table.text.encode("utf-8")}
    for table in made:
        if table.path.exists() and table.path not in same and not (force and table.path.is_file()):
            raise DataError(f"{table.path}: already exists with different content. Choose another name, or overwrite it with --force")
    for table in made:
        if table.path not in same:
            write_text(table.path, table.text)


def _check(val_fraction: float, val_out: str | Path | None, limit_per_class: int | None) -> None:
    if not 0 <= val_fraction < 1:
        raise DataError(f"val_fraction: {val_fraction} is not allowed; use a share below 1")
    if (val_fraction > 0) != (val_out is not None):
        raise DataError("val_fraction and val_out must be given together: the share of the images, and their table")
    if limit_per_class is not None and limit_per_class < 1:
        raise DataError(f"limit_per_class: {limit_per_class} is not allowed; use 1 or more")


def _separator(path: Path, columns: Columns) -> str:
    suffix = path.suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise DataError(f"{path}: unknown table format. Use one of the extensions {', '.join(_BY_SUFFIX)}")
    if columns.image == columns.caption or "group" in (columns.image, columns.caption):
        raise DataError(f"{path}: the columns must have different names, and none may be named 'group'")
    return columns.separator or _BY_SUFFIX[suffix]


def _more(number: int) -> str:
    return f" (and {number - 1} more like it)" if number > 1 else ""
