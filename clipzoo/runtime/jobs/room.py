"""Room in memory for one more job of a grid, whose jobs are programs of their own that may train any tower.

    parent                                      job
    CLIPZOO_MEMORY, the name of a file       →
                                             ←  that file, after the first step: a ``Taken`` as JSON

A job that is to run beside others starts when the memory has room for the largest job known so far. While no job has told, it waits, and on
a GPU also while one of those there has not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.files import read_json, write_json
from clipzoo.runtime.jobs import memory
from clipzoo.runtime.jobs.memory import Taken
from clipzoo.runtime.jobs.shares import GPUS, Slot

FILE = "CLIPZOO_MEMORY"
_PAUSE = 0.25  # seconds from a refusal to the next look: the schedule asks more often, and for every job that waits


def tell() -> None:
    """Write what this process has taken for the parent that has asked for it; a file that cannot be written is no error."""
    with suppress(DataError):
        write_json(os.environ[FILE], asdict(Taken.now()))


@dataclass
class _Job:
    """A job that runs: the file that it writes, its GPU, its process, and what it said."""

    file: Path
    gpu: str
    pid: int = 0
    taken: Taken | None = None


@dataclass
class Room:
    """The memory of this machine and of its GPUs, and the jobs that run.

    Attributes:
        folder: Empty folder for the files of the jobs.
        say: Receives the line that a job must wait for memory, once.
    """

    folder: Path
    say: Callable[[str], None]
    need: Taken | None = None  # of the largest job so far
    gpus: dict[str, int] = field(default_factory=dict)  # bytes of each that jobs can use
    jobs: dict[str, _Job] = field(default_factory=dict)
    number: int = 0  # of jobs so far
    refused: dict[str, float] = field(default_factory=dict)  # when, by GPU
    has_said: bool = False

    def enter(self, name: str, slot: Slot) -> dict[str, str]:
        """The variables that a job gets which is to start in this slot."""
        self.number += 1
        self.jobs[name] = _Job(self.folder / f"{self.number}.json", _gpu_of(slot))
        return {FILE: str(self.jobs[name].file)}

    def started(self, name: str, pid: int) -> None:
        """The process of a job that has entered."""
        self.jobs[name].pid = pid

    def leave(self, name: str) -> None:
        """A job has ended, or could not be started."""
        self.listen()
        self.jobs.pop(name, None)

    def listen(self) -> None:
        """Read what jobs have written since."""
        for job in self.jobs.values():
            if job.taken is None and job.file.exists():
                job.taken = Taken(**read_json(job.file))
                known = self.need or job.taken
                self.need = Taken(max(known.used, job.taken.used), max(known.gpu_used, job.taken.gpu_used))
                beside = [other.taken for other in self.jobs.values() if other.gpu == job.gpu and other.taken is not None]
                self.gpus[job.gpu] = job.taken.gpu_free + sum(taken.gpu_used for taken in beside)

    def has_room(self, slot: Slot) -> bool:
        """Whether one more job fits beside those that run."""
        gpu, now = _gpu_of(slot), time.monotonic()
        if now < self.refused.get(gpu, -_PAUSE) + _PAUSE:
            return False
        if has_room := self.fits(gpu):
            self.refused.pop(gpu, None)
        else:
            self.refused[gpu] = now
        return has_room

    def fits(self, gpu: str) -> bool:
        """Whether one more job fits on this GPU."""
        self.listen()
        beside = [job for job in self.jobs.values() if job.gpu == gpu]
        if self.need is None or (self.need.gpu_used and any(job.taken is None for job in beside)):
            return False
        growing = sum(max(self.need.used - memory.used_by(job.pid), 0) for job in self.jobs.values() if job.taken is None)
        free = memory.available()
        if free is not None and memory.SPARE * free < self.need.used + growing:
            return self.wait("memory", self.need.used, free - growing)
        if self.need.gpu_used and beside:
            free = self.gpus[gpu] - sum(job.taken.gpu_used for job in beside)
            if memory.SPARE * free < self.need.gpu_used:
                return self.wait("GPU memory", self.need.gpu_used, free)
        return True

    def wait(self, where: str, need: int, free: int) -> bool:
        """There is no room: say so the first time."""
        if not self.has_said:
            self.has_said = True
            running = f"{len(self.jobs)} running job{'s' * (len(self.jobs) > 1)}"
            line = f"a job takes up to {memory.in_words(need)} of {where}, and {memory.in_words(max(free, 0))} are free beside {running}"
            self.say(f"{line}: the next one waits for room")
        return False


def _gpu_of(slot: Slot) -> str:
    """The name of a slot's GPU, or of its device."""
    return slot.environment.get(GPUS, slot.device)
