"""Fingerprint of the data of a run: a digest of every image, text, label and group, to detect changes between two starts.

The bytes of an image are read once. Later starts compare the size and times of its file and read it again only if these leave a doubt: if
it was changed, touched or copied, or written so shortly before it was read that a later change may have the same times.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipzoo.commands import typed
from clipzoo.datasets.files.digests import FileDigest, FileState
from clipzoo.engine import work_dir
from clipzoo.engine.checkpoint import LATEST
from clipzoo.errors import CheckpointError, shortened
from clipzoo.files import natural
from clipzoo.records.json_records import as_record, read_record, write_record
from clipzoo.records.results import RESULT_FILE
from clipzoo.runtime import distributed
from clipzoo.runtime.progress import shown
from clipzoo.text import visible

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.datasets.base import Dataset

FILE = "data.json"
_ADVICE = f"Delete it if it is damaged: {typed('train')} recreates it from the data, and refuses folds that were trained on other data"
_THREADS = 8  # more than the cores of most machines, as they wait for disks
_PORTION = 32  # images per task of a thread
_NOTABLE = 5.0  # seconds after which the duration is logged


class Mark(NamedTuple):
    """The fingerprint of one case, or of each of its images if it has several.

    Attributes:
        label: Class index; ``None`` without a label.
        group: Its group; of one of several images of a case (``Views``), also the case's id.
        texts: Digest of its captions; ``None`` if they are the captions of its class.
        image: Digest of the bytes of its image file, or of size and pixels if the image is not simply a file.
        size: Size of the file, as in ``FileState``; ``None`` if the image is not simply a file.
        modified: Modification time, as in ``FileState``; ``None`` likewise.
        changed: Change time, as in ``FileState``; ``None`` likewise.
    """

    label: int | None
    group: str
    texts: str | None
    image: str
    size: int | None = None
    modified: int | None = None
    changed: int | None = None


@dataclass(frozen=True)
class Change:
    """An accepted change of the data.

    Attributes:
        note: What changed and when, for the summary.
        digest: Digest of the data before the change.
        images: Former digest and size of images that were changed or removed, by case id.
    """

    note: str
    digest: str
    images: dict[str, tuple[str, int | None]]


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of a dataset, with its accepted changes.

    Attributes:
        made: Time at which reading began, in nanoseconds since 1970.
        classes: Class names.
        class_texts: Captions of each class.
        cases: Fingerprints of the cases, by case id; or of the images, by theirs, if cases have several.
        changes: Accepted changes, oldest first.
    """

    made: int
    classes: tuple[str, ...]
    class_texts: tuple[tuple[str, ...], ...]
    cases: dict[str, Mark]
    changes: tuple[Change, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all contents; equal for a copy of the data in another place."""
        digest = hashlib.sha256(_canonical([self.classes, self.class_texts]))
        for case_id, mark in sorted(self.cases.items()):
            digest.update(_canonical([case_id, mark.label, mark.group, mark.texts, mark.image]))
        return digest.hexdigest()

    @property
    def earlier(self) -> tuple[str, ...]:
        """Digests of the data before each accepted change."""
        return tuple(change.digest for change in self.changes)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each change, for readers of a result."""
        return tuple(change.note for change in self.changes)

    def images(self) -> set[tuple[str, int | None]]:
        """Digest and size of every present image, and of those before a change."""
        now = {(mark.image, mark.size) for mark in self.cases.values()}
        return now.union(*({(digest, size) for digest, size in change.images.values()} for change in self.changes))

    def write(self, folder: Path) -> None:
        """Write ``data.json``."""
        changes = [asdict(change) for change in self.changes]
        record = _Record(self.digest, self.made, list(self.classes), list(map(list, self.class_texts)), self.cases, changes)
        write_record(folder / FILE, vars(record))

    @classmethod
    def read(cls, folder: Path) -> Fingerprint:
        """Read ``data.json``.

        Raises:
            CheckpointError: The file is missing or damaged.
        """
        path = folder / FILE
        record = read_record(_Record, path, _ADVICE)
        return cls(
            record.made,
            tuple(record.classes),
            tuple(map(tuple, record.class_texts)),
            {case_id: _mark(mark, path) for case_id, mark in record.cases.items()},
            tuple(_change(change, path) for change in record.changes),
        )


@dataclass(frozen=True)
class _Record:
    """The content of ``data.json``."""

    digest: str
    made: int
    classes: list[str]
    class_texts: list[list[str]]
    cases: dict[str, list]
    changes: list[dict]


def _change(content: dict, path: Path) -> Change:
    change = as_record(Change, content, path, _ADVICE)
    return replace(change, images={case_id: (digest, size) for case_id, (digest, size) in change.images.items()})


_NUMBER = (int, type(None))
_KINDS = (_NUMBER, str, (str, type(None)), str, _NUMBER, _NUMBER, _NUMBER)  # of a mark's values


def _mark(values: list, path: Path) -> Mark:
    if len(values) != len(_KINDS) or not all(map(isinstance, values, _KINDS)):
        raise CheckpointError(f"{path}: damaged: {values} is not a valid entry of a case. {_ADVICE}")
    return Mark(*values)


class Look:
    """One pass over all images of a dataset. Iterating yields the number of images done; call ``result`` afterwards.

    Args:
        dataset: Dataset to fingerprint.
        earlier: Earlier fingerprint; files that it proves unchanged are not read.

    Attributes:
        num_read: Number of images read.
    """

    def __init__(self, dataset: Dataset, earlier: Fingerprint | None = None):
        self.dataset, self.earlier = dataset.single_images, earlier
        self._groups = dataset.image_groups()
        self.num_read = 0
        self._made = time.time_ns()
        self._images: list[_Image] = []
        for row, case in enumerate(self.dataset.cases if earlier is not None else ()):
            source, mark = self.dataset.source_of(row), earlier.cases.get(case.id)
            if source is not None and mark is not None and mark.size is not None:
                state = FileState(mark.size, mark.modified, mark.changed)
                self.dataset.digests.add(source, FileDigest(mark.image, state, earlier.made))

    def __iter__(self) -> Iterator[int]:
        """Yield the number of images done; raise ``DataError`` if an image is missing or unreadable."""
        for image in self._looked_at():
            self._images.append(image)
            self.num_read += image.read
            yield len(self._images)

    def result(self) -> Fingerprint:
        """The fingerprint of the present data, without changes."""
        data = self.dataset
        sentences = data.captions.sentences
        of_class = data.class_captions()
        cases = {}
        for row, (case, image) in enumerate(zip(data.cases, self._images, strict=True)):
            ids = data.captions_of(row)
            usual = case.label is not None and ids == of_class[case.label]
            texts = None if usual else _digest(_canonical([sentences[i] for i in ids]))
            cases[case.id] = Mark(case.label, self._groups[row], texts, image.digest, *(image.state or ()))
        texts = tuple(tuple(sentences[i] for i in ids) for ids in of_class)
        made = self._made if self.num_read or self.earlier is None else self.earlier.made
        return Fingerprint(made, data.classes, texts, cases)

    def _looked_at(self) -> Iterator[_Image]:
        """In the order of the rows; with threads only if the images are files, as other datasets may not be thread-safe."""
        rows = range(len(self.dataset))
        if self.dataset.source_of(0) is None:
            yield from map(self._image, rows)
            return
        stop = threading.Event()

        def look(portion: Sequence[int]) -> list[_Image]:
            return [self._image(row) for row in portion if not stop.is_set()]

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="fingerprint") as pool:
            try:
                for images in pool.map(look, (rows[start : start + _PORTION] for start in rows[::_PORTION])):
                    yield from images
            finally:  # immediately, also after Ctrl-C
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _image(self, row: int) -> _Image:
        source = self.dataset.source_of(row)
        if source is None:
            return _Image(self.dataset.content_digest(row), None, True)
        found = self.dataset.digests.of(source)
        return _Image(found.digest, found.state, found.read_at >= self._made)


