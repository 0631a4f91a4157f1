"""Progress for people: a moving bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clipzoo.hooks.base import Hook
from clipzoo.registries import HOOKS

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


@HOOKS.register_module()
class ConsoleHook(Hook):
    """One line per epoch; within an epoch a bar on a terminal, or elsewhere a line at most every ``seconds``.

    Args:
        seconds: Shortest time between two lines of progress inside an epoch where there is no terminal.
    """

    def __init__(self, seconds: float = 30.0):
        self.seconds = seconds
        self.bar: Progress | None = None

    def before_fit(self, run: Run) -> None:
        """Start the bar."""
        self.started = self.last_line = time.monotonic()
        self.first_epoch = run.state.epoch
        if run.is_main and run.console.is_terminal and not run.console.quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Progress(*columns, console=run.console, transient=True)
            self.task = self.bar.add_task(run.split.name, total=len(run.batches), note="")
            self.bar.start()

    def after_step(self, run: Run) -> None:
        """Move the bar; the loss is read only at logged steps."""
        state = run.state
        logged = state.step % run.runtime.log_every == 0
        if self.bar is not None:
            note = f"loss {run.meter.means()['loss']:.4f}" if logged else None
            description = f"{run.split.name} epoch {state.epoch + 1}/{run.total_epochs}"
            self.bar.update(self.task, completed=state.batch, description=description, **({"note": note} if note else {}))
        elif logged and run.is_main and time.monotonic() - self.last_line >= self.seconds:
            self.last_line = time.monotonic()
            where = f"epoch {state.epoch + 1}/{run.total_epochs} batch {state.batch}/{len(run.batches)}"
            run.log.info(f"{run.split.name} {where}  loss {run.meter.means()['loss']:.4f}")

    def after_epoch(self, run: Run) -> None:
        """One line: losses, the selecting metric, speed and the time that is left."""
        if not run.is_main:
            return
        self.last_line = time.monotonic()
        state = run.state
        done = state.epoch - self.first_epoch
        left = (time.monotonic() - self.started) / done * (run.total_epochs - state.epoch)
        losses = "  ".join(f"{name} {value:.4f}" for name, value in run.epoch_losses.items())
        value = run.epoch_metrics.get(run.selector.name)
        score = "" if value is None else f"  val {run.selector.name} {value:.4f}{'  *best' if state.best_epoch == state.epoch else ''}"
        rate = max(group["lr"] for group in run.optimizer.param_groups)
        width = len(str(run.total_epochs))
        run.log.info(
            f"{run.split.name} epoch {state.epoch:>{width}}/{run.total_epochs}  {losses}{score}  lr {rate:.2e}  "
            f"{run.images_per_second:.0f} images/s  {_clock(left)} left"
        )

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        if run.is_main and error is None and run.stop_reason:
            run.log.info(f"{run.split.name}: stopped after epoch {run.state.epoch}: {run.stop_reason}")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
