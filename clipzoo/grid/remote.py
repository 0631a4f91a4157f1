"""A job of a grid on another machine, which sees the same files: a function without arguments, for engines to call."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipzoo.errors import ConfigError
from clipzoo.grid.jobs import Job
from clipzoo.grid.running import Grid

_TURN = 0.2  # seconds between two looks at the process


@dataclass
class RemoteJob:
    """Trains one job in a process, wherever it is called.

    Attributes:
        command: The command.
        log: File for its output.
        place: The current folder of the grid, to which paths in configs are relative.
    """

    command: Sequence[str]
    log: str
    place: str

    @classmethod
    def of(cls, grid: Grid, job: Job, before: Sequence[str] = ()) -> RemoteJob:
        """The job of a grid, on whichever device its engine gives it; ``before`` comes before its command."""
        return cls([*before, *grid.command(job, "auto")], str(grid.log_of(job).absolute()), os.getcwd())

    def __call__(self) -> tuple[int, float]:
        """Train; returns the exit status and the seconds. Whatever interrupts it lets the process write its checkpoint first."""
        started = time.monotonic()
        around = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        with open(self.log, "w", encoding="utf-8") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
            self.process = subprocess.Popen(self.command, cwd=self.place, env=around, **streams)
        try:
            while self.process.poll() is None:  # not wait(), whose lock would stop ``end`` when a signal handler calls it
                time.sleep(_TURN)
        except BaseException:
            self.end()
            raise
        return self.process.returncode, time.monotonic() - started

    def end(self) -> None:
        """Let the process write its checkpoint and end."""
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            time.sleep(_TURN)


def parse_options(texts: Sequence[str]) -> dict[str, object]:
    """``--launcher-options``: ``KEY=VALUE`` with numbers as numbers.

    Raises:
        ConfigError: A text has no ``=``.

    >>> parse_options(["num_gpus=0.5", "partition=gpu", "cpus_per_task=4"])
    {'num_gpus': 0.5, 'partition': 'gpu', 'cpus_per_task': 4}
    """
    options: dict[str, object] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"--launcher-options: '{text}' is not KEY=VALUE, such as cpus_per_task=4")
        options[key] = value
        for number in (int, float):
            try:
                options[key] = number(value)
                break
            except ValueError:
                continue
    return options


def prepared(grid: Grid) -> list[Job]:
    """Make the folder of a grid, and note the jobs that are done; returns the others."""
    Path(grid.folder).mkdir(parents=True, exist_ok=True)
    todo = []
    for job in grid.jobs:
        if grid.is_done(job):
            grid.skip(job)
        else:
            todo.append(job)
    return todo
