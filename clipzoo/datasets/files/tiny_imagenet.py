"""The files of Tiny ImageNet: its classes, their names, and the images of each part."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from clipzoo.datasets.files.checks import refuse
from clipzoo.datasets.files.class_list import read_annotations, read_class_list
from clipzoo.datasets.files.copies import copies_among, merge_copies
from clipzoo.datasets.files.folders import ImageFile, by_clean_name, entries, size_of
from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import read_text

_LAYOUT = (
    "Expected the content of http://cs231n.stanford.edu/tiny-imagenet-200.zip:\n"
    "    {root}/\n"
    "    ├── wnids.txt  words.txt\n"
    "    ├── train/<wnid>/images/*.JPEG\n"
    "    ├── val/val_annotations.txt  val/images/*.JPEG\n"
    "    └── test/images/*.JPEG"
)


def read_wnids(root: str) -> list[str]:
    """The classes of the collection, in label order.

    Raises:
        DataError: ``root`` is not the collection's folder, or ``wnids.txt`` is not a list of classes.
    """
    folder = Path(root)
    if not (folder / "wnids.txt").is_file():
        inner = next(iter(sorted(folder.glob("*/wnids.txt"))), None) if folder.is_dir() else None
        what = "no wnids.txt in it" if folder.is_dir() else "no such folder"
        raise DataError(f"{root}: {what}. " + (f"Did you mean '{inner.parent}'?" if inner else _LAYOUT.format(root=root)))
    wnids = read_text(folder / "wnids.txt").split()
    twice = [wnid for wnid, n in Counter(wnids).items() if n > 1]
    if twice or not wnids:
        raise DataError(f"{folder / 'wnids.txt'}: " + (f"{shortened(twice, 3)} is listed twice" if twice else "the file is empty"))
    return wnids


def draw(listed: list[str], num_classes: int, seed: int, root: str) -> tuple[str, ...]:
    """Draw some of the classes, in the order in which they are listed.

    Raises:
        ConfigError: ``num_classes`` is out of range.
    """
    if not isinstance(num_classes, int) or not 1 <= num_classes <= len(listed):
        there = f"{root}/wnids.txt lists {len(listed)} classes, so use 1 … {len(listed)}"
        raise ConfigError(f"num_classes: {num_classes!r} cannot be drawn; {there}")
    chosen = set(random.Random(seed).sample(listed, num_classes))
    return tuple(wnid for wnid in listed if wnid in chosen)


def read_words(root: str, listed: list[str]) -> dict[str, list[str]]:
    """All names of every class in ``wnids.txt``; other entries of ``words.txt`` are ignored.

    Raises:
        DataError: ``words.txt`` is missing, or has no name for a class.
    """
    path = Path(root) / "words.txt"
    if not path.is_file():
        raise DataError(f"{path}: no such file. {_LAYOUT.format(root=root)}")
    words = read_class_list(path)
    missing = [wnid for wnid in listed if wnid not in words]
    if missing:
        raise DataError(
            f"{path}: no name for {shortened(missing, 3)}, which wnids.txt lists. Add a line for each: wnid<tab>name, other name"
        )
    return {wnid: words[wnid] for wnid in listed}


def _train_files(root: str, wnids: tuple[str, ...], _: list[str]) -> list[ImageFile]:
    files = []
    for wnid in wnids:
        folder = f"train/{wnid}/images"
        if not (Path(root) / folder).is_dir():
            raise DataError(f"{root}/{folder}: no such folder, but wnids.txt lists the class. {_LAYOUT.format(root=root)}")
        found = [ImageFile(case_id, wnid, *file) for case_id, file in _images(root, folder).items()]
        if not found:
            raise DataError(f"{root}/{folder}: no images in this folder. Supported: {' '.join(e[1:] for e in EXTENSIONS)}")
        files += found
    return files


def _val_files(root: str, wnids: tuple[str, ...], listed: list[str]) -> list[ImageFile]:
    path = Path(root) / "val" / "val_annotations.txt"
    if not path.is_file():
        raise DataError(f"{path}: no such file. {_LAYOUT.format(root=root)}")
    class_of = {f"val/images/{name}": wnid for name, wnid in read_annotations(path).items()}
    foreign = next((wnid for wnid in class_of.values() if wnid not in set(listed)), None)
    if foreign is not None:
        raise DataError(f"{path}: class '{foreign}' is not in wnids.txt.{did_you_mean(foreign, listed)}")
    found = _images(root, "val/images")
    missing, unlisted = sorted(class_of.keys() - found), sorted(found.keys() - class_of)
    if missing:
        raise DataError(f"{path}: {len(missing)} listed images are missing: {shortened(missing, 3)}. Unpack the collection again")
    if unlisted:
        raise DataError(f"{path}: {len(unlisted)} images have no line: {shortened(unlisted, 3)}. Add a line for each: file<tab>wnid")
    files = [ImageFile(case_id, wnid, *found[case_id]) for case_id, wnid in class_of.items() if wnid in set(wnids)]
    if not files:
        raise DataError(f"{path}: none of the {len(wnids)} chosen classes has a val image. Choose more with num_classes")
    return files


def _test_files(root: str, _: tuple[str, ...], __: list[str]) -> list[ImageFile]:
    found = _images(root, "test/images")
    if not found:
        raise DataError(f"{root}/test/images: no images in this folder. {_LAYOUT.format(root=root)}")
    return [ImageFile(case_id, "", *file) for case_id, file in found.items()]


def files_of(part: str, root: str, wnids: tuple[str, ...], listed: list[str]) -> list[ImageFile]:
    """The images of a part, found but not opened. The class of a test image is ``''``.

    Args:
        part: ``'train'``, ``'val'`` or ``'test'``.
        root: The folder of the collection.
        wnids: Chosen classes; test images are not filtered by class.
        listed: All classes of the collection.

    Raises:
        DataError: A folder, an image or a line is missing, or a file is empty.
    """
    return {"train": _train_files, "val": _val_files, "test": _test_files}[part](root, wnids, listed)


def _images(root: str, folder: str) -> dict[str, tuple[str, int]]:
    """Actual path and size of the images in a folder below ``root``, by case id; none is opened."""
    there = by_clean_name(entry for entry in entries(f"{root}/{folder}") if entry.is_file() and entry.name.lower().endswith(EXTENSIONS))
    found = {f"{folder}/{name}": (entry.path, size_of(entry)) for name, entry in there.items()}
    empty = next((path for path, size in found.values() if size == 0), None)
    if empty is not None:
        refuse(f"{empty}: the file is empty (zero bytes). Replace or remove it")
    return found


Parts = dict[str, list[ImageFile]]


def grouped(parts: Parts, allow_copies: bool) -> tuple[Parts, dict[str, str], list[str]]:
    """The files that are kept, their groups, and notes about copies.

    A set of copies in both train and val loses its train images or, with ``allow_copies``, becomes two groups.
    """
    part_of = {file.id: part for part, files in parts.items() for file in files}
    class_of = {file.id: file.class_name for files in parts.values() for file in files}
    copies = copies_among((file.id, file.path, file.size) for files in parts.values() for file in files if file.size)
    torn = [same for same in copies if len({part_of[case_id] for case_id in same}) > 1]
    trained = sorted(case_id for same in torn for case_id in same if part_of[case_id] == "train")
    notes = []
    if trained:
        what = "kept, so that the val part is no honest test of these" if allow_copies else "left out; allow_copies=True keeps them"
        notes.append(f"{len(trained)} train images have the bytes of a val image and are {what}: {shortened(trained, 3)}")
    if trained and not allow_copies:
        gone = set(trained)
        parts = {part: [file for file in files if file.id not in gone] for part, files in parts.items()}
    kept = {file.id for files in parts.values() for file in files}
    apart = [[i for i in same if i in kept and part_of[i] == part] for same in copies for part in parts]
    apart = [same for same in apart if len(same) > 1]
    groups, copied = merge_copies({case_id: case_id for case_id in kept}, apart)
    mixed = [same for same in apart if len({class_of[i] for i in same}) > 1]
    if mixed:
        copied.append(f"{len(mixed)} of these sets are in several classes at once, as the collection has them: {shortened(mixed[0], 3)}")
    return parts, groups, notes + copied
