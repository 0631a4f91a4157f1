"""``metrics.csv``: the course of a run as one table, to follow with ``tail -f`` or to plot with anything."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import ConfigError
from clipzoo.files import write_atomically
from clipzoo.hooks.base import Hook
from clipzoo.hooks.records import Intervals, epoch_number, learning_rate, temperature, watched_metrics
from clipzoo.registries import HOOKS
from clipzoo.structures import is_measure

if TYPE_CHECKING:
    from clipzoo.engine.state import Run

FILE = "metrics.csv"


@HOOKS.register_module()
class MetricsCSVHook(Hook):
    """Writes ``metrics.csv``: a row at every evaluation, at the end of every epoch, and every so many steps.

    Columns: ``step`` and ``epoch`` (from 1); ``train_loss``, the mean over exactly the cases of all processes since the row above (of this
    epoch), and ``train_<name>`` for its parts where there are several; ``lr``, the largest of the step; ``temperature`` where the model
    has one; ``in_batch_accuracy`` and ``in_batch_similarity`` where the model reports them (``model.in_batch_measures=True``), over the
    same cases as the loss: they depend on the batch size and are no metrics of retrieval; and ``val_<metric>`` for every metric, empty in
    rows without an evaluation and ``nan`` where one is not defined. (``test_<metric>`` where ``splits.select_on_test`` lets the test part
    choose.)

    A run that was killed and started again leaves the same file, byte for byte, as one that was not: rows beyond the checkpoint are
    taken away before it goes on.

    Args:
        every_steps: Rows every so many optimizer steps as well. At these steps, and no others, the device is waited for, which costs a
            GPU a fraction of a step's time; ``None`` for rows at evaluations and ends of epochs only.

    Raises:
        ConfigError: ``every_steps`` is less than 1.
    """

    def __init__(self, every_steps: int | None = None):
        if every_steps is not None and every_steps < 1:
            raise ConfigError(f"MetricsCSVHook: every_steps is {every_steps}; 1 or more, or None, is allowed")
        self.every_steps = every_steps
        self.columns: list[str] = []
        self.intervals = Intervals()
        self.unwritten: list[str] = []  # while another program keeps the file from being written
        self.last_step = self.evaluated_step = 0

    def before_fit(self, run: Run) -> None:
        """Take away the rows beyond the checkpoint, and a last line that was only half written."""
        if not run.is_main:
            return
        self.path = run.folder / FILE
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        header, *lines = content.split(b"\n")[:-1] or [b""]  # what follows the last line break is half a line
        kept = [line for line in lines if 0 <= _step_of(line) <= run.state.step]
        if not kept:
            self.path.unlink()
            return
        self.columns = next(csv.reader([header.decode("utf-8-sig", "replace")]))
        written = _step_of(kept[-1])
        self.unwritten = [line for line in self.unwritten if _step_of(line.encode()) > written]  # they were, after the checkpoint
        repaired = b"".join(line + b"\n" for line in [header, *kept])
        if repaired != content:
            write_atomically(self.path, lambda temporary: temporary.write_bytes(repaired))

    def after_step(self, run: Run) -> None:
        """A row, if one is due and none will follow for the same step."""
        state, between = run.state, run.evaluation.every_steps
        if self.every_steps is None or state.step % self.every_steps:
            return
        epoch_ends = state.batch == len(run.batches) or state.step == run.total_steps
        evaluated = between and run.watched is not None and state.step % between == 0
        if not (epoch_ends or evaluated):
            self.add_row(run, {})

    def after_eval(self, run: Run) -> None:
        """A row, in the middle of an epoch; at its end ``after_epoch`` writes it."""
        self.evaluated_step = run.state.step
        if run.state.batch > 0:
            self.add_row(run, watched_metrics(run), synced=True)

    def after_epoch(self, run: Run) -> None:
        """A row, with the metrics if they are of this very step."""
        if run.state.step > self.last_step:
            self.add_row(run, watched_metrics(run) if self.evaluated_step == run.state.step else {}, synced=True)

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Try once more to write what could not be written."""
        if run.is_main and self.unwritten:
            self.write(run, synced=True)

    def add_row(self, run: Run, metrics: dict[str, float], *, synced: bool = False) -> None:
        """Add the row of this step. Called by all processes, whose losses it holds; the main one writes."""
        means = self.intervals.take(run)
        losses = {"train_loss": means.pop("loss"), **{k if is_measure(k) else f"train_{k}": v for k, v in means.items()}}
        measures = {name: losses.pop(name) for name in list(losses) if is_measure(name)}
        now = temperature(run)
        scale = {} if now is None else {"temperature": now}
        row = {"step": run.state.step, "epoch": epoch_number(run), **losses, "lr": learning_rate(run), **scale, **measures}
        if not self.columns:  # the same whether the first row has an evaluation or not
            names = [] if run.watched is None else [f"{run.watched}_{metric.name}" for metric in run.metrics]
            self.columns = [*row, *names]
        row.update(metrics)
        self.last_step = run.state.step
        if run.is_main:
            self.unwritten.append(_line([_text(row.get(name)) for name in self.columns]))
            self.write(run, synced=synced)

    def write(self, run: Run, *, synced: bool) -> None:
        """Append what is not written yet, whole or not at all; a file that cannot be written now is tried again at the next row."""
        try:
            append(self.path, self.unwritten, _line(self.columns), synced=synced)
        except OSError as error:  # a spreadsheet has it open, say: no reason to end a training
            if len(self.unwritten) == 1:
                run.log.warning(f"warning: {self.path}: cannot be written now ({error.strerror or error}); tried again at the next row")
            return
        self.unwritten = []

    def state_dict(self) -> dict:
        """Where the next row's interval begins, and rows that could not be written."""
        return {"intervals": self.intervals.state_dict(), "unwritten": self.unwritten, "last_step": self.last_step}

    def load_state_dict(self, state: dict) -> None:
        """Restore ``state_dict``."""
        self.intervals.load_state_dict(state["intervals"])
        self.unwritten, self.last_step = list(state["unwritten"]), state["last_step"]


def append(path: Path, lines: list[str], header: str, *, synced: bool) -> None:
    """Append whole lines to a file, in one system call, after ``header`` where it is empty.

    Raises:
        OSError: Nothing was appended.
    """
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        content = "".join([*([] if end else [header]), *lines]).encode()
        try:
            if file.write(content) != len(content):
                raise OSError("only a part of it was written; is the disk full?")
            if synced:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _step_of(line: bytes) -> int:
    """The step of a row; -1 where the line is none."""
    number = line.split(b",", 1)[0]
    return int(number) if number.isdigit() else -1


def _text(value: float | None) -> str:
    """Every digit of a number, so that it can be compared with ``history.json``; nothing for what was not measured."""
    return "" if value is None else repr(value)


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
