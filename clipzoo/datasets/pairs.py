"""Image–text pairs: every distinct image is a case, with all captions written for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from clipzoo.config.arguments import Count, FilePath
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.file_dataset import FileDataset, check_distinct
from clipzoo.datasets.files.checks import refuse
from clipzoo.datasets.files.copies import copies_among, merge_copies
from clipzoo.datasets.files.dicom.cases import dicom_among, read_cases
from clipzoo.datasets.files.groups import groups_from_pattern
from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.datasets.files.locate import Folders, top_folder
from clipzoo.datasets.files.pairs import Keys, Pair, PairsFile, read_pairs
from clipzoo.datasets.group_hint import group_note
from clipzoo.errors import ConfigError, DataError, LeakError, did_you_mean, shortened
from clipzoo.records.folds import PARTS, Case
from clipzoo.registries import DATASETS
from clipzoo.text import clean_path, differences


@dataclass
class _Image:
    """One image: its actual path (which may be NFD), where it was first named, its captions and group, and finally its id."""

    path: str
    size: int
    source: int
    where: str
    group: str | None
    captions: dict[str, str] = field(default_factory=dict)
    id: str = ""


class PairSource(Dataset):
    """A dataset of images with captions and without classes.

    Attributes:
        sources: What was read, for the log.
    """

    sources: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Lines for the log: sources, numbers of images, groups and captions, captions per image, the given parts, then the notes."""
        per_image = [len(self.captions_of(row)) for row in range(len(self))]
        images_of = Counter(caption for row in range(len(self)) for caption in self.captions_of(row))
        shared = {caption: n for caption, n in images_of.items() if n > 1}
        num_groups = len({case.group for case in self.cases})
        few, many = min(per_image), max(per_image)
        lines = [
            f"{type(self).__name__} {', '.join(self.sources)}",
            f"{len(self)} images, {num_groups} groups, {len(self.captions)} distinct captions",
            f"  captions per image: {few}"
            if few == many
            else f"  captions per image: {few} to {many}, {sum(per_image) / len(self):.2f} on average",
        ]
        if shared:
            caption, most = max(shared.items(), key=lambda item: (item[1], -item[0]))
            sentence = self.captions.sentences[caption]
            lines.append(f"  captions of several images: {len(shared)}; '{sentence}' describes {most}")
        parts = Counter(case.part for case in self.cases if case.part is not None)
        if parts:
            lines.append("  parts: " + "  ".join(f"{part} {parts[part]}" for part in PARTS if part in parts))
        return lines + [f"note: {note}" for note in self.notes]


