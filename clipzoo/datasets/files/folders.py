"""Listing of folders: class folders and their images, without hidden and foreign entries."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipzoo.commands import typed
from clipzoo.datasets.files.dicom.detect import HEAD, has_header, is_dicom, is_directory
from clipzoo.datasets.files.images import DICOM_EXTENSIONS, EXTENSIONS
from clipzoo.datasets.samples.missing import how_to_make
from clipzoo.errors import DataError, shortened
from clipzoo.files import check_regular, natural, reason
from clipzoo.text import clean_name, clean_path, differences, visible

_IGNORED_FOLDERS = ("__MACOSX", "@eaDir")  # created by archive programs and file servers


@dataclass(frozen=True)
class ImageFile:
    """One image below the root: its stable id and its class (both clean names), its actual path, and its size in bytes."""

    id: str
    class_name: str
    path: str
    size: int


def expected_tree(root: str) -> str:
    """The expected folder layout, and how to get sample data, for messages."""
    return (
        "Expected one folder per class:\n"
        f"    {root}/\n"
        "    ├── class A/   image1.png  image2.jpg  …\n"
        "    └── class B/   …\n"
        f"To create sample data: {typed('make_sample_data digits --out data/digits')}   (then the root is data/digits/images)"
    )


def scan_class_folders(root: Path) -> tuple[list[ImageFile], Counter[str]]:
    """All images below the class folders of ``root``, sorted by id, and the number of other files per extension.

    Raises:
        DataError: The folder is missing or has no class folders, a class folder has no images, or images lie next to the class folders.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}. {how_to_make(str(root)) or expected_tree(str(root))}")
    files: list[ImageFile] = []
    ignored: Counter[str] = Counter()
    inside = entries(str(root))
    folders = by_clean_name(entry for entry in inside if entry.is_dir())
    loose = [entry.name for entry in inside if not entry.is_dir() and is_image(entry.path)]
    if not folders:
        raise DataError(f"{root}: no class folders. {expected_tree(str(root))}")
    if loose:
        names = shortened(sorted(loose, key=natural), 3)
        raise DataError(f"{root}: {len(loose)} images lie next to the class folders ({names}). Move them into a class folder")
    for name in sorted(folders, key=natural):
        files += _scan_class(name, folders[name].path, ignored)
    _check_level(root, files, folders)
    files.sort(key=lambda file: file.id)
    for a, b in zip(files, files[1:], strict=False):
        if a.id == b.id:
            what = differences(*(file.path[len(str(root)) + 1 :] for file in (a, b)))
            raise DataError(f"{b.path}: {what}; both are read as '{a.id}'. Rename one of them")
    return files, ignored


def _scan_class(class_name: str, folder: str, ignored: Counter[str]) -> list[ImageFile]:
    files: list[ImageFile] = []
    others: Counter[str] = Counter()
    for entry in walk(folder):
        extension = os.path.splitext(clean_name(entry.name))[1].lower()
        if not is_image(entry.path):
            others[_kind(entry.name, extension)] += 1
            continue
        case_id = f"{class_name}/{clean_path(entry.path[len(folder) + 1 :])}"
        files.append(ImageFile(case_id, class_name, entry.path, size_of(entry)))
    if not files:
        found = f"it contains {kinds(others)} files" if others else "it is empty"
        raise DataError(f"{folder}: no images in the class folder, {found}. Supported: {supported()}. Add images or remove the folder")
    ignored.update(others)
    return files


def is_image(path: str) -> bool:
    """Is this a file to read as an image? By the ending of its name, or else by its first bytes: DICOM files often have no ending.

    A DICOMDIR is not, nor is a file that cannot be opened. A DICOM file without the header of PS3.10 is recognised only if its name has no
    ending, or one of digits such as that of a UID.
    """
    extension = os.path.splitext(clean_name(os.path.basename(path)))[1].lower()
    if extension in EXTENSIONS:
        return True
    try:
        with open(path, "rb", buffering=0) as stream:
            head = stream.read(HEAD)
    except OSError:
        return extension in DICOM_EXTENSIONS
    if is_directory(head):
        return False
    return extension in DICOM_EXTENSIONS or (is_dicom(head) and (has_header(head) or not extension or extension[1:].isdecimal()))


def supported() -> str:
    """The supported endings, for messages.

    >>> supported()
    'png jpg jpeg bmp tif tiff webp pgm dcm'
    """
    return " ".join(extension[1:] for extension in (*EXTENSIONS, DICOM_EXTENSIONS[0]))


def _kind(name: str, extension: str) -> str:
    """What to call an ignored file in a note."""
    return "DICOMDIR" if clean_name(name).upper().startswith("DICOMDIR") else extension or "(none)"


