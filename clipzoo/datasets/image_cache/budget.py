"""The size of the cache: packs that were not used for the longest time are deleted before there are too many; and the lock of writers."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCK = ".lock"
_GEOMETRY, _PACK = re.compile("[0-9a-f]{32}"), re.compile("([0-9]{20})[.]pack")  # nothing else is ever deleted
_IN_USE = 3600.0  # seconds since its last use in which a pack is not deleted; users of a pack note their use every ten minutes
_KEPT_FREE = 1 << 30  # bytes of the disk
_SMALLEST, _LARGEST = 1 << 20, 1 << 26  # bytes of a pack
_TRIES, _PAUSE = 50, 0.002  # seconds; together longer than a writer needs, and short beside the decoding of an image
_threads = threading.Lock()  # locks of files do not keep threads of one process apart


@dataclass(frozen=True)
class Budget:
    """What the packs of all geometries below ``root`` may need together.

    Attributes:
        root: Folder of the cache.
        size: Bytes.
    """

    root: Path
    size: int

    @property
    def pack_size(self) -> int:
        """Bytes after which a new pack is begun: small parts of the budget, so that little is deleted at a time."""
        return min(max(self.size // 64, _SMALLEST), _LARGEST)

    def new_pack(self, folder: Path) -> str:
        """Make an empty pack, after deleting old ones if there is no room. Call it with the lock of ``writing``.

        Returns:
            Its name: names grow with time, and only the last pack of a folder grows.

        Raises:
            OSError: The folder cannot be written, all other packs are in use, or the disk is nearly full.
        """
        if not self._make_room():
            raise OSError(errno.EDQUOT, "no room within runtime.image_cache_gib beside what was used in the last hour")
        if shutil.disk_usage(self.root).free < _KEPT_FREE + self.pack_size:
            raise OSError(errno.ENOSPC, "less than 1 GiB of the disk is free")
        folder.mkdir(parents=True, exist_ok=True)
        names = pack_names(folder)
        name = f"{max(time.time_ns(), int(names[-1]) + 1 if names else 0):020d}"
        os.close(os.open(folder / f"{name}.pack", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        return name

    def _make_room(self) -> bool:
        """Delete the packs unused for longest until one more fits; whether it does. Every pack counts as full, as it may grow."""
        packs = [pack for folder in _folders(self.root) for pack in map(folder.joinpath, pack_names(folder))]
        sizes = {pack: max(self.pack_size, sum(_stat(part)[0] for part in _parts(pack))) for pack in packs}
        last_use = {pack: max(_stat(part)[1] for part in _parts(pack)) for pack in packs}
        total = sum(sizes.values()) + self.pack_size
        for pack in sorted(packs, key=last_use.__getitem__):
            if total <= self.size or time.time() - last_use[pack] < _IN_USE:
                break
            for part in _parts(pack):  # the index first: what has none is empty
                part.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other packs are in it
                pack.parent.rmdir()
            total -= sizes[pack]
        return total <= self.size


def pack_names(folder: Path) -> list[str]:
    """Names of the packs in a folder, oldest first; none without the folder."""
    try:
        return sorted(found.group(1) for found in map(_PACK.fullmatch, os.listdir(folder)) if found)
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def writing(root: Path) -> Iterator[bool]:
    """Lock a cache for one image; yield whether that succeeded in a tenth of a second.

    A file system without locks counts as success: the packs have checksums.

    Raises:
        OSError: The folder cannot be written.
    """
    if not _threads.acquire(timeout=_TRIES * _PAUSE):
        yield False
        return
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)  # patients are in it; an existing folder keeps its permissions
        file = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield _locked(file)
        finally:
            os.close(file)
    finally:
        _threads.release()


def _locked(file: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: processes forked now would inherit the lock
            return True
        except (BlockingIOError, PermissionError):
            time.sleep(_PAUSE)
        except OSError:
            return True
    return False


def _folders(root: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(root) if _GEOMETRY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]


def _parts(pack: Path) -> tuple[Path, Path]:
    return pack.with_name(f"{pack.name}.index"), pack.with_name(f"{pack.name}.pack")


def _stat(path: Path) -> tuple[int, float]:
    """Size and time of the last change; 0 for a file that does not exist."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0.0
    return found.st_size, found.st_mtime
