"""Packs: pixels by digest in a few large files that grow at their end, for any number of processes that read and write at once.

    <geometry>/<number>.pack       pixels, one image after the other
    <geometry>/<number>.index      a record per image: digest, place, height, width, checksum

A record is written after the pixels that it describes, and its checksum covers all of it: a process that is killed leaves a record that
is ignored, or bytes that nobody looks at. Whatever is damaged later is noticed when it is read, and written again. The lock only keeps
writers from writing the same image, or to the same place; if it failed, the checksum would notice.

Files are read by position and not mapped into memory. Both use the one copy in the system's page cache that all processes share; but a
mapped file that is cut, or deleted on a network share, ends the process with SIGBUS, and reading gives an error. It takes 10 us for
150 KB, and the checksum 70.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipzoo.datasets.image_cache.budget import Budget, pack_names, writing

RECORD = struct.Struct("<16sQIII")  # digest, offset, height, width, CRC-32 of these four and the pixels
_SHAPE = struct.Struct("<16sQII")
_MOST_BYTES = 1 << 28  # more than any tower sees of an image
_MOST_WAITING, _MOST_IMAGES = 1 << 22, 256  # bytes, and images
_USED_EVERY = 600.0  # seconds between two notes that a pack is in use


class Place(NamedTuple):
    """Where the pixels of an image are, as a record says."""

    pack: str
    offset: int
    height: int
    width: int
    checksum: int


class Packs:
    """The packs of one geometry. Any number of objects and processes may use one folder.

    Args:
        folder: The folder; made when the first image is kept.
        budget: Limit of all packs of all geometries.
        note: Function called with one line when packs are damaged or cannot be written.

    Attributes:
        is_open: Whether images can still be added.
    """

    def __init__(self, folder: Path, budget: Budget, note: Callable[[str], object]):
        self.folder, self.budget, self.note = folder, budget, note
        self.is_open = True
        self._places: dict[bytes, Place] = {}
        self._waiting: deque[tuple[bytes, np.ndarray]] = deque()  # threads may add and remove
        self._damaged: set[tuple[str, int]] = set()
        self._read: dict[str, int] = {}  # bytes of each index that were read
        self._files: dict[str, int] = {}  # descriptors of packs
        self._used: dict[str, float] = {}
        self._changed = 0  # of the folder
        self._refresh()  # now, so that worker processes inherit the places

    def get(self, digest: bytes) -> np.ndarray | None:
        """``[H, W, 3]`` uint8 pixels; ``None`` if they are not known, or damaged."""
        place = self._places.get(digest)
        if place is None:
            self._refresh()
            place = self._places.get(digest)
        while place is not None:
            pixels = self._pixels(digest, place)
            if pixels is not None:
                return pixels
            place = self._places.get(digest)  # another one, if another process has written it again
        return None

    def put(self, digest: bytes, pixels_HWC: np.ndarray) -> None:
        """Keep the pixels of an image, from the next ``flush`` on; it comes by itself after a few megabytes."""
        if self.is_open:
            self._waiting.append((digest, np.ascontiguousarray(pixels_HWC)))
            if len(self._waiting) * pixels_HWC.nbytes > _MOST_WAITING or len(self._waiting) > _MOST_IMAGES:
                self.flush()

    def flush(self) -> None:
        """Write what is waiting, except what another process has written meanwhile. Gives up if others write for too long."""
        if not self._waiting:
            return
        try:
            with writing(self.budget.root) as is_ours:
                if is_ours:
                    self._refresh(listed=True)
                    while self._waiting:
                        digest, pixels = self._waiting.popleft()
                        if digest not in self._places:
                            self._append(digest, pixels)
        except OSError as error:
            self._stop(error.strerror or str(error))
        self._waiting.clear()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def __getstate__(self) -> dict:
        return {**vars(self), "_files": {}, "_waiting": deque()}  # another process opens files itself

    def close(self) -> None:
        """Close all files; they are opened again when needed."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def _stop(self, why: str) -> None:
        self.is_open = False
        root = self.folder.parent
        self.note(f"note: image cache: {root} cannot grow ({why}). Images that are not in it are decoded every time (runtime.image_cache)")

    def _refresh(self, *, listed: bool = False) -> None:
        """Read the records that were added since the last time; usually two looks at the file system.

        Args:
            listed: Whether to list the folder even if its time is unchanged: clocks tick slowly.
        """
        try:
            changed = os.stat(self.folder).st_mtime_ns
            if listed or changed != self._changed:
                names = pack_names(self.folder)
                for gone in self._read.keys() - set(names):
                    self._forget(gone)
                for name in names:
                    self._read_records(name)
                self._changed = changed
            elif self._read:
                self._read_records(max(self._read))  # the only one that grows
        except OSError:  # no folder yet; or it cannot be read, and nothing is known
            return

    def _read_records(self, name: str) -> None:
        done = self._read.setdefault(name, 0)
        try:
            with open(self._index(name), "rb") as file:
                if os.fstat(file.fileno()).st_size < done + RECORD.size:
                    return
                file.seek(done)
                content = file.read()
        except FileNotFoundError:  # killed before its first record, or just deleted
            return
        whole = len(content) // RECORD.size * RECORD.size
        for digest, *values in RECORD.iter_unpack(content[:whole]):
            place = Place(name, *values)
            if (name, place.offset) not in self._damaged:
                self._places[digest] = place
        self._read[name] = done + whole

    def _pixels(self, digest: bytes, place: Place) -> np.ndarray | None:
        """The pixels at a place, or ``None``, and the place is forgotten."""
        number = 3 * place.height * place.width
        try:
            pixels = np.empty((place.height, place.width, 3), dtype=np.uint8) if number < _MOST_BYTES else None
            if pixels is not None and os.preadv(self._file(place.pack), [pixels], place.offset) == number:
                if _checksum(digest, place, pixels) == place.checksum:
                    self._note_use(place.pack)
                    return pixels
        except FileNotFoundError:  # deleted to make room
            self._forget(place.pack)
            return None
        except (OSError, OverflowError):
            pass
        self._damaged.add((place.pack, place.offset))
        if self._places.get(digest) == place:
            del self._places[digest]
        self.note(f"note: image cache: {self.folder / place.pack}.pack is damaged; what is damaged in it is decoded again")
        return None

    def _append(self, digest: bytes, pixels: np.ndarray) -> None:
        name = max(self._read, default=None)
        if name is None or self._size(name) + pixels.nbytes > self.budget.pack_size:
            name = self.budget.new_pack(self.folder)
            self._read[name] = 0
        place = Place(name, self._size(name), *pixels.shape[:2], 0)
        record = RECORD.pack(digest, *place[1:4], _checksum(digest, place, pixels))
        _write(self.folder / f"{name}.pack", pixels, place.offset)
        _write(self._index(name), record, None)
        self._read_records(name)

    def _size(self, name: str) -> int:
        return os.stat(self.folder / f"{name}.pack").st_size

    def _index(self, name: str) -> Path:
        return self.folder / f"{name}.index"

    def _file(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = os.open(self.folder / f"{name}.pack", os.O_RDONLY | os.O_CLOEXEC)
        return self._files[name]

    def _forget(self, name: str) -> None:
        """Forget a pack that was deleted."""
        self._read.pop(name, None)
        if name in self._files:
            os.close(self._files.pop(name))
        self._places = {digest: place for digest, place in self._places.items() if place.pack != name}

    def _note_use(self, name: str) -> None:
        """Let the time of a pack say that it is in use, so that others are deleted first."""
        now = time.monotonic()
        if now - self._used.get(name, -_USED_EVERY) >= _USED_EVERY:
            self._used[name] = now
            try:
                os.utime(self._index(name))
            except OSError:  # read-only, or deleted
                pass


def _checksum(digest: bytes, place: Place, pixels: np.ndarray) -> int:
    return zlib.crc32(pixels.reshape(-1), zlib.crc32(_SHAPE.pack(digest, place.offset, place.height, place.width)))


def _write(path: Path, content: bytes | np.ndarray, offset: int | None) -> None:
    """Write all of ``content`` at ``offset``; with ``None`` after the last whole record, over what a killed process left of another."""
    rest = memoryview(content).cast("B")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if offset is None:
            offset = os.fstat(file).st_size // RECORD.size * RECORD.size
        while rest:
            done = os.pwrite(file, rest, offset)
            rest, offset = rest[done:], offset + done
    finally:
        os.close(file)