def _check_level(root: Path, files: list[ImageFile], folders: dict[str, os.DirEntry]) -> None:
    """Detect a root that is one level too high: a single folder that contains several folders and no images."""
    parts = [file.id.split("/") for file in files]
    if len(folders) == 1 and all(len(p) > 2 for p in parts) and len({p[1] for p in parts}) > 1:
        (only,) = folders.values()
        raise DataError(f"{root}: its only folder, '{only.name}', contains folders but no images. Did you mean root='{only.path}'?")


Odd = Callable[[os.DirEntry, DataError], None]


def entries(folder: str, odd: Odd | None = None) -> list[os.DirEntry]:
    """The content of ``folder`` without hidden and foreign entries: regular files and folders.

    Args:
        folder: Folder to list.
        odd: Function called with any other entry, instead of an error; undecodable names are then accepted.

    Raises:
        DataError: The folder cannot be listed, or an entry is neither file nor folder, is a broken link, or has an undecodable name.
    """
    try:
        with os.scandir(folder) as scan:
            listed = [entry for entry in scan if not entry.name.startswith(".") and entry.name not in _IGNORED_FOLDERS]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: cannot be read ({reason(error)})") from error
    found = []
    for entry in listed:
        try:
            if odd is None:
                _check_name(entry)
            _check_kind(entry)
            found.append(entry)
        except DataError as error:
            if odd is None:
                raise
            odd(entry, error)
    return found


def _check_name(entry: os.DirEntry) -> None:
    if any("\udc80" <= character <= "\udcff" for character in entry.name):
        raise DataError(undecodable(entry.path))
    if not clean_name(entry.name):
        raise DataError(f"{entry.path!r}: the name is blank. Rename it")


def _check_kind(entry: os.DirEntry) -> None:
    """Free for files and folders, whose kind is known from the listing; only links are followed."""
    try:
        known = entry.is_file() or entry.is_dir()
    except OSError:  # a link that leads back to itself
        known = False
    if not known:
        try:
            check_regular(entry.path)
        except DataError as error:
            raise DataError(f"{error}. Remove or fix it; only files and folders are read") from error


def size_of(entry: os.DirEntry) -> int:
    """Size of a file in bytes.

    Raises:
        DataError: Its folder can be listed but not searched.
    """
    try:
        return entry.stat().st_size
    except OSError as error:
        raise DataError(f"{entry.path}: cannot be read ({reason(error)})") from error


def undecodable(path: str) -> str:
    """The error for a file name that is not UTF-8, as left by archives packed on a Chinese Windows.

    Args:
        path: Path as decoded by Python, with a surrogate for each undecodable byte.
    """
    name = os.fsencode(path.rstrip("/").rpartition("/")[2])
    try:
        meant = f", possibly GBK '{visible(name.decode('gbk'))}'"
    except UnicodeDecodeError:
        meant = ""
    folder = visible(shlex.quote(os.path.dirname(path) or "."))
    return (
        f"{visible(path)}: the file name is not UTF-8{meant}. Rename all such files with: convmv -f gbk -t utf8 -r --notest {folder}; "
        "or unpack the archive again: unzip -O cp936 ARCHIVE"
    )


def by_clean_name(found: Iterable[os.DirEntry]) -> dict[str, os.DirEntry]:
    """Files or folders by clean name.

    Raises:
        DataError: Two entries have the same clean name.
    """
    names: dict[str, os.DirEntry] = {}
    for entry in found:
        other = names.setdefault(clean_name(entry.name), entry)
        if other is not entry:
            raise DataError(f"{entry.path}: {differences(other.name, entry.name)}; both are read as '{clean_name(entry.name)}'. Rename one")
    return names


def walk(folder: str, odd: Odd | None = None) -> Iterator[os.DirEntry]:
    """Every file below ``folder``, in no particular order, without hidden and foreign entries.

    Args:
        folder: Root folder; links in it are followed.
        odd: See ``entries``.

    Raises:
        DataError: See ``entries``; or a link leads back to a parent folder.
    """
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        folder, above = waiting.pop()
        inside = entries(folder, odd)
        state = os.stat(folder)
        here = (state.st_dev, state.st_ino)
        if here in above:
            raise DataError(f"{folder}: symbolic link to one of its own parent folders. Remove it")
        for entry in inside:
            if entry.is_dir():
                waiting.append((entry.path, (*above, here)))
            else:
                yield entry


def kinds(extensions: Counter[str]) -> str:
    """The number of files per extension, for messages."""
    return shortened([f"{n} {extension}" for extension, n in extensions.most_common()], 4)
