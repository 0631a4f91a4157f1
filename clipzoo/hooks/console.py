"""Progress output: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clipzoo.config.arguments import NotNegative
from clipzoo.hooks.base import Hook
from clipzoo.hooks.row_file import epoch_number, learning_rate
from clipzoo.registries import HOOKS
from clipzoo.runtime.progress import Bars, bars_on, clock
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
        self.bars: Bars | None = None
        self.evaluated_step = -1

    def before_fit(self, run: Run) -> None:
        """Start the progress bar."""
        self.started = self.last_line = time.monotonic()
        self.first_step = run.state.step
        self.losses = self.last_score = self.speed = ""
        self.bars = bars_on(run.console) if run.is_main else None
        self.show(run)

    def show(self, run: Run) -> None:
        """Draw the progress bar: the epoch with its losses, and the last score and speed."""
        if self.bars is not None:
            begun = run.state.step > self.first_step
            what, left = (where(run), self.seconds_left(run)) if begun else (run.split.name, None)
            note = "  ".join(filter(None, (self.losses, self.last_score, self.speed)))
            self.bars.show(run.split.name, what, run.state.batch, len(run.batches), note, left)

    def after_step(self, run: Run) -> None:
        """Update the progress bar; the loss is read at logged steps only."""
        state = run.state
        logged = state.step % run.runtime.log_every == 0
        if self.bars is not None:
            self.losses = describe_losses(run.meter.means()) if logged else self.losses
            self.show(run)
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
        self.last_score, self.speed = self.score(run).strip() or self.last_score, f"{run.images_per_second:.0f} images/s"
        run.log.info(
            f"{where(run)}  {describe_losses(run.epoch_losses)}{self.score(run)}  lr {learning_rate(run):.2e}  "
            f"{self.speed}  {self.left(run)} left"
        )

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Remove the progress bar."""
        if self.bars is not None:
            self.bars.close()
            self.bars = None
        if run.is_main and error is None and run.stop_reason:
            run.log.info(f"{run.split.name}: stopped after epoch {run.state.epoch}: {run.stop_reason}")

    def score(self, run: Run) -> str:
        """The selecting metric, if measured at this step."""
        value = run.epoch_metrics.get(run.selector.name)
        if value is None or self.evaluated_step != run.state.step:
            return ""
        return f"  {run.watched} {run.selector.name} {value:.4f}{'  *best' if run.state.best_step == run.state.step else ''}"

    def left(self, run: Run) -> str:
        """Estimated time to the last step."""
        return clock(self.seconds_left(run))

    def seconds_left(self, run: Run) -> float:
        """Estimated seconds to the last step, at the average speed of this process."""
        done = max(run.state.step - self.first_step, 1)
        return (time.monotonic() - self.started) / done * (run.last_step - run.state.step)


def where(run: Run) -> str:
    """The fold and the epoch."""
    return f"{run.split.name} epoch {epoch_number(run):>{len(str(run.total_epochs))}}/{run.total_epochs}"


def describe_losses(means: dict[str, float]) -> str:
    """The losses, and of the in-batch measures the accuracy."""
    shown = {name: value for name, value in means.items() if not is_measure(name) or name == f"{MEASURE}accuracy"}
    return "  ".join(f"{name.replace(f'{MEASURE}accuracy', 'in-batch accuracy')} {value:.4f}" for name, value in shown.items())
