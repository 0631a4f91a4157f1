"""``metrics.csv``: the progress of a run as one table, to follow with ``tail -f`` or to plot with any program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.config.arguments import Count
from clipzoo.errors import DataError
from clipzoo.files import read_bytes, reason, write_text
from clipzoo.hooks.base import Hook
from clipzoo.hooks.row_file import Intervals, epoch_number, learning_rate, temperature, watched_metrics
from clipzoo.registries import HOOKS
from clipzoo.structures import is_measure
from clipzoo.text import csv_text

if TYPE_CHECKING:
    from clipzoo.engine.state import Run

FILE = "metrics.csv"


@HOOKS.register_module()
class MetricsCSVHook(Hook):
    """Writes ``metrics.csv``: a row at every evaluation, at the end of every epoch, and optionally every few steps.

    Columns: ``step`` and ``epoch`` (from 1); ``train_loss``, the mean over exactly the cases of all processes since the last row (of this
    epoch), and ``train_<name>`` for its terms if there are several; ``lr``, the largest of the step; ``temperature`` if the model has
    one; ``in_batch_accuracy`` and ``in_batch_similarity`` if the model reports them (``model.in_batch_measures=True``), over the same
    cases as the loss (they depend on the batch size and are not retrieval metrics); and ``val_<metric>`` for every metric, empty in
    rows without an evaluation and ``nan`` if undefined (``test_<metric>`` if ``splits.select_on_test`` lets the test part
    choose).

    The file of a killed and restarted run is byte-identical to that of an uninterrupted run, because its rows are also in the checkpoint.
    A file that was damaged or deleted in the meantime is restored from there, with a warning.

    Args:
        every_steps: Optimizer steps between additional rows. The device is synchronised at these steps only, which costs a GPU a
            fraction of a step's time; ``None`` for rows at evaluations and ends of epochs only.
    """

    def __init__(self, every_steps: Count | None = None):
        self.every_steps = every_steps
        self.columns: list[str] = []
        self.rows: list[str] = []  # lines of the file, in the main process
        self.num_written = 0  # rows already written; fewer while another program blocks the file
        self.must_rewrite = False  # if the next row cannot be appended to the file as it is
        self.is_told = self.is_restored = False
        self.intervals = Intervals()
        self.last_step = self.evaluated_step = 0

    def before_fit(self, run: Run) -> None:
        """Restore the file as of the checkpoint: later rows are removed, lost or damaged ones rewritten."""
        if not run.is_main:
            return
        self.path, content, problem = run.folder / FILE, b"", ""
        try:
            content = read_bytes(self.path) if os.path.lexists(self.path) else b""
        except DataError as error:
            problem = f"cannot be read ({error})"
        if run.state.step and not self.is_restored:
            self.adopt(run, content)
        expected = (self.header() + "".join(self.rows)).encode() if self.rows else b""
        whole_lines = content[: content.rfind(b"\n") + 1]
        if not content.startswith(expected) and not (whole_lines and expected.startswith(whole_lines)):
            problem = problem or "was damaged or deleted"
        if problem:
            run.log.warning(f"warning: {self.path}: {problem}. It is restored from the checkpoint, with all {len(self.rows)} rows")
        self.num_written, self.must_rewrite = len(self.rows), content != expected
        if self.must_rewrite:
            self.write(run, synced=True)

    def adopt(self, run: Run, content: bytes) -> None:
        """Read the rows up to the checkpoint from the file, if the run that wrote the checkpoint did not use this hook."""
        header, *lines = content.decode("utf-8", "replace").split("\n")[:-1] or [""]
        self.columns = header.split(",") if header.startswith("step,epoch,") else []
        numbers = [_numbers(line) for line in lines]
        whole = [len(row) == len(self.columns) > 0 for row in numbers]
        self.rows = [f"{line}\n" for line, row, good in zip(lines, numbers, whole, strict=True) if good and row[0] <= run.state.step]
        lost = whole.count(False)
        if lost:
            why = "and the checkpoint, which was written without this hook, does not have them"
            run.log.warning(f"warning: {self.path}: {lost} of {len(lines)} rows are lost: they are damaged, {why}")

    def header(self) -> str:
        """The first line."""
        return csv_text([self.columns])

    def after_step(self, run: Run) -> None:
        """Add a row, if one is due and none follows for the same step."""
        state, between = run.state, run.evaluation.every_steps
        if self.every_steps is None or state.step % self.every_steps:
            return
        epoch_ends = state.batch == len(run.batches) or state.step == run.total_steps
        evaluated = between and run.watched is not None and state.step % between == 0
        if not (epoch_ends or evaluated):
            self.add_row(run, {})

    def after_eval(self, run: Run) -> None:
        """Add a row in the middle of an epoch; at its end ``after_epoch`` adds it."""
        self.evaluated_step = run.state.step
        if run.state.batch > 0:
            self.add_row(run, watched_metrics(run))

    def after_epoch(self, run: Run) -> None:
        """Add a row, with the metrics if they were measured at this step."""
        if run.state.step > self.last_step:
            self.add_row(run, watched_metrics(run) if self.evaluated_step == run.state.step else {})

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Try again to write pending rows, and sync all: the rows of a run that goes on are in its checkpoint too."""
        if run.is_main and self.rows:
            self.write(run, synced=True)

    def add_row(self, run: Run, metrics: dict[str, float]) -> None:
        """Add the row of this step. All processes must call this, as it averages their losses; the main process writes."""
        means = self.intervals.take(run)
        losses = {"train_loss": means.pop("loss"), **{k if is_measure(k) else f"train_{k}": v for k, v in means.items()}}
        measures = {name: losses.pop(name) for name in list(losses) if is_measure(name)}
        now = temperature(run)
        scale = {} if now is None else {"temperature": now}
        row = {"step": run.state.step, "epoch": epoch_number(run), **losses, "lr": learning_rate(run), **scale, **measures}
        if not self.columns:  # independent of whether the first row has an evaluation
            names = [] if run.watched is None else [f"{run.watched}_{metric.name}" for metric in run.metrics]
            self.columns = [*row, *names]
        row.update(metrics)
        self.last_step = run.state.step
        if run.is_main:
            self.rows.append(csv_text([[row.get(name) for name in self.columns]]))
            self.write(run, synced=False)

    def write(self, run: Run, *, synced: bool) -> None:
        """Append the pending rows, all or none; if the file cannot be written, try again at the next row."""
        try:
            if not self.must_rewrite:
                append(self.path, self.rows[self.num_written :], self.header(), synced=synced)
            elif self.rows:
                write_text(self.path, self.header() + "".join(self.rows))
            else:
                self.path.unlink(missing_ok=True)
        except (OSError, DataError) as error:  # for example open in a spreadsheet: no reason to end training
            if not self.is_told:
                cause = reason(error.__cause__ or error)
                run.log.warning(f"warning: {self.path}: cannot be written now ({cause}); will be tried again at the next row")
            self.is_told = True
            return
        self.num_written, self.must_rewrite, self.is_told = len(self.rows), False, False

    def state_dict(self) -> dict:
        """All rows, and the start of the next row's interval."""
        rows = "".join(self.rows)
        return {"intervals": self.intervals.state_dict(), "columns": self.columns, "rows": rows, "last_step": self.last_step}

    def load_state_dict(self, state: dict) -> None:
        """Restore ``state_dict``."""
        self.intervals.load_state_dict(state["intervals"])
        self.columns, self.last_step, self.is_restored = list(state["columns"]), state["last_step"], True
        self.rows = [f"{line}\n" for line in state["rows"].split("\n")[:-1]]


def append(path: Path, lines: list[str], header: str, *, synced: bool) -> None:
    """Append whole lines to a file in one system call, after ``header`` if it is empty.

    Raises:
        OSError: Nothing was appended.
    """
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        content = "".join([*([] if end else [header]), *lines]).encode()
        try:
            if file.write(content) != len(content):
                raise OSError("only partly written; is the disk full?")
            if synced:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _numbers(line: str) -> list[float]:
    """The cells of a row, NaN for empty ones; an empty list if the line is not a row."""
    try:
        return [float(cell or "nan") for cell in line.split(",")]
    except ValueError:
        return []