@DATASETS.register_module()
class PairsDataset(PairSource, FileDataset):
    """Images and sentences that describe them, without classes; evaluated by retrieval.

    A source is one of:

    * a JSON list of ``{image_path, caption}``, where a caption may be a list of sentences;
    * a table (CSV, TSV) whose first line names the columns, such as ``filepath,title`` or ``image_path,caption``;
    * a folder with ``images/NAME.*`` and ``captions/NAME.txt``, one caption per line, or with a ``data.json`` or ``captions.json``, which
      then takes precedence.

    An image listed several times is one case with several captions. A sentence that describes several images is stored once, so that none
    of them counts as a wrong answer. Relative image paths start at the folder of the file that names them. Case ids are paths below that
    folder (of several sources, below the deepest common folder; and below the deepest folder that contains all images, if some lie
    elsewhere), with ``/``, NFC-normalised and without surrounding blanks in names. Byte-identical images become one group, whatever the
    given groups.

    Images are located but not opened when the dataset is created; damage is detected when one is read. Only the headers of DICOM files,
    which are looked for among names without the ending of another format, are read: see ``ImageFolderDataset``.

    Args:
        path: Source of all pairs, or of the training part if ``val_path`` or ``test_path`` is given.
        val_path: Source of the val part; ``splits.type='AsGiven'`` follows it.
        test_path: Source of the test part, likewise.
        image_key: Column or key of the image path; ``None`` uses the one with a common name.
        caption_key: Column or key of the caption, likewise.
        separator: Column separator of a table: ``'tab'``, ``'comma'``, ``'semicolon'`` or another character; ``None`` detects it.
        image_root: Folder that relative image paths and case ids start from; ``None`` uses each source's own.
        group_key: Column or key of the group of images that belong together, such as a patient's.
        group_pattern: Alternative to ``group_key``: a regular expression that is searched in the file name (in the whole id if the pattern
            contains ``/``); its first group is the case's group.
        allow_duplicates: Whether to merge repeated pairs of image and caption instead of refusing them.
        attributes: CSV file with the column ``path`` (case ids) and one column per attribute, for whose values results are also reported.

        salt: See ``ImageFolderDataset``; the default is in the folder of the first source.
        frame: See ``ImageFolderDataset``.

    Raises:
        ConfigError: Two arguments exclude each other, or one does not apply to these sources.
        DataError: A source, or an image named in it, is not as described above; the message gives file and line.
        LeakError: An image is in two sources.

    Example:
        ``dict(type='PairsDataset', path='data/train.csv', val_path='data/val.csv', image_key='filepath', caption_key='title')``
    """

    def __init__(
        self,
        path: FilePath,
        val_path: FilePath | None = None,
        test_path: FilePath | None = None,
        image_key: str | None = None,
        caption_key: str | None = None,
        separator: str | None = None,
        image_root: FilePath | None = None,
        group_key: str | None = None,
        group_pattern: str | None = None,
        allow_duplicates: bool = False,
        attributes: FilePath | None = None,
        salt: FilePath | None = None,
        frame: Count | None = None,
    ):
        if group_key is not None and group_pattern is not None:
            raise ConfigError("data.dataset: group_key and group_pattern are mutually exclusive. Remove one of them")
        keys = Keys(image_key, caption_key, group_key, separator)
        given = {part: str(source) for part, source in zip(PARTS, (path, val_path, test_path), strict=True) if source is not None}
        check_distinct(given, "{part}_path")
        files = [read_pairs(source, keys) for source in given.values()]
        _check_used(files, keys, image_root)
        images = _Collector(files, image_root, allow_duplicates).images()
        groups = {image.id: image.group or image.id for image in images}
        grouped = group_pattern is not None or group_key is not None
        headers = dicom_among({image.id: image.path for image in images}, EXTENSIONS)
        dicom = read_cases(headers, files[0].root, salt=salt, frame=frame, grouped=grouped)
        if group_pattern is not None:
            groups = groups_from_pattern(group_pattern, list(groups))
        elif not grouped:
            groups |= dicom.groups
        notes = [note for file in files for note in file.notes] + list(dicom.notes)
        if not grouped and not dicom.groups:
            notes += group_note(list(groups), [None] * len(groups))
        copies = copies_among((image.id, image.path, image.size) for image in images if image.size)
        given_groups = groups
        groups, copied = merge_copies(given_groups, copies)
        parts = list(given) if len(given) > 1 else [None]
        captions = Captions()
        super().__init__(
            [Case(image.id, None, groups[image.id], parts[image.source]) for image in images],
            (),
            paths={image.id: image.path for image in images},
            captions=captions,
            captions_of_case={image.id: [captions.add(caption) for caption in image.captions] for image in images},
            notes=notes + copied,
        )
        self.sources = tuple(file.name for file in files)
        self.frame, self.attributes, self.given_groups = frame, dict(dicom.attributes), given_groups
        if attributes is not None:
            self.add_attributes(attributes, "the images' common folder")


def _check_used(files: Sequence[PairsFile], keys: Keys, image_root: str | None) -> None:
    """Refuse arguments that apply to none of the sources."""
    found = {file.kind for file in files}
    if keys.separator is not None and "table" not in found:
        raise ConfigError(f"data.dataset.separator: {files[0].name} is not a table. Remove this option")
    if found == {"folder"}:
        for name, value in (
            ("image_key", keys.image),
            ("caption_key", keys.caption),
            ("group_key", keys.group),
            ("image_root", image_root),
        ):
            if value is not None:
                raise ConfigError(f"data.dataset.{name}: does not apply to images/ and captions/ in {files[0].name}. Remove it")
    if image_root is not None and not os.path.isdir(image_root):
        raise DataError(f"{image_root}: no such folder (data.dataset.image_root)")


