"""The work dir of one experiment: created once, refused to any other config or split, locked per fold."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipzoo.config import Config, differences
from clipzoo.errors import CheckpointError, DataError, shortened
from clipzoo.files import leftovers, read_bytes, read_json, reason, write_text
from clipzoo.records.folds import Folds
from clipzoo.records.json_records import read_record, write_record
from clipzoo.records.provenance import decisive
from clipzoo.records.results import RESULT_FILE
from clipzoo.runtime.environment import environment

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

CONFIG_PY, CONFIG_JSON, FOLDS_FILE, LOG_FILE = "config.py", "config.json", "folds.json", "train.log"

_LOCK = ".lock"
# Longest wait for another process that creates or summarises the same work dir, which takes seconds.
_WAIT_SECONDS = 120.0
_FOLD_IS_BUSY = "another process is training this fold. Wait for it, or train another fold with --fold"
_OTHER_DIR = "Choose another folder with --work-dir"


@dataclass(frozen=True)
class Experiment:
    """Content of ``config.json``, which describes a work dir. Its presence means that the folder is complete.

    Attributes:
        name: Name of the config.
        created: Date and time of creation.
        seeds: Seeds of the run and of the splits.
        folds_digest: Digest of ``folds.json``.
        environment: Versions, machine and commit.
        config: The resolved config.
        origins: Where each key was set, see ``Config.origins``; empty in a work dir of an earlier version.
    """

    name: str
    created: str
    seeds: dict[str, int | None]
    folds_digest: str
    environment: dict[str, Any]
    config: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)

    def dataset(self) -> Dataset:
        """The dataset of the config, read again; with its plugins.

        Raises:
            ClipzooError: The data are not where the config says, or have become invalid.
        """
        from clipzoo.config.plugins import import_plugins
        from clipzoo.datasets.build import build_dataset

        import_plugins(self.config.get("plugins", []))
        return build_dataset(Config.from_dict(self.config, self.name))


def open_experiment(folder: Path, config: Config, folds: Folds) -> None:
    """Write ``config.py``, ``config.json`` and ``folds.json`` into a new folder, or check that an existing one belongs to this experiment.

    Raises:
        CheckpointError: The folder holds another config or other folds; the message lists the differences, and nothing is changed.
        DataError: The folder is not writable.
    """
    check_ours(folder, config, folds)
    with owned(folder):  # of two simultaneous processes, the second finds what the first made
        _check_ours(folder, config, folds)
        for path in leftovers(folder):
            path.unlink(missing_ok=True)
        if not is_experiment(folder):
            _make(folder, config, folds)
    check_same(folder, config, folds)  # again, for file systems without locks: the last writer counts for all


def _make(folder: Path, config: Config, folds: Folds) -> None:
    folds.write(folder / FOLDS_FILE)
    write_text(folder / CONFIG_PY, _config_text(config))
    experiment = Experiment(
        name=config.name,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        seeds={"runtime": config.get("runtime", {}).get("seed", 42), "splits": folds.spec.get("seed")},
        folds_digest=folds.digest,
        environment=environment(),
        config=config.plain(),
        origins=config.origins(),
    )
    write_record(folder / CONFIG_JSON, asdict(experiment))  # last: its presence means that the folder is complete


def is_experiment(folder: Path) -> bool:
    """Whether this folder is the work dir of a training."""
    return (folder / CONFIG_JSON).exists()


def read_experiment(folder: Path) -> Experiment:
    """Read the ``config.json`` of a work dir.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return read_record(Experiment, folder / CONFIG_JSON, f"The work dir is damaged. {_OTHER_DIR}")


def check_ours(folder: Path, config: Config, folds: Folds) -> None:
    """Refuse a folder that is neither new nor of this experiment; nothing is changed.

    Raises:
        CheckpointError: The folder holds foreign files, another config or other folds.
    """
    try:
        _check_ours(folder, config, folds)
    except CheckpointError:
        if is_experiment(folder) or not (folder / _LOCK).exists():
            raise
        with owned(folder):  # another process was still creating it
            _check_ours(folder, config, folds)


def _check_ours(folder: Path, config: Config, folds: Folds) -> None:
    if is_experiment(folder):
        check_same(folder, config, folds)
    elif folder.is_dir():
        foreign = sorted(p.name for p in folder.iterdir() if not _is_leftover(p, config, folds))
        if foreign:
            raise CheckpointError(
                f"{folder}: not empty, and not a work dir of clipzoo (it holds {shortened(foreign, 3)}). "
                "Choose another folder with --work-dir"
            )


