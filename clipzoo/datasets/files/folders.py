"""What lies below a folder: class folders and their images, hidden and foreign entries left out."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipzoo.commands import typed
from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.datasets.samples.missing import how_to_make
from clipzoo.errors import DataError, shortened
from clipzoo.files import check_regular, natural, reason
from clipzoo.text import clean_name, clean_path, differences, visible

_IGNORED_FOLDERS = ("__MACOSX", "@eaDir")  # made by archive programs and file servers


@dataclass(frozen=True)
class ImageFile:
    """One image below the root: its stable id, its class (both of them clean names), its real path and its size in bytes."""

    id: str
    class_name: str
    path: str
    size: int


def expected_tree(root: str) -> str:
    """What the folder should look like, and how to get sample data, for messages."""
    return (
        "Expected one folder per class:\n"
        f"    {root}/\n"
        "    ├── class A/   image1.png  image2.jpg  …\n"
        "    └── class B/   …\n"
        f"To make sample data: {typed('make_sample_data digits --out data/digits')}   (then the root is data/digits/images)"
    )


def scan_class_folders(root: Path) -> tuple[list[ImageFile], Counter[str]]:
    """All images below the class folders of ``root`` sorted by id, and how many other files there are of each extension.

    Raises:
        DataError: There is no such folder, it holds no class folder, a class folder holds no image, or images lie beside the class folders.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}. {how_to_make(str(root)) or expected_tree(str(root))}")
    files: list[ImageFile] = []
    ignored: Counter[str] = Counter()
    inside = entries(str(root))
    folders = by_clean_name(entry for entry in inside if entry.is_dir())
    loose = [entry.name for entry in inside if not entry.is_dir() and entry.name.lower().endswith(EXTENSIONS)]
    if not folders:
        raise DataError(f"{root}: no class folder. {expected_tree(str(root))}")
    if loose:
        names = shortened(sorted(loose, key=natural), 3)
        raise DataError(f"{root}: {len(loose)} images lie beside the class folders ({names}). Move them into a class folder")
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
        if extension not in EXTENSIONS:
            others[extension or "(none)"] += 1
            continue
        case_id = f"{class_name}/{clean_path(entry.path[len(folder) + 1 :])}"
        files.append(ImageFile(case_id, class_name, entry.path, size_of(entry)))
    if not files:
        found = f"it holds {kinds(others)} files" if others else "it is empty"
        raise DataError(
            f"{folder}: the class folder has no image, {found}. Supported: {' '.join(e[1:] for e in EXTENSIONS)}. "
            "Add images or remove the folder"
        )
    ignored.update(others)
    return files


def _check_level(root: Path, files: list[ImageFile], folders: dict[str, os.DirEntry]) -> None:
    """Notice a root that is one level too high: a single folder that holds several folders, and no image itself."""
    parts = [file.id.split("/") for file in files]
    if len(folders) == 1 and all(len(p) > 2 for p in parts) and len({p[1] for p in parts}) > 1:
        (only,) = folders.values()
        raise DataError(f"{root}: its only folder, '{only.name}', holds folders and no image. Did you mean root='{only.path}'?")


Odd = Callable[[os.DirEntry, DataError], None]


def entries(folder: str, odd: Odd | None = None) -> list[os.DirEntry]:
    """What ``folder`` holds, without hidden and foreign entries: regular files, and folders.

    Args:
        folder: To list.
        odd: Is told of what is neither, instead of an error; names that are no text are accepted then.

    Raises:
        DataError: It cannot be listed, or something in it is neither, leads nowhere, or has a name that is no text.
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
    """Costs nothing for files and folders, whose kind is known from listing them; only links are followed."""
    try:
        known = entry.is_file() or entry.is_dir()
    except OSError:  # a link that leads back to itself
        known = False
    if not known:
        try:
            check_regular(entry.path)
        except DataError as error:
            raise DataError(f"{error}. Remove or mend it; only files and folders are read") from error


def size_of(entry: os.DirEntry) -> int:
    """Bytes of a file.

    Raises:
        DataError: Its folder may be listed, but not searched.
    """
    try:
        return entry.stat().st_size
    except OSError as error:
        raise DataError(f"{entry.path}: cannot be read ({reason(error)})") from error


def undecodable(path: str) -> str:
    """The message for a file name that is not UTF-8, as archives that were packed on a Chinese Windows give after unpacking.

    Args:
        path: As Python has it, a surrogate for each byte that it could not decode.
    """
    name = os.fsencode(path.rstrip("/").rpartition("/")[2])
    try:
        meant = f", in GBK '{visible(name.decode('gbk'))}'"
    except UnicodeDecodeError:
        meant = ""
    folder = visible(shlex.quote(os.path.dirname(path) or "."))
    return (
        f"{visible(path)}: the file name is not UTF-8{meant}. Rename all at once: convmv -f gbk -t utf8 -r --notest {folder}; "
        "or unpack the archive again: unzip -O cp936 ARCHIVE"
    )


def by_clean_name(found: Iterable[os.DirEntry]) -> dict[str, os.DirEntry]:
    """Files or folders by their clean names.

    Raises:
        DataError: Two have the same.
    """
    names: dict[str, os.DirEntry] = {}
    for entry in found:
        other = names.setdefault(clean_name(entry.name), entry)
        if other is not entry:
            raise DataError(f"{entry.path}: {differences(other.name, entry.name)}; both are read as '{clean_name(entry.name)}'. Rename one")
    return names


def walk(folder: str, odd: Odd | None = None) -> Iterator[os.DirEntry]:
    """Every file below ``folder``, in no order, without hidden and foreign ones.

    Args:
        folder: Links in it are followed.
        odd: As ``entries``.

    Raises:
        DataError: As ``entries``, or a link leads back.
    """
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        folder, above = waiting.pop()
        inside = entries(folder, odd)
        state = os.stat(folder)
        here = (state.st_dev, state.st_ino)
        if here in above:
            raise DataError(f"{folder}: a symbolic link that leads back to a folder it is in. Remove it")
        for entry in inside:
            if entry.is_dir():
                waiting.append((entry.path, (*above, here)))
            else:
                yield entry


def kinds(extensions: Counter[str]) -> str:
    """How many files there are of which extension, for messages."""
    return shortened([f"{n} {extension}" for extension, n in extensions.most_common()], 4)
