"""The index of a folder: the features of all its images, computed once and stored beside them.

Legend: N images · D embedding width · Q queries.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.datasets.batches.image_list import ImageReader, batches, workers
from clipzoo.datasets.files.folders import is_image, supported, walk
from clipzoo.errors import DataError
from clipzoo.features.arrays import read_arrays, write_arrays
from clipzoo.features.cache_folder import NO_HOME, cache_folder

if TYPE_CHECKING:
    from clipzoo.inference.clip import LoadedCLIP

FOLDER = ".clipzoo-index"
FORMAT = "clipzoo-index-2"


@dataclass(frozen=True)
class IndexedFile:
    """The state of an image file when it was encoded.

    Attributes:
        name: Path below the folder, with slashes.
        size: Size in bytes.
        mtime_ns: Modification time in nanoseconds.
    """

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageIndex:
    """The features of a folder's images.

    Attributes:
        files: N files, sorted by name.
        features: ``[N, D]`` float32 of length 1; half precision would reorder images that are almost equally similar.
    """

    files: tuple[IndexedFile, ...]
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def search(self, query_QD: np.ndarray, k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` most similar images for every query with their cosine similarities, best first; ties in order of name."""
        similarity_QN = query_QD.astype(np.float32) @ self.features.T
        found = []
        for row in similarity_QN:
            best = np.argsort(-row, kind="stable")[:k]
            found.append([(self.files[i].name, float(row[i])) for i in best])
        return found

    def write(self, path: Path, digest: str) -> None:
        """Write the index of the model ``digest`` atomically.

        Raises:
            DataError: The file cannot be written.
        """
        # As bytes, since names need not be valid text; no name contains 0.
        names = np.frombuffer(b"\0".join(os.fsencode(file.name) for file in self.files), dtype=np.uint8)
        states = np.array([[file.size, file.mtime_ns] for file in self.files], dtype=np.int64).reshape(len(self), 2)
        head = np.frombuffer(f"{FORMAT} {digest}".encode("ascii"), dtype=np.uint8)
        write_arrays(path, head=head, names=names, states=states, features=self.features)

    @classmethod
    def read(cls, path: Path, digest: str) -> ImageIndex:
        """Read an index written by ``write``.

        Raises:
            DataError: The file is damaged, or of another model or format.
        """
        content = read_arrays(path, head="u1", names="u1", states="i8", features="f4")
        if content["head"].tobytes() != f"{FORMAT} {digest}".encode("ascii"):
            raise DataError(f"{path}: of another model or version")
        names = [os.fsdecode(name) for name in content["names"].tobytes().split(b"\0") if name]
        states, features = content["states"], content["features"]
        if len(set(names)) != len(names) or states.shape != (len(names), 2) or features.ndim != 2 or len(features) != len(names):
            raise DataError(f"{path}: its parts do not match each other")
        if not np.isfinite(features).all():
            raise DataError(f"{path}: contains features that are not finite")
        return cls(tuple(IndexedFile(name, *state) for name, state in zip(names, states.tolist(), strict=True)), features)


@dataclass(frozen=True)
class Update:
    """The result of updating an index.

    Attributes:
        index: Index of all readable images.
        path: Path of the index; ``None`` if it could not be written.
        encoded: Number of images encoded now, because they are new or changed.
        kept: Number of images encoded earlier.
        removed: Number of images that no longer exist.
        failed: Error messages of unreadable images, by name.
        notes: Notes for the user, one sentence each.
    """

    index: ImageIndex
    path: Path | None
    encoded: int
    kept: int
    removed: int
    failed: dict[str, str]
    notes: tuple[str, ...]