class _Collector:
    """Finds the images of all pairs, and collects the captions of each.

    Args:
        files: Sources that were read.
        image_root: See ``PairsDataset``.
        allow_duplicates: See ``PairsDataset``.
    """

    def __init__(self, files: Sequence[PairsFile], image_root: str | None, allow_duplicates: bool):
        self.files, self.image_root, self.allow_duplicates = files, image_root, allow_duplicates
        self.roots = [os.path.realpath(file.root if image_root is None else image_root) for file in files]
        self.folders = Folders()
        self.by_path: dict[str, _Image] = {}
        self.missing: dict[tuple[int, str], Pair] = {}
        self.leaked: dict[str, tuple[_Image, Pair]] = {}
        self.repeated: list[tuple[Pair, str]] = []

    def images(self) -> list[_Image]:
        """All images, sorted by id.

        Raises:
            DataError: An image is missing, empty or in two groups, or a pair is repeated.
            LeakError: An image is in two sources.
        """
        for source, file in enumerate(self.files):
            known: dict[str, _Image | None] = {}
            for pair in file.pairs:
                if pair.image not in known:
                    known[pair.image] = self._image(source, pair)
                image = known[pair.image]
                if image is None:
                    self.missing.setdefault((source, pair.image), pair)
                elif image.source != source:
                    self.leaked.setdefault(image.path, (image, pair))
                else:
                    self._add(image, pair)
        self._refuse()
        top = top_folder(self.roots, self.by_path)
        for image in self.by_path.values():
            image.id = clean_path(image.path[len(top) :])
        images = sorted(self.by_path.values(), key=lambda image: image.id)
        for a, b in zip(images, images[1:], strict=False):
            if a.id == b.id:
                what = differences(a.path[len(top) :], b.path[len(top) :])
                raise DataError(f"{b.where}: {what}; both are read as '{b.id}'. Rename one of them")
        return images

    def _image(self, source: int, pair: Pair) -> _Image | None:
        try:
            found = self.folders.locate(self.roots[source], pair.image)
        except DataError as error:
            raise DataError(f"{pair.where}: {error}") from error
        if found is None:
            return None
        path, size = found
        if path not in self.by_path:
            self.by_path[path] = _Image(path, size, source, pair.where, pair.group)
        return self.by_path[path]

    def _add(self, image: _Image, pair: Pair) -> None:
        if pair.group != image.group:
            raise DataError(f"{pair.where}: '{pair.image}' is in group '{pair.group}' here, but at {image.where} in group '{image.group}'")
        if pair.caption not in image.captions:
            image.captions[pair.caption] = pair.where
        elif not self.allow_duplicates:
            self.repeated.append((pair, image.captions[pair.caption]))

    def _refuse(self) -> None:
        if self.missing:
            source, _ = next(iter(self.missing))
            raise DataError(_missing(self.roots[source], list(self.missing.values()), self.image_root))
        empty = [image for image in self.by_path.values() if image.size == 0]
        if empty:
            refuse(f"{empty[0].where}: {empty[0].path}: the image is empty (zero bytes){_more(empty)}. Replace or remove it")
        if self.leaked:
            image, pair = next(iter(self.leaked.values()))
            raise LeakError(
                f"{pair.where}: image '{pair.image}' is also at {image.where}, in another part{_more(self.leaked)}. "
                "Remove it from one of the files"
            )
        if self.repeated:
            pair, first = self.repeated[0]
            raise DataError(
                f"{pair.where}: image '{pair.image}' already has this caption at {first}{_more(self.repeated)}. Remove the duplicate, "
                "or set data.dataset.allow_duplicates=True"
            )


def _missing(root: str, pairs: list[Pair], image_root: str | None) -> str:
    """The message about missing images."""
    first = pairs[0]
    if first.image.lower().startswith(("http://", "https://")):
        return f"{first.where}: '{first.image}' is a URL. Download the images, and give their local paths"
    others = f" ({len(pairs) - 1} more are missing: {shortened([pair.image for pair in pairs[1:]], 3)})" if len(pairs) > 1 else ""
    folder, name = os.path.split(os.path.normpath(os.path.join(root, first.image.replace("\\", "/"))))
    try:
        hint = did_you_mean(name, sorted(other for other in os.listdir(folder) if other.lower().endswith(EXTENSIONS))[:2000])
    except OSError:
        hint = f" The folder {folder} does not exist."
    start = (
        "their file's own folder; data.dataset.image_root sets another" if image_root is None else f"data.dataset.image_root, {image_root}"
    )
    return f"{first.where}: no image '{first.image}'{others}.{hint} Relative paths start at {start}"


def _more(found: Sequence | dict) -> str:
    return f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