def _is_leftover(path: Path, config: Config, folds: Folds) -> bool:
    """Whether this file may be in a new work dir: left by a start of the same experiment that was killed before it wrote its config."""
    if path.name == FOLDS_FILE:
        content = read_json(path)
        return isinstance(content, dict) and content.get("digest") == folds.digest
    if path.name == CONFIG_PY:
        return read_bytes(path) == _config_text(config).encode()
    if re.fullmatch(r"repeat_\d+", path.name) and path.is_dir():  # a later repeat of the cross-validation may be trained first
        known = (FOLDS_FILE, CONFIG_PY, LOG_FILE)
        return is_experiment(path) or all(p.name in known or p.name.startswith(".") for p in path.iterdir())
    return path.name == LOG_FILE or path.name.startswith(".")


def _config_text(config: Config) -> str:
    return f'"""{config.name}, as it was resolved for this run; train with this file to repeat it."""\n\n{config.dump()}'


def check_writable(folder: Path) -> None:
    """Create ``folder``, and refuse one that is not writable.

    Raises:
        DataError: The folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"{folder}: not writable ({reason(error)}). Choose another folder with --work-dir") from error


def check_possible(folder: Path) -> None:
    """Refuse a folder that ``check_writable`` would refuse, without creating it.

    Raises:
        DataError: The folder, or the nearest existing one above it, is not a folder or not writable.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        why = "not writable" if nearest.is_dir() else "not a folder"
        what = why if nearest == folder else f"cannot be created: {nearest} is {why}"
        raise DataError(f"{folder}: {what}. Choose another folder with --work-dir")


def check_same(folder: Path, config: Config, folds: Folds | None) -> None:
    """Refuse a folder made with another config or other folds.

    Raises:
        CheckpointError: Config or folds differ (the message lists the differences), or files are damaged.
    """
    stored = read_experiment(folder)
    found = differences(decisive(stored.config), decisive(config.plain()))
    if found:
        raise CheckpointError(f"{folder}: made with another config. Choose another --work-dir, or revert: {shortened(found, 6)}")
    if folds is None or folds.equals(folder / FOLDS_FILE):
        return
    old = Folds.read(folder / FOLDS_FILE)
    if old.digest != folds.digest:
        found = _difference(old, folds)
        raise CheckpointError(f"{folder}: made with other folds. Choose another --work-dir, or restore the data: {found}")


def _difference(old: Folds, new: Folds) -> str:
    before, now = ({case.id: case for case in folds.cases} for folds in (old, new))
    names = [{None: None, **dict(enumerate(folds.classes))} for folds in (old, new)]
    both = before.keys() & now.keys()
    kinds = {
        "missing": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "in another class": [i for i in both if names[0][before[i].label] != names[1][now[i].label]],
        "with other findings": [i for i in both if before[i].findings != now[i].findings],
        "in another group": [i for i in both if before[i].group != now[i].group],
    }
    found = {what: sorted(ids) for what, ids in kinds.items() if ids}
    parts = [f"{len(ids)} {'case is' if len(ids) == 1 else 'cases are'} {what} ({shortened(ids, 2)})" for what, ids in found.items()]
    return "; ".join(parts) or "the same cases are split differently"


@contextmanager
def locked(folder: Path, busy: str = _FOLD_IS_BUSY) -> Iterator[None]:
    """Lock the folder of a fold while this process trains there; the lock ends with the process, however it ends.

    Removes files that a killed process left half written.

    Args:
        folder: The folder.
        busy: What another process does there, and what to do, as the end of the message.

    Raises:
        CheckpointError: Another process is training there.
        DataError: The folder is not writable.
    """
    with _lock(folder) as is_ours:
        if not is_ours:
            raise CheckpointError(f"{folder}: {busy}")
        for path in [leftover for place in (folder, folder / "results") for leftover in leftovers(place)]:
            path.unlink(missing_ok=True)
        yield


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Lock a work dir while its own files are written, which takes seconds; wait for another process that does so.

    Raises:
        CheckpointError: The other process took too long.
        DataError: The folder is not writable.
    """
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        with _lock(folder) as is_ours:
            if is_ours:
                yield
                return
        if time.monotonic() > end:
            raise CheckpointError(
                f"{folder}: another process has been writing here for {_WAIT_SECONDS:.0f} s. Start again when it has finished"
            )
        time.sleep(0.1)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Try to lock ``folder``; yield whether that succeeded, which is assumed on a file system without locks."""
    check_writable(folder)
    with open(folder / _LOCK, "w") as file:
        is_ours = True
        try:
            if fcntl is not None:
                fcntl.lockf(
                    file, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # not flock: loader processes would inherit the lock, and hold it after a kill
        except (BlockingIOError, PermissionError):
            is_ours = False
        except OSError:
            pass  # a file system without locks
        yield is_ours


def is_done(folder: Path) -> bool:
    """Whether this fold has written its result."""
    return (folder / RESULT_FILE).exists()
