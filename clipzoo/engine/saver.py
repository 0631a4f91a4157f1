"""When checkpoints are written, and how training goes on meanwhile.

A checkpoint is taken as a snapshot of all tensors, and written by a thread. ``checkpoint_best.pth`` is written only together with
``checkpoint_latest.pth``: a run that resumes from the latest must find the best until then, and finds later ones again. It has another name
until the latest is there, so that a kill between the two leaves no best weights of a later time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch

NEXT = ".next"
_LARGEST_SHARE = 1 / 20  # of the time that may be spent on checkpoints
_LONGEST_LOSS = 60.0  # seconds after which one is written in any case


class Saver:
    """Writes the checkpoints of one run; with several processes only the main one writes, and the others hold empty snapshots.

    Args:
        write: Writes a content to a path, atomically.
        best: The path of the best weights; ``NEXT`` is added to the name until the latest checkpoint is written.
        latest: The path of everything needed to resume.
        clock: Seconds that never go back.
    """

    def __init__(self, write: Callable[[Path, dict], None], best: Path, latest: Path, clock: Callable[[], float] = time.monotonic):
        self._write, self._best, self._latest, self._clock = write, best, latest, clock
        self._kept: dict | None = None  # the best weights that are not on disk yet
        self._job: Future | None = None
        self._begun, self._cost = clock(), 0.0

    def keep_best(self, content: dict) -> None:
        """Keep a snapshot of the best weights so far, until the next ``save_latest``."""
        self._kept = None  # frees its memory first
        self._kept = snapshot(content)

    def is_due(self) -> bool:
        """Whether to save between two epochs: if it takes at most a twentieth of the time since the last save began, or after a minute.

        Raises:
            DataError: The last checkpoint could not be written.
        """
        if self._job is not None:
            if not self._job.done():
                return False
            self.wait()
        return self._clock() - self._begun >= min(self._cost / _LARGEST_SHARE, _LONGEST_LOSS)

    def save_latest(self, content: dict, *, background: bool) -> None:
        """Write the best weights that are kept, if any, and then ``content``.

        Args:
            content: Everything needed to resume.
            background: Whether to return once a snapshot is taken. Otherwise both files are on disk afterwards.

        Raises:
            DataError: This checkpoint, or in the background the one before it, could not be written.
        """
        self.wait()
        self._begun, best, self._kept = self._clock(), self._kept, None
        if not background:
            self._write_both(best, content)
            return
        self._job = _in_background(self._write_both, best, snapshot(content))

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            DataError: The checkpoint could not be written.
        """
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """Wait for what is being written, and forget the best weights that are kept: the run has failed, or is done.

        Raises:
            DataError: A checkpoint could not be written.
        """
        self._kept = None
        self.wait()

    def _write_both(self, best: dict | None, latest: dict) -> None:
        following = self._best.with_name(self._best.name + NEXT)
        if best is not None:
            self._write(following, best)
        self._write(self._latest, latest)
        if best is not None:
            os.replace(following, self._best)
        self._cost = self._clock() - self._begun


def _in_background(function: Callable[..., None], *arguments: object) -> Future:
    """Call a function in a thread that the end of the process does not wait for, unlike those of an executor."""
    future: Future = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, name="checkpoints", daemon=True).start()
    return future


def snapshot(value: object, done: dict | None = None) -> object:
    """A copy of nested containers with tensors that later steps do not change: on their device if it has ample room, else on the CPU.

    Args:
        value: The containers.
        done: Copies by the memory that they are of, so that tensors which share it still do.
    """
    done = {} if done is None else done
    if isinstance(value, torch.Tensor):
        place = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype)
        if place not in done or not value.numel():
            done[place] = value.detach().clone() if _has_room(value) else value.detach().cpu()
        return done[place]
    if isinstance(value, dict):
        return {key: snapshot(item, done) for key, item in value.items()}
    return [snapshot(item, done) for item in value] if isinstance(value, list) else value


def _has_room(tensor: torch.Tensor) -> bool:
    """Whether copying the tensor leaves most of a GPU's free memory free; the CPU is where it goes anyway."""
    if tensor.device.type != "cuda":
        return tensor.device.type == "cpu"
    free, total = torch.cuda.mem_get_info(tensor.device)
    return free > total // 4
