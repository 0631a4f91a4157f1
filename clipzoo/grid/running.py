"""Running the jobs of a grid: one process per job, one job at a time in each slot, and what became of them.

Jobs communicate through files only; starting the same grid again skips finished jobs and retries the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from clipzoo.grid.jobs import Job, in_order
from clipzoo.records.results import SUMMARY_FILE
from clipzoo.runtime.jobs.room import Room
from clipzoo.runtime.jobs.scheduler import End, SideBySide, Task
from clipzoo.runtime.jobs.shares import Slot
from clipzoo.signals import Interrupt, described


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job: ``'done'``, ``'skipped'`` (finished earlier), ``'stopped'`` (by a signal) or ``'failed'``, with its error."""

    job: Job
    status: str
    seconds: float
    message: str = ""


@dataclass
class Grid:
    """Jobs of one base config, with their folders.

    Attributes:
        jobs: The jobs.
        config: Path or name of the base config.
        folder: Parent folder of the jobs' folders.
        options: Further overrides ``key=value`` for all jobs.
        say: Receives progress lines.
    """

    jobs: Sequence[Job]
    config: str
    folder: Path
    options: Sequence[str] = ()
    say: Callable[[str], None] = print
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def run(self, slots: Sequence[Slot]) -> list[Outcome]:
        """Run every job in one of the slots; a failed job does not stop the others. Jobs with a device wait for a slot on that one.

        Raises:
            Stopped: On Ctrl-C, SIGTERM or SIGHUP, after the running jobs have written their checkpoints and ended.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        by_name = {job.name: job for job in self.jobs}
        done = {job.name for job in self.jobs if self.is_done(job)}  # asked here, not for every job in every turn

        def start(task: Task, slot: Slot) -> subprocess.Popen | End:
            return self.start(by_name[task.name], slot, room)

        def ended(task: Task, status: int, seconds: float) -> End:
            room.leave(task.name)
            return self.note(self.outcome(by_name[task.name], status, seconds))

        def may_start(task: Task, slot: Slot) -> bool:
            return task.name in done or room.has_room(slot)

        with tempfile.TemporaryDirectory(prefix="clipzoo-grid-") as scratch, Interrupt().listening() as interrupt:
            room = Room(Path(scratch), self.tell)
            tasks = [Task(job.name, device=job.device) for job in self.jobs]
            SideBySide(slots, start, ended, may_start=may_start).run(tasks, interrupt)
        return self.in_order()

    def start(self, job: Job, slot: Slot, room: Room) -> subprocess.Popen | End:
        """Start a job's process, unless the job is done."""
        if self.is_done(job):
            return self.skip(job)
        self.tell(f"{job.name}: started on {slot.device}")
        around = {**os.environ, **slot.environment, **room.enter(job.name, slot), "PYTHONIOENCODING": "utf-8"}
        try:
            with open(self.log_of(job), "w", encoding="utf-8") as output:
                streams = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
                # In a separate session: otherwise Ctrl-C would reach the job twice, and the second one ends it immediately.
                process = subprocess.Popen(self.command(job, slot.device), env=around, start_new_session=True, **streams)
        except OSError as error:
            room.leave(job.name)
            return self.note(Outcome(job, "failed", 0.0, f"{self.log_of(job)}: {error.strerror or error}"))
        room.started(job.name, process.pid)
        return process

    def is_done(self, job: Job) -> bool:
        """Whether the job was finished earlier."""
        return (self.folder / job.name / SUMMARY_FILE).exists()

    def skip(self, job: Job) -> End:
        """Note a job that was finished earlier."""
        return self.note(Outcome(job, "skipped", 0.0, "finished earlier"))

    def log_of(self, job: Job) -> Path:
        """The file with the output of a job."""
        return self.folder / f"{job.name}.log"

    def command(self, job: Job, device: str) -> list[str]:
        """The command that trains a job on this device."""
        command = [sys.executable, "-m", "clipzoo.cli", "train", str(self.config), "--work-dir", str(self.folder / job.name)]
        return [*command, "--cfg-options", *in_order(self.options, job), f"runtime.device={device}"]

    def outcome(self, job: Job, status: int, seconds: float) -> Outcome:
        """The outcome of a job's process, with the reason for a failure from its log."""
        if status == 0:
            return Outcome(job, "done", seconds)
        if status >= 128:
            return Outcome(job, "stopped", seconds, "run the same command to resume")
        if status < 0:
            out_of_memory = ", as the system does when memory runs out" if status == -9 else ""
            return Outcome(job, "failed", seconds, f"killed by {described(-status)}{out_of_memory}. Run the same command to resume")
        log = self.log_of(job)
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else f"exit status {status}")
        return Outcome(job, "failed", seconds, f"{reason} (see {log})")

    def note(self, outcome: Outcome) -> End:
        """Record an outcome, and say it."""
        self.outcomes[outcome.job.name] = outcome
        note = f": {outcome.message}" if outcome.message else ""
        number = f"[{len(self.outcomes)}/{len(self.jobs)}]"
        self.tell(f"{number} {outcome.job.name}: {outcome.status} after {outcome.seconds:.0f} s{note}")
        return End.WELL if outcome.status in ("done", "skipped") else End.BADLY

    def tell(self, line: str) -> None:
        """Say a line; nothing happens if the terminal is gone, as the jobs go on."""
        with suppress(OSError):
            self.say(line)

    def in_order(self) -> list[Outcome]:
        """The outcomes in the order of the jobs."""
        return [self.outcomes.get(job.name) or Outcome(job, "failed", 0.0, "not run: nothing has its device") for job in self.jobs]