def update(
    folder: Path,
    loaded: LoadedCLIP,
    *,
    rebuild: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Update:
    """Bring the index of ``folder`` up to date: only new and changed images are encoded.

    Images encoded before an interruption are kept.

    Args:
        folder: Folder of images, at any depth.
        loaded: Model that computes the features; every model has a separate index.
        rebuild: Encode all images again.
        batch_size: Images per batch.
        num_workers: Worker processes that read images; ``None`` chooses up to 8, depending on the number of images.
        progress: Function that takes the number of images to encode and returns a context manager, whose value is called with the number of
            images done.

    Raises:
        DataError: The folder does not exist, or contains no readable image.
    """
    files, failed = scan(folder)
    digest = loaded.digest
    path, notes = place(folder, digest)
    old, more = _existing(path, digest, rebuild, loaded)
    state = {file: row for row, file in enumerate(old.files)} if old is not None else {}
    kept = [file for file in files if file in state]
    fresh = [file for file in files if file not in state]
    features = [old.features[[state[file] for file in kept]]] if kept else []
    encoder = _Encoder(folder, loaded, batch_size, workers(num_workers, len(fresh)), progress)
    removed = len({file.name for file in old.files} - {file.name for file in files}) if old is not None else 0
    try:
        encoder.encode(fresh)
    finally:
        done = [*kept, *encoder.files]
        order = sorted(range(len(done)), key=lambda row: done[row].name)
        rows = np.concatenate([*features, *encoder.features]) if done else np.zeros((0, 0), dtype=np.float32)
        index = ImageIndex(tuple(done[row] for row in order), rows[order])
        if encoder.files or removed or len(kept) < len(state):
            path, further = _write(index, path, folder, digest)
            more += further
    failed = dict(sorted({**failed, **encoder.failed}.items()))
    if not len(index):
        first = next(iter(failed.values()))
        raise DataError(f"{folder}: none of its {len(failed)} images can be read. The first: {first}")
    return Update(index, path, len(encoder.files), len(kept), removed, failed, (*notes, *more))


class _Encoder:
    """Encodes files, and keeps the results so far after an interruption."""

    def __init__(self, folder: Path, loaded: LoadedCLIP, batch_size: int, num_workers: int, progress: Callable | None):
        self.folder, self.loaded, self.batch_size, self.num_workers, self.progress = folder, loaded, batch_size, num_workers, progress
        self.files: list[IndexedFile] = []
        self.features: list[np.ndarray] = []
        self.failed: dict[str, str] = {}

    def encode(self, files: Sequence[IndexedFile]) -> None:
        """Encode all readable files."""
        if not files:
            return
        if self.progress is None:
            self._encode(files, lambda done: None)
            return
        with self.progress(len(files)) as report:
            self._encode(files, report)

    def _encode(self, files: Sequence[IndexedFile], report: Callable[[int], None]) -> None:
        reader = ImageReader([self.folder / file.name for file in files], self.loaded.preprocess)
        for batch in batches(reader, self.batch_size, self.num_workers):
            self.failed |= {files[row].name: message for row, message in batch.failed.items()}
            if batch.rows:
                self.features.append(self.loaded.image_features(batch.images).numpy())
                self.files += [files[row] for row in batch.rows]
            report(len(self.files) + len(self.failed))


def scan(folder: Path) -> tuple[list[IndexedFile], dict[str, str]]:
    """The images below ``folder`` sorted by name, and error messages for those that are inaccessible, by name.

    Raises:
        DataError: The folder does not exist, or contains no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}. Pass a folder of images")
    files, failed = [], {}

    def name_of(entry: os.DirEntry) -> str:
        return os.path.relpath(entry.path, folder).replace(os.sep, "/")

    for entry in walk(str(folder), lambda entry, error: failed.update({name_of(entry): str(error)})):
        if is_image(entry.path):
            state = entry.stat()
            files.append(IndexedFile(name_of(entry), state.st_size, state.st_mtime_ns))
    if not files and not failed:
        raise DataError(f"{folder}: no images in this folder. Supported: {supported()}")
    return sorted(files, key=lambda file: file.name), failed


def place(folder: Path, digest: str) -> tuple[Path | None, tuple[str, ...]]:
    """The path of the index of ``folder``, if it can be written, and a note if it is not beside the images."""
    beside = folder / FOLDER
    existing = beside if os.path.lexists(beside) else folder
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return beside / f"{digest}.npz", ()
    return _in_cache(folder, digest)


def _in_cache(folder: Path, digest: str) -> tuple[Path | None, tuple[str, ...]]:
    cache = cache_folder()
    if cache is None:
        return None, (f"{folder} is not writable, so its index is not kept: {NO_HOME}",)
    path = cache / "index" / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16] / f"{digest}.npz"
    return path, (f"{folder} is not writable; its index is kept in {path.parent}",)


def _existing(path: Path | None, digest: str, rebuild: bool, loaded: LoadedCLIP) -> tuple[ImageIndex | None, tuple[str, ...]]:
    """The existing index, if any, and a note if it is damaged."""
    if rebuild or path is None or not os.path.lexists(path):
        return None, ()
    try:
        index = ImageIndex.read(path, digest)
        width = loaded.encode_text("1").shape[1]
        if len(index) and index.features.shape[1] != width:
            raise DataError(f"{path}: its features have width {index.features.shape[1]}, but the model's have {width}")
        return index, ()
    except DataError as error:
        return None, (f"{error}; the index is rebuilt",)


def _write(index: ImageIndex, path: Path | None, folder: Path, digest: str) -> tuple[Path | None, tuple[str, ...]]:
    """Write the index, in the cache if not to ``path``; return its actual path and notes."""
    if path is None:
        return None, ()
    try:
        index.write(path, digest)
        return path, ()
    except DataError:
        other, notes = _in_cache(folder, digest)
    if other is None:
        return None, notes
    try:
        index.write(other, digest)
        return other, notes
    except DataError as error:
        return None, (f"the index is not kept: {error}",)
