"""Which process starts when: one at a time in each slot, in order, and after those that it depends on; signals end all of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from clipzoo.runtime.jobs.shares import Slot
from clipzoo.signals import Interrupt

PATIENCE = 600.0  # seconds for a process to write its checkpoint after it was asked to end
_TURN = 0.05  # seconds between two looks at the processes


@dataclass(frozen=True)
class Task:
    """Work for a process of its own.

    Attributes:
        name: Name of the task.
        after: Names of tasks that must have ended well; if one of them did not, this one is dropped.
        device: Device of the only slots that take it; ``None`` for all.
    """

    name: str
    after: tuple[str, ...] = ()
    device: str | None = None


class Process(Protocol):
    """A running process; ``subprocess.Popen`` is one."""

    def poll(self) -> int | None:
        """The exit status; ``None`` while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


class End(Enum):
    """How a task ended: well, badly, or before it began, so that it is started again later and its slot is closed."""

    WELL, BADLY, NOT_BEGUN = "well", "badly", "not begun"


@dataclass
class SideBySide:
    """Runs tasks, each in a process of its own.

    Attributes:
        slots: The places; each has one process at a time.
        start: Starts the process of a task; or returns how the task ended without one.
        ended: Called with a task, its exit status and its seconds; decides how it ended.
        turn: Called again and again in between, and waits for a moment.
        may_start: Whether a task may start in a slot while others run; asked again in every turn. Without others, it may.
        patience: Seconds after which processes that were asked to end are killed.
    """

    slots: Sequence[Slot]
    start: Callable[[Task, Slot], Process | End]
    ended: Callable[[Task, int, float], End]
    turn: Callable[[], None] = lambda: time.sleep(_TURN)
    may_start: Callable[[Task, Slot], bool] = lambda task, slot: True
    patience: float = PATIENCE

    def run(self, tasks: Sequence[Task], interrupt: Interrupt) -> dict[str, End]:
        """Run every task, unless one that it depends on does not end well. A signal asks the running processes to end.

        Args:
            tasks: Tasks in the order in which they are to start.
            interrupt: A listening interrupt; a second signal kills the processes.

        Returns:
            How each task ended that was started, or could not be.
        """
        self.pending, self.ends = list(tasks), {}
        self.running: dict[int, tuple[Task, Process, float]] = {}
        self.open = set(range(len(self.slots)))
        deadline = None
        try:
            while self.running or (self.pending and self.open):
                if interrupt.signal is not None and deadline is None:
                    deadline = time.monotonic() + self.patience
                    self.pending.clear()
                    self.terminate()
                if deadline is not None and time.monotonic() > deadline:
                    self.kill()
                if not self.fill() and not self.running:
                    break  # what is left waits for tasks that ended badly, or for a device that no slot has
                self.turn()
                self.collect()
        except Exception:  # not a second signal
            self.terminate()
            self.wait()
            raise
        finally:
            self.kill()
        return self.ends

    def fill(self) -> bool:
        """Start what can start; returns whether anything did."""
        started = False
        for index in sorted(self.open - self.running.keys()):
            task = next((task for task in self.pending if self.fits(task, self.slots[index])), None)
            if task is None:
                continue
            self.pending.remove(task)
            started = True
            begun, process = time.monotonic(), self.start(task, self.slots[index])
            if isinstance(process, End):
                self.note(index, task, process)
            else:
                self.running[index] = (task, process, begun)
        return started

    def fits(self, task: Task, slot: Slot) -> bool:
        """Whether the task may start in this slot now."""
        fits = task.device in (None, slot.device) and all(self.ends.get(name) is End.WELL for name in task.after)
        return fits and (not self.running or self.may_start(task, slot))

    def collect(self) -> None:
        """Note the processes that have ended."""
        for index, (task, process, begun) in list(self.running.items()):
            status = process.poll()
            if status is not None:
                del self.running[index]
                self.note(index, task, self.ended(task, status, time.monotonic() - begun))

    def note(self, index: int, task: Task, end: End) -> None:
        """Record how a task ended."""
        if end is End.NOT_BEGUN:
            self.open.discard(index)
            self.pending.insert(0, task)
            return
        self.ends[task.name] = end

    def terminate(self) -> None:
        """Ask every running process to end."""
        for _, process, _ in self.running.values():
            process.terminate()

    def wait(self) -> None:
        """Wait for the running processes, which were asked to end."""
        end = time.monotonic() + self.patience
        for _, process, _ in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(end - time.monotonic(), 0.0))

    def kill(self) -> None:
        """End every running process at once."""
        for _, process, _ in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
