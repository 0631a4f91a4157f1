"""What lies below a folder: class folders and their images, hidden and foreign entries left out."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipzoo.datasets.images import EXTENSIONS
from clipzoo.errors import DataError, shortened

_IGNORED_FOLDERS = ("__MACOSX", "@eaDir")  # made by archive programs and file servers


@dataclass(frozen=True)
class ImageFile:
    """One image below the root: its stable id, its class, its real path (which may be NFD) and its size in bytes."""

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
        "Sample data are made by: python tools/make_sample_data.py digits --out data/digits   (then the root is data/digits/images)"
    )


def scan_class_folders(root: Path) -> tuple[list[ImageFile], Counter[str]]:
    """All images below the class folders of ``root`` sorted by id, and how many other files there are of each extension.

    Raises:
        DataError: There is no such folder, it holds no class folder, a class folder holds no image, or images lie beside the class folders.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}. {expected_tree(str(root))}")
    files: list[ImageFile] = []
    ignored: Counter[str] = Counter()
    loose: list[str] = []
    folders: dict[str, os.DirEntry] = {}
    for entry in entries(str(root)):
        name = unicodedata.normalize("NFC", entry.name)
        if not entry.is_dir():
            loose += [name] if name.lower().endswith(EXTENSIONS) else []
        elif name in folders:
            raise DataError(f"{root}: two folders are called '{name}', in two Unicode spellings. Merge them")
        else:
            folders[name] = entry
    if not folders:
        raise DataError(f"{root}: no class folder. {expected_tree(str(root))}")
    if loose:
        names = shortened(sorted(loose), 3)
        raise DataError(f"{root}: {len(loose)} images lie beside the class folders ({names}). Move them into a class folder")
    for name, entry in sorted(folders.items()):
        files += _scan_class(name, entry.path, ignored)
    _check_level(root, files, folders)
    files.sort(key=lambda file: file.id)
    for a, b in zip(files, files[1:], strict=False):
        if a.id == b.id:
            raise DataError(f"{a.path}: another file has the same name in another Unicode spelling. Rename one of them")
    return files, ignored


def _scan_class(class_name: str, folder: str, ignored: Counter[str]) -> list[ImageFile]:
    files: list[ImageFile] = []
    others: Counter[str] = Counter()
    for entry in walk(folder):
        name = unicodedata.normalize("NFC", entry.name)
        extension = os.path.splitext(name)[1].lower()
        if extension not in EXTENSIONS:
            others[extension or "(none)"] += 1
            continue
        relative = entry.path[len(folder) + 1 :].replace(os.sep, "/")
        case_id = f"{class_name}/{unicodedata.normalize('NFC', relative)}"
        files.append(ImageFile(case_id, class_name, entry.path, entry.stat().st_size))
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


def entries(folder: str) -> list[os.DirEntry]:
    """What ``folder`` holds, without hidden and foreign entries."""
    try:
        with os.scandir(folder) as scan:
            return [entry for entry in scan if not entry.name.startswith(".") and entry.name not in _IGNORED_FOLDERS]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error


def walk(folder: str, above: tuple[str, ...] = ()) -> Iterator[os.DirEntry]:
    """Every file below ``folder``, in no order, without hidden and foreign ones.

    Args:
        folder: Links in it are followed.
        above: The real paths of the folders it is in, to notice links that lead back.

    Raises:
        DataError: A folder cannot be read, or a link leads back.
    """
    here = os.path.realpath(folder)
    if here in above:
        raise DataError(f"{folder}: a symbolic link that leads back to a folder it is in. Remove it")
    for entry in entries(folder):
        if entry.is_dir():
            yield from walk(entry.path, (*above, here))
        else:
            yield entry


def kinds(extensions: Counter[str]) -> str:
    """How many files there are of which extension, for messages."""
    return shortened([f"{n} {extension}" for extension, n in extensions.most_common()], 4)
