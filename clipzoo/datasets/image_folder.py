"""Class folders: one folder per class with images at any depth; descriptions and groups in separate files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from clipzoo.config.arguments import Count, FilePath
from clipzoo.datasets.captions import class_captions
from clipzoo.datasets.file_dataset import FileDataset, check_distinct
from clipzoo.datasets.files.checks import check_headers, identical
from clipzoo.datasets.files.copies import merge_copies
from clipzoo.datasets.files.dicom.cases import read_cases
from clipzoo.datasets.files.folders import ImageFile, kinds, scan_class_folders
from clipzoo.datasets.files.groups import groups_from_pattern, groups_from_table
from clipzoo.datasets.group_hint import group_note
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import natural
from clipzoo.records.folds import PARTS, Case
from clipzoo.registries import DATASETS
from clipzoo.text import clean_name, differences, lookalike


@DATASETS.register_module()
class ImageFolderDataset(FileDataset):
    """One folder per class; the folder name, in Chinese or any other language, is the class name.

    Images are found at any depth below a class folder (symbolic links are followed). Hidden files, and files without an image extension,
    are ignored. Case ids are paths below ``root`` with ``/``; ids and class names are NFC-normalised and without surrounding blanks, so
    that they are the same on every system and match the names in other files.
    Byte-identical images become one group, whatever the given groups: a model must not be tested on a copy of a training image.

    DICOM files (with pydicom) are recognised by their bytes and may have names without an ending. Unless groups are given, their group is
    the pseudonym of their Patient ID; view position, laterality, sex and age (in decades) are attributes, for subgroups. A DICOM file and
    another image of the same name in one class are refused, as one would be a copy of the other.

    If ``val_root`` or ``test_root`` is given, every case has a part, which ``splits.type='AsGiven'`` follows, and ids start with the
    part: ``train/cat/1.png``, also in ``groups``. The classes are those of ``root``.

    When the dataset is created, empty files and files whose first bytes are not those of an image are refused; damage further inside
    is detected when the image is read.

    Args:
        root: Folder that contains the class folders: of all images, or of the train part if ``val_root`` or ``test_root`` is given.
        class_texts: JSON file ``{class name: description or list of descriptions}`` for all classes; ``None`` uses ``template``.
        template: Caption of a class without ``class_texts``; ``{class_name}`` stands for its name. ``None``: in the language of the
            text tower, ``'a photo of a {class_name}'`` or ``'这是一张{class_name}的图片'``.
        groups: CSV file ``path,group`` (header required; paths below ``root``) of images that belong together, such as a patient's.
        group_pattern: Alternative to ``groups``: a regular expression that is searched in the file name (in the whole id if the pattern
            contains ``/``); its first group is the case's group.
        classes: Class names in label order, as needed for an external test set: a folder of another name is an error,
            a class without a folder has no cases. ``None`` uses the folders, in natural order of their names: 2 before 10.
        allow_label_conflicts: Whether to accept byte-identical images in two classes.
        val_root: Folder that contains the class folders of the val part; a class may be absent.
        test_root: Folder that contains the class folders of the test part, likewise.
        attributes: CSV file with the column ``path``, as in ``groups``, and one column per attribute (``sex``, ``scanner``, ``view`` …):
            results are also reported for each of its values. Empty cells and missing rows mean unknown.
        salt: File with the secret for pseudonyms of patients; ``None`` uses ``.clipzoo_salt`` in ``root``, and makes it if needed.
        frame: Number of the frame of DICOM files that is the image, from 1; ``None`` refuses files with several frames.

    Raises:
        ConfigError: Two arguments exclude each other, or the template or pattern is invalid.
        DataError: The folder, a file in it, the descriptions or the groups are not as described above; the message gives the location.
        LeakError: Two parts have the same folder.

    Example:
        ``dict(type='ImageFolderDataset', root='data/hip/images', class_texts='data/hip/class_texts.json', groups='data/hip/groups.csv')``
    """

    def __init__(
        self,
        root: FilePath,
        class_texts: FilePath | None = None,
        template: str | None = None,
        groups: FilePath | None = None,
        group_pattern: str | None = None,
        classes: list[str] | None = None,
        allow_label_conflicts: bool = False,
        val_root: FilePath | None = None,
        test_root: FilePath | None = None,
        attributes: FilePath | None = None,
        salt: FilePath | None = None,
        frame: Count | None = None,
    ):
        if groups is not None and group_pattern is not None:
            raise ConfigError("data.dataset: groups and group_pattern are mutually exclusive. Remove one of them")
        roots = {part: str(folder) for part, folder in zip(PARTS, (root, val_root, test_root), strict=True) if folder is not None}
        check_distinct(roots, "{part}_root")
        self.roots: tuple[str, ...] = tuple(roots.values())
        files, names, notes = _scan(roots, classes)
        grouped = groups is not None or group_pattern is not None
        dicom = read_cases({file.id: file.path for file in _dicom(files)}, roots["train"], salt=salt, frame=frame, grouped=grouped)
        group_of = _groups([file.id for file in files], groups, group_pattern, roots, notes)
        if not grouped:
            group_of |= dicom.groups
            notes += [] if dicom.groups else group_note(list(group_of), [file.class_name for file in files])
        given = group_of
        group_of, copied = merge_copies(given, identical(files, allow_label_conflicts))
        captions, of_class = class_captions(names, class_texts, template)
        label_of = {name: label for label, name in enumerate(names)}
        super().__init__(
            [Case(file.id, label_of[file.class_name], group_of[file.id], _part(file, roots)) for file in files],
            names,
            paths={file.id: file.path for file in files},
            captions=captions,
            captions_of_case={file.id: of_class[label_of[file.class_name]] for file in files},
            captions_of_class=of_class,
            notes=[*notes, *dicom.notes, *copied],
        )
        self.frame, self.attributes, self.given_groups = frame, dict(dicom.attributes), given
        if attributes is not None:
            self.add_attributes(attributes, _named(roots))

    def describe(self) -> list[str]:
        """See ``Dataset.describe``."""
        return [f"{type(self).__name__} {', '.join(self.roots)}", *super().describe()]


def _scan(roots: dict[str, str], classes: list[str] | None) -> tuple[list[ImageFile], list[str], list[str]]:
    """The images of every part, the classes (those of the first part unless given), and the notes."""
    files: list[ImageFile] = []
    names, ignored, notes = classes, Counter(), []
    for part, root in roots.items():
        found, others = scan_class_folders(Path(root))
        names = _class_names(root, found, names)
        absent = [name for name in names if name not in {file.class_name for file in found}]
        if absent and part != "train":
            notes.append(f"the {part} part has no folder for {shortened(absent)}")
        files += [replace(file, id=f"{part}/{file.id}") for file in found] if len(roots) > 1 else found
        ignored.update(others)
    if ignored:
        notes.append(f"files that are no images were ignored: {kinds(ignored)}")
    return files, names, notes


def _dicom(files: list[ImageFile]) -> list[ImageFile]:
    """The DICOM files.

    Raises:
        DataError: Another image of the same class has the name of a DICOM file: it is probably a copy, and would be another patient.
    """
    found = check_headers(files)
    if found and len(found) < len(files):
        named = {(file.class_name, os.path.splitext(os.path.basename(file.id))[0]): file for file in found}
        known = {file.id for file in found}
        for file in files:
            twin = named.get((file.class_name, os.path.splitext(os.path.basename(file.id))[0]))
            if twin is not None and file.id not in known:
                raise DataError(f"{file.path}: has the name of the DICOM file {twin.path} and is probably a copy of it. Remove one of them")
    return found


def _part(file: ImageFile, roots: dict[str, str]) -> str | None:
    return file.id.partition("/")[0] if len(roots) > 1 else None


def _groups(ids: list[str], table: str | None, pattern: str | None, roots: dict[str, str], notes: list[str]) -> dict[str, str]:
    if table is not None:
        return groups_from_table(table, ids, _named(roots), notes)
    if pattern is not None:
        return groups_from_pattern(pattern, ids)
    return {case_id: case_id for case_id in ids}


def _named(roots: dict[str, str]) -> str:
    """What paths in tables of cases are relative to, in words."""
    return " and ".join(f"{part}/" for part in roots) if len(roots) > 1 else roots["train"]


def _class_names(root: str, files: list[ImageFile], classes: list[str] | None) -> list[str]:
    found = sorted({file.class_name for file in files}, key=natural)
    if classes is None:
        return found
    names = [clean_name(name) for name in classes]
    given: dict[str, str] = {}
    for name, written in zip(names, classes, strict=True):
        if name in given:
            what = "" if given[name] == written else f" ({differences(given[name], written)})"
            raise ConfigError(f"data.dataset.classes: '{name}' is repeated{what}. List every class once")
        given[name] = written
    unknown = [name for name in found if name not in set(names)]
    if unknown:
        hint = did_you_mean(unknown[0], names) + lookalike(unknown[0], names)
        raise DataError(f"{root}/{unknown[0]}: unknown class.{hint} Classes: {shortened(names)}")
    return names
