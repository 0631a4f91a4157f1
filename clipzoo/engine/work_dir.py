"""The folder of one experiment: made once, refused to every other config or split, locked per fold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from clipzoo.config import Config, differences
from clipzoo.engine import runtime
from clipzoo.errors import CheckpointError, DataError, shortened
from clipzoo.files import read_json, write_json, write_text
from clipzoo.folds import Folds
from clipzoo.results import RESULT_FILE

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

CONFIG_PY, CONFIG_JSON, FOLDS_FILE, LOG_FILE = "config.py", "config.json", "folds.json", "train.log"

# What may differ between two starts of one experiment: it changes where and how fast the work is done, not its results.
FREE_KEYS = ("data.num_workers", "data.eval_batch_size", "runtime.device", "runtime.threads", "runtime.log_every", "runtime.save_every")
# Hooks that only watch, and may differ too; any other may end the training, which changes its results.
WATCHERS = ("ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook")


def open_experiment(folder: Path, config: Config, folds: Folds) -> None:
    """Write ``config.py``, ``config.json`` and ``folds.json`` into a new folder, or check that an existing one is of this experiment.

    Raises:
        CheckpointError: The folder holds another config or other folds; the message lists the differences, nothing is changed.
        DataError: The folder cannot be written to.
    """
    check_ours(folder, config, folds)
    check_writable(folder)
    if is_experiment(folder):
        return
    folds.write(folder / FOLDS_FILE)
    write_text(folder / CONFIG_PY, _config_text(config))
    content = {
        "name": config.name,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seeds": {"runtime": config.get("runtime", {}).get("seed", 42), "splits": folds.spec.get("seed")},
        "folds_digest": folds.digest,
        "environment": runtime.environment(),
        "config": config.plain(),
    }
    write_json(folder / CONFIG_JSON, content)  # last: its presence says that the folder is whole


def is_experiment(folder: Path) -> bool:
    """Did a training make this folder?"""
    return (folder / CONFIG_JSON).exists()


def check_ours(folder: Path, config: Config, folds: Folds) -> None:
    """Refuse a folder that is neither new nor of this experiment; nothing is changed.

    Raises:
        CheckpointError: It holds foreign files, another config or other folds.
    """
    if is_experiment(folder):
        check_same(folder, config, folds)
    elif folder.is_dir():
        strangers = sorted(p.name for p in folder.iterdir() if not _is_leftover(p, config, folds))
        if strangers:
            raise CheckpointError(
                f"{folder}: not empty and not a work dir of clipzoo (it holds {shortened(strangers, 3)}). "
                "Choose another folder with --work-dir"
            )


def _is_leftover(path: Path, config: Config, folds: Folds) -> bool:
    """Is this a file of a start of the same experiment that was killed before it wrote its config?"""
    if path.name == FOLDS_FILE:
        content = read_json(path)
        return isinstance(content, dict) and content.get("digest") == folds.digest
    if path.name == CONFIG_PY:
        return path.read_bytes() == _config_text(config).encode()
    return path.name == LOG_FILE or path.name.startswith(".")


def _config_text(config: Config) -> str:
    return f'"""{config.name}, as it was resolved for this run; train with this file to repeat it."""\n\n{config.dump()}'


def check_writable(folder: Path) -> None:
    """Make ``folder``, and refuse one that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({error.strerror or error}). Choose another folder with --work-dir") from error


def check_same(folder: Path, config: Config, folds: Folds | None) -> None:
    """Refuse a folder made with another config or other folds.

    Raises:
        CheckpointError: With the list of differences.
    """
    try:
        known = read_json(folder / CONFIG_JSON)
    except DataError as error:
        raise CheckpointError(f"{error}. The work dir is damaged; choose another folder with --work-dir") from error
    if not isinstance(known, dict) or "config" not in known:
        raise CheckpointError(f"{folder / CONFIG_JSON}: not a config of clipzoo. Choose another folder with --work-dir")
    found = [d for d in differences(_decisive(known["config"]), _decisive(config.plain())) if not d.startswith(FREE_KEYS)]
    if found:
        raise CheckpointError(f"{folder}: made with another config. Choose another --work-dir, or undo: {shortened(found, 6)}")
    if folds is None:
        return
    old = Folds.read(folder / FOLDS_FILE)
    if old.digest != folds.digest:
        found = _difference(old, folds)
        raise CheckpointError(f"{folder}: made with other folds. Choose another --work-dir, or put the data back: {found}")


def _decisive(config: dict) -> dict:
    """``config`` without the hooks that only watch."""
    hooks = config.get("hooks", [])
    return {**config, "hooks": [hook for hook in hooks if (hook if isinstance(hook, str) else hook["type"]) not in WATCHERS]}


def _difference(old: Folds, new: Folds) -> str:
    before, now = {c.id for c in old.cases}, {c.id for c in new.cases}
    kinds = (("gone", before - now), ("new", now - before))
    parts = [f"{len(ids)} {'case is' if len(ids) == 1 else 'cases are'} {what} ({shortened(sorted(ids), 2)})" for what, ids in kinds if ids]
    return "; ".join(parts) or "the same cases are labelled, grouped or split differently"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process while it trains there; the lock ends with the process, however it ends.

    Raises:
        CheckpointError: Another process is training there.
        DataError: The folder cannot be written to.
    """
    check_writable(folder)
    with open(folder / ".lock", "w") as file:
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: loader processes would inherit it and outlive a kill with it
        except (BlockingIOError, PermissionError) as error:
            raise CheckpointError(f"{folder}: another process is training this fold. Wait for it, or train another with --fold") from error
        except OSError:
            pass  # a file system without locks
        yield


def is_done(folder: Path) -> bool:
    """Did this fold write its result?"""
    return (folder / RESULT_FILE).exists()
