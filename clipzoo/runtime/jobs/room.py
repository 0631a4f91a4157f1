"""Room in memory for one more job of a grid, whose jobs are programs of their own that may train any tower.

    parent                                      job
    CLIPZOO_MEMORY, the name of a file       →
                                             ←  that file, after the first step: a ``Taken`` as JSON

Jobs that share a device start one after another: the next one waits until those before it have made a step and reported what they take,
and until the largest job so far would fit beside them.
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
_PAUSE = 0.5  # seconds from a refusal to the next look: the schedule asks more often, and for every job that waits


def tell() -> None:
    """Write what this process has taken for the parent that has asked for it; a file that cannot be written is no error."""
    with suppress(DataError):
        write_json(os.environ[FILE], asdict(Taken.now()))


@dataclass
class _Job:
    """A job that runs: the file that it writes, its device, its process, and what it reported, when."""

    file: Path
    device: str
    pid: int = 0
    taken: Taken | None = None
    reported: int = 0


@dataclass
class Room:
    """The memory of this machine and of its GPUs, and the jobs that run.

    Attributes:
        folder: Empty folder for the files of the jobs.
        say: Receives a line, once, when a job must wait for a report, and once when it must wait for memory.
        need: Most memory that any job has taken so far, also a finished one; ``None`` while no job has reported.
    """

    folder: Path
    say: Callable[[str], None]
    need: Taken | None = None
    gpus: dict[str, int] = field(default_factory=dict)  # bytes of each that jobs can use
    jobs: dict[str, _Job] = field(default_factory=dict)
    number: int = 0  # of jobs so far
    refused: dict[str, float] = field(default_factory=dict)  # when, by device
    said: set[str] = field(default_factory=set)

    def enter(self, name: str, slot: Slot) -> dict[str, str]:
        """The variables that a job gets which is to start in this slot."""
        self.number += 1
        self.jobs[name] = _Job(self.folder / f"{self.number}.json", _device_of(slot))
        return {FILE: str(self.jobs[name].file)}

    def started(self, name: str, pid: int) -> None:
        """The process of a job that has entered."""
        self.jobs[name].pid = pid

    def leave(self, name: str) -> None:
        """A job has ended, or could not be started."""
        self.listen()
        self.jobs.pop(name, None)

    def listen(self) -> None:
        """Read what jobs have reported since; each training of a job, such as a fold, reports once."""
        for job in self.jobs.values():
            modified = job.file.stat().st_mtime_ns if job.file.exists() else 0
            if modified == job.reported:
                continue
            job.reported, new = modified, Taken(**read_json(job.file))
            job.taken = _most(new, job.taken)
            self.need = _most(new, self.need)
            beside = [other.taken for other in self.jobs.values() if other.device == job.device and other.taken is not None]
            self.gpus[job.device] = new.gpu_free + sum(taken.gpu_used for taken in beside)

    def has_room(self, slot: Slot) -> bool:
        """Whether one more job may start in this slot, beside those that run."""
        device, now = _device_of(slot), time.monotonic()
        if now < self.refused.get(device, -_PAUSE) + _PAUSE:
            return False
        if has_room := self.fits(device):
            self.refused.pop(device, None)
        else:
            self.refused[device] = now
        return has_room

    def fits(self, device: str) -> bool:
        """Whether one more job fits on this device."""
        self.listen()
        beside = [job for job in self.jobs.values() if job.device == device]
        if beside and (self.need is None or (_is_gpu(device) and any(job.taken is None for job in beside))):
            return self.wait("a report", "a job starts beside others when they have made a step and reported what memory they take")
        if self.need is None:  # nobody else is on that GPU
            return True
        used, growing = self.need.used, sum(self.growth(job) for job in self.jobs.values())
        free = memory.available()
        if free is not None and memory.SPARE * free < used + growing:
            return self.wait_for("memory", used, free - growing)
        if _is_gpu(device) and beside:
            free = self.gpus[device] - sum(job.taken.gpu_used for job in beside)
            if memory.SPARE * free < self.need.gpu_used:
                return self.wait_for("GPU memory", self.need.gpu_used, free)
        return True

    def growth(self, job: _Job) -> int:
        """Bytes that a running job may still take: at the start, and again where one of its trainings ends and the next begins."""
        return max((job.taken or self.need).used - memory.used_by(job.pid), 0)

    def wait_for(self, where: str, need: int, free: int) -> bool:
        """There is no room."""
        running = f"{len(self.jobs)} running job{'s' * (len(self.jobs) > 1)}"
        line = f"a job takes up to {memory.in_words(need)} of {where}, and {memory.in_words(max(free, 0))} are free beside {running}"
        return self.wait(where, f"{line}: the next one waits for room")

    def wait(self, what: str, line: str) -> bool:
        """Refuse; the first time with a line."""
        if what not in self.said:
            self.said.add(what)
            self.say(line)
        return False


def _most(one: Taken, other: Taken | None) -> Taken:
    return one if other is None else Taken(max(one.used, other.used), max(one.gpu_used, other.gpu_used), one.gpu_free)


def _device_of(slot: Slot) -> str:
    """The name of a slot's GPU, or of its device."""
    return f"cuda:{slot.environment[GPUS]}" if GPUS in slot.environment else slot.device


def _is_gpu(device: str) -> bool:
    return device.startswith("cuda")
