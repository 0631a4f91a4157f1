"""Few-shot tasks on disk, read and checked as a whole, so that all problems are reported at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from clipzoo.datasets.files.copies import file_digest
from clipzoo.datasets.files.folders import entries, is_image, kinds, supported, walk
from clipzoo.datasets.files.images import read_image
from clipzoo.errors import DataError, LeakError, shortened
from clipzoo.files import natural
from clipzoo.text import clean_name, clean_path

Progress = Callable[[int], AbstractContextManager[Callable[[int], object]]]
SUPPORT, QUERY = "support", "query"
LAYOUT = (
    "Expected:\n"
    "    {root}/testB/\n"
    "    ├── task1/\n"
    "    │   ├── support/   one folder of images per class\n"
    "    │   └── query/     the images to predict\n"
    "    └── task2/  …\n"
    "The parent folder of the tasks may have any name, or be omitted"
)


@dataclass(frozen=True)
class Support:
    """A labelled image of a task.

    Attributes:
        path: Path of the file.
        label: Index of the class in the task's ``classes``.
        digest: Digest of the file's bytes.
    """

    path: str
    label: int
    digest: bytes


@dataclass(frozen=True)
class Query:
    """An image to be predicted.

    Attributes:
        name: Its path below the task's ``query`` folder, with slashes, NFC-normalised.
        path: Path of the file.
    """

    name: str
    path: str


@dataclass(frozen=True)
class Task:
    """A task: classes, a few images of each, and images to predict.

    Attributes:
        name: Name of the folder, NFC-normalised.
        classes: Names of the support folders, NFC-normalised and sorted.
        support: Support images, sorted by class and path; one or more per class.
        query: Query images, in natural order of their names; one or more.
        notes: Remarks for the user, one sentence each.
    """

    name: str
    classes: tuple[str, ...]
    support: tuple[Support, ...]
    query: tuple[Query, ...]
    notes: tuple[str, ...] = ()


def read_tasks(root: str | Path, watched: Progress | None = None) -> list[Task]:
    """All tasks below ``root`` in natural order of their names. Every support image is decoded once as a test.

    Args:
        root: Parent folder of the task folders, or the folder above. Task folders are those that contain ``support`` or ``query``, or
            whose name starts with ``task``.
        watched: Function from the number of support images to a context manager, whose value is called with the number decoded.

    Raises:
        DataError: There are no tasks; or a task has problems, with one line for each: no support, no query, a class folder without
            images, a support image that is unreadable or in two classes, two names that differ only in Unicode normalisation.
        LeakError: Likewise, if a query image is identical to a support image of its task.
    """
    folders = task_folders(Path(root))
    found, problems = [], _Problems()
    for folder in folders:
        found.append(_read_task(folder, problems))
    for twice in _repeated(task.name for task in found):
        problems.add(f"{Path(folders[0]).parent}: two tasks are named '{twice}' up to blanks or Unicode normalisation. Rename one")
    _decode([support for task in found for support in task.support], watched, problems)
    problems.refuse()
    return found


def task_folders(root: Path) -> list[str]:
    """The task folders of ``root``, in natural order.

    Raises:
        DataError: The folder is missing, contains no tasks, or has two subfolders with tasks.
    """
    layout = LAYOUT.format(root=root)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}. {layout}")
    if (root / SUPPORT).is_dir() and (root / QUERY).is_dir():
        raise DataError(f"{root}: is itself a task. Pass its parent folder, {root.resolve().parent}")
    here = _tasks_in(str(root))
    if here:
        return here
    below = {entry.name: found for entry in entries(str(root)) if entry.is_dir() and (found := _tasks_in(entry.path))}
    if not below:
        raise DataError(f"{root}: contains no tasks. {layout}")
    if len(below) > 1:
        raise DataError(
            f"{root}: tasks are in several folders: {shortened(sorted(below, key=natural))}. Pass one of them, such as {root / min(below)}"
        )
    return next(iter(below.values()))


def _tasks_in(folder: str) -> list[str]:
    def is_task(entry: os.DirEntry) -> bool:
        if _has_parts(entry):
            return True
        return entry.name.lower().startswith("task") and not any(map(_has_parts, entries(entry.path)))  # "tasks" is the folder above

    found = [entry for entry in entries(folder) if entry.is_dir() and is_task(entry)]
    return [entry.path for entry in sorted(found, key=lambda entry: natural(clean_name(entry.name)))]


def _has_parts(entry: os.DirEntry) -> bool:
    return any(os.path.isdir(os.path.join(entry.path, name)) for name in (SUPPORT, QUERY))


def _repeated(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


class _Problems:
    """Collects problems."""

    def __init__(self):
        self.lines: list[str] = []
        self.leaks = 0

    def add(self, text: str) -> None:
        self.lines.append(text)

    def leak(self, text: str) -> None:
        self.leaks += 1
        self.add(text)

    def refuse(self) -> None:
        """Raise all problems, if there are any."""
        if self.lines:
            number = f"{len(self.lines)} problems, nothing was computed\n" if len(self.lines) > 1 else ""
            raise (LeakError if self.leaks else DataError)(number + "\n".join(self.lines))


def _read_task(folder: str, problems: _Problems) -> Task:
    ignored: Counter[str] = Counter()
    classes, support = _support(os.path.join(folder, SUPPORT), ignored, problems)
    query = _query(os.path.join(folder, QUERY), ignored, problems)
    name = clean_name(os.path.basename(folder))
    support_of = {image.digest: image for image in support}
    for image in query:
        same = support_of.get(_digest(image.path))
        if same is not None:
            problems.leak(
                f"{image.path}: the same image as {same.path}, byte for byte. A query must not contain a support image: remove one"
            )
    notes = (f"files that are no images were ignored: {kinds(ignored)}",) if ignored else ()
    return Task(name, tuple(classes), tuple(support), tuple(query), notes)


def _support(folder: str, ignored: Counter[str], problems: _Problems) -> tuple[list[str], list[Support]]:
    """Classes and their images; problems are noted."""
    if not os.path.isdir(folder):
        problems.add(f"{folder}: no such folder. A task must contain {SUPPORT}/ with one folder of images per class")
        return [], []
    inside = entries(folder)
    loose = sorted(entry.name for entry in inside if not entry.is_dir() and is_image(entry.path))
    if loose:
        problems.add(f"{folder}: images lie next to the class folders ({shortened(loose, 3)}). Move them into a class folder")
    folders = sorted(((clean_name(entry.name), entry.path) for entry in inside if entry.is_dir()), key=lambda found: natural(found[0]))
    if not folders:
        problems.add(f"{folder}: no class folders. A task must contain one folder of images per class")
    classes, found = [name for name, _ in folders], []
    for twice in _repeated(classes):
        problems.add(f"{folder}: two folders are named '{twice}' up to blanks or Unicode normalisation. Merge them")
    for label, (_, path) in enumerate(folders):
        images = _images(path, ignored)
        if not images:
            problems.add(f"{path}: no images in the class folder. Add one, or remove the folder")
        for image in images:
            try:
                found.append(Support(image, label, file_digest(image)))
            except DataError as error:
                problems.add(str(error))
    first: dict[bytes, Support] = {}
    for image in found:
        other = first.setdefault(image.digest, image)
        if other.label != image.label:
            problems.add(f"{image.path}: the same image is also in class '{classes[other.label]}', as {other.path}. Remove the wrong one")
    return classes, found


def _query(folder: str, ignored: Counter[str], problems: _Problems) -> list[Query]:
    if not os.path.isdir(folder):
        problems.add(f"{folder}: no such folder. A task must contain {QUERY}/ with the images to predict")
        return []
    paths = _images(folder, ignored)
    if not paths:
        problems.add(f"{folder}: no images to predict. Supported: {supported()}")
    found = [Query(clean_path(os.path.relpath(path, folder)), path) for path in paths]
    for twice in _repeated(query.name for query in found):
        problems.add(f"{folder}: two images are named '{twice}' up to blanks or Unicode normalisation. Rename one")
    return sorted(found, key=lambda query: (natural(query.name), query.path))


def _images(folder: str, ignored: Counter[str]) -> list[str]:
    """Paths of the images at any depth below ``folder``, sorted by clean name; other files are counted."""
    paths = [entry.path for entry in walk(folder)]
    images = {path for path in paths if is_image(path)}
    ignored.update(os.path.splitext(path)[1].lower() or "(none)" for path in paths if path not in images)
    return sorted(images, key=lambda path: (clean_path(path), path))


def _digest(path: str) -> bytes | None:
    """Digest of a file; ``None`` if it is unreadable, as an unreadable query does not stop the others."""
    try:
        return file_digest(path)
    except DataError:
        return None


def _decode(images: Sequence[Support], watched: Progress | None, problems: _Problems) -> None:
    """Report the images that cannot be decoded."""

    with nullcontext() if watched is None else watched(len(images)) as through:
        for done, image in enumerate(images, start=1):
            try:
                read_image(image.path)
            except DataError as error:
                problems.add(str(error))
            if through is not None:
                through(done)