class _Image(NamedTuple):
    """The fingerprint of one image."""

    digest: str
    state: FileState | None
    read: bool


def of(dataset: Dataset, earlier: Fingerprint | None = None) -> Fingerprint:
    """The fingerprint of the present state of a dataset; see ``Look``."""
    look = Look(dataset, earlier)
    for _ in look:
        pass
    return look.result()


def differences(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Descriptions of what changed, with names; empty if the digests are equal."""
    both = [(case_id, old.cases[case_id], mark) for case_id, mark in new.cases.items() if case_id in old.cases]
    before, after = (dict(enumerate(fingerprint.classes)) for fingerprint in (old, new))
    texts, new_texts = (dict(zip(fingerprint.classes, fingerprint.class_texts, strict=False)) for fingerprint in (old, new))
    one_sided = [name for name in (*old.classes, *new.classes) if (name in old.classes) != (name in new.classes)]
    kinds = {
        "{} image": [case_id for case_id, a, b in both if a.image != b.image],
        "captions of {} case": [case_id for case_id, a, b in both if a.texts != b.texts],
        "texts of {} class": [name for name, found in new_texts.items() if texts.get(name, found) != found],
        "labels of {} case": [case_id for case_id, a, b in both if before.get(a.label) != after.get(b.label)],
        "groups of {} case": [case_id for case_id, a, b in both if a.group != b.group],
        "{} lost case": [case_id for case_id in old.cases if case_id not in new.cases],
        "{} new case": [case_id for case_id in new.cases if case_id not in old.cases],
        "{} class name": one_sided,
    }
    found = [f"{_plural(kind, len(names))} ({shortened(map(visible, names), 3)})" for kind, names in kinds.items() if names]
    return found + (["order of the classes"] if old.classes != new.classes and not one_sided else [])


def _plural(kind: str, number: int) -> str:
    return kind.format(number) + ("" if number == 1 else "es" if kind.endswith("s") else "s")


def recorded(folder: Path) -> Fingerprint | None:
    """The recorded fingerprint of a work dir; ``None`` if it is new.

    Raises:
        CheckpointError: ``data.json`` is damaged.
    """
    return Fingerprint.read(folder) if (folder / FILE).exists() else None


def compare_fingerprint(folder: Path, dataset: Dataset, *, accept_changes: bool = False, log: Logger, console: Console) -> Fingerprint:
    """The fingerprint of the data, after comparing it with the record in a work dir. A collective operation that writes nothing.

    Args:
        folder: The work dir, new or existing.
        dataset: Dataset of the training.
        accept_changes: Accept changed data, and note it.
        log: Logger for progress lines and for the duration, if it took long.
        console: Console for the progress bar.

    Raises:
        CheckpointError: The data changed (the message says what), or ``data.json`` is damaged.
        DataError: An image is missing or cannot be read.
    """
    return distributed.in_turns(_compared(folder, dataset, accept_changes, log, console))


def keep_fingerprint(folder: Path, found: Fingerprint, *, accept_changes: bool = False) -> Fingerprint:
    """Record the result of ``compare_fingerprint`` and return it, after comparing it with what another process recorded meanwhile.

    Raises:
        CheckpointError: The data changed in the meantime.
    """
    with work_dir.owned(folder):
        stored = recorded(folder)
        found = _with_changes(folder, stored, found, accept_changes)
        if found != stored:
            found.write(folder)
    return found


def _compared(folder: Path, dataset: Dataset, accept_changes: bool, log: Logger, console: Console) -> Generator[None, None, Fingerprint]:
    """The work of the main process; yields when a turn is over."""
    started = turn = time.monotonic()
    stored = recorded(folder)
    look = Look(dataset, stored)
    with shown("looking for changes of the data" if stored else "reading the data", len(look.dataset), console, log) as report:
        for done in look:
            report(done)
            if time.monotonic() - turn > distributed.TURN_SECONDS:
                yield
                turn = time.monotonic()
    seconds = time.monotonic() - started
    if seconds > _NOTABLE:
        log.info(f"digest of the data: {look.num_read} of {len(look.dataset)} images read, {seconds:.0f} s")
    return _with_changes(folder, stored, look.result(), accept_changes)


def _with_changes(folder: Path, stored: Fingerprint | None, found: Fingerprint, accepted: bool) -> Fingerprint:
    """``found`` with the changes accepted earlier and, if ``accepted``, its differences from ``stored``."""
    if stored is None:
        return found
    what = "; ".join(differences(stored, found))
    if not what:
        return replace(found, changes=stored.changes)
    if not accepted:
        raise CheckpointError(
            f"{folder}: the data changed since it was made: {what}. Restore the data, choose another --work-dir, "
            f"or continue with {typed('train')} --accept-changed-data, which is then noted in the summary"
        )
    now = {case_id: mark.image for case_id, mark in found.cases.items()}
    images = {case_id: (mark.image, mark.size) for case_id, mark in stored.cases.items() if now.get(case_id) != mark.image}
    return replace(found, changes=(*stored.changes, Change(f"data changed {_when(folder)}: {what}", stored.digest, images)))


def _when(folder: Path) -> str:
    """A phrase that names the folds after or during whose training the data changed."""
    done = {path.parent.name for path in folder.glob(f"*/{RESULT_FILE}")}
    in_training = {path.parent.name for path in folder.glob(f"*/{LATEST}")} - done
    phrases = [
        f"{word} {shortened(sorted(names, key=natural), 3)} {'was' if len(names) == 1 else 'were'} {state}"
        for word, names, state in (("after", done, "trained"), ("while", in_training, "in training"))
        if names
    ]
    return " and ".join(phrases) or "before anything was trained"


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
