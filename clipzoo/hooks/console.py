"""Progress output: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clipzoo.config.arguments import NotNegative
from clipzoo.hooks.base import Hook
from clipzoo.hooks.row_file import epoch_number, learning_rate
from clipzoo.registries import HOOKS
from clipzoo.structures import MEASURE, is_measure

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


@HOOKS.register_module()
class ConsoleHook(Hook):
    """One line per epoch and per evaluation; in between, a progress bar on a terminal, or a line at most every ``seconds`` elsewhere.

    Args:
        seconds: Minimum time between two progress lines within an epoch without a terminal.
    """

    def __init__(self, seconds: NotNegative = 30.0):
        self.seconds = seconds
        self.bar: Progress | None = None
        self.evaluated_step = -1

    def before_fit(self, run: Run) -> None:
        """Start the progress bar."""
        self.started = self.last_line = time.monotonic()
        self.first_step = run.state.step
        if run.is_main and run.console.is_terminal and not run.console.quiet:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self.bar = Progress(*columns, console=run.console, transient=True)
            self.task = self.bar.add_task(run.split.name, total=len(run.batches), note="")
            self.bar.start()

    def after_step(self, run: Run) -> None:
        """Update the progress bar; the loss is read at logged steps only."""
        state = run.state
        logged = state.step % run.runtime.log_every == 0
        if self.bar is not None:
            note = {"note": describe_losses(run.meter.means())} if logged else {}
            self.bar.update(self.task, completed=state.batch, description=where(run), **note)
        elif logged and run.is_main and time.monotonic() - self.last_line >= self.seconds:
            self.last_line = time.monotonic()
            run.log.info(f"{where(run)} batch {state.batch}/{len(run.batches)}  {describe_losses(run.meter.means())}")

    def after_eval(self, run: Run) -> None:
        """Log an evaluation between steps; at the end of an epoch, the epoch's line includes it."""
        self.evaluated_step = run.state.step
        if run.is_main and run.state.batch > 0:
            self.last_line = time.monotonic()
            losses = describe_losses(run.meter.means())
            run.log.info(f"{where(run)} step {run.state.step}/{run.last_step}  {losses}{self.score(run)}  {self.left(run)} left")

    def after_epoch(self, run: Run) -> None:
        """Log the losses, the selecting metric, the speed and the remaining time."""
        if not run.is_main:
            return
        self.last_line = time.monotonic()
        run.log.info(
            f"{where(run)}  {describe_losses(run.epoch_losses)}{self.score(run)}  lr {learning_rate(run):.2e}  "
            f"{run.images_per_second:.0f} images/s  {self.left(run)} left"
        )

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Remove the progress bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        if run.is_main and error is None and run.stop_reason:
            run.log.info(f"{run.split.name}: stopped after epoch {run.state.epoch}: {run.stop_reason}")

    def score(self, run: Run) -> str:
        """The selecting metric, if measured at this step."""
        value = run.epoch_metrics.get(run.selector.name)
        if value is None or self.evaluated_step != run.state.step:
            return ""
        return f"  {run.watched} {run.selector.name} {value:.4f}{'  *best' if run.state.best_step == run.state.step else ''}"

    def left(self, run: Run) -> str:
        """Estimated time to the last step, at the average speed of this process."""
        done = run.state.step - self.first_step
        return _clock((time.monotonic() - self.started) / done * (run.last_step - run.state.step))


def where(run: Run) -> str:
    """The fold and the epoch."""
    return f"{run.split.name} epoch {epoch_number(run):>{len(str(run.total_epochs))}}/{run.total_epochs}"


def describe_losses(means: dict[str, float]) -> str:
    """The losses, and of the in-batch measures the accuracy."""
    shown = {name: value for name, value in means.items() if not is_measure(name) or name == f"{MEASURE}accuracy"}
    return "  ".join(f"{name.replace(f'{MEASURE}accuracy', 'in-batch accuracy')} {value:.4f}" for name, value in shown.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
