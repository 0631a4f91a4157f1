"""Early stopping: ends training when the selecting metric has not improved for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.config.arguments import Count, NotNegative
from clipzoo.hooks.base import Hook
from clipzoo.registries import HOOKS

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


@HOOKS.register_module()
class EarlyStoppingHook(Hook):
    """Stops after ``patience`` evaluations without an improvement of the selecting metric.

    An equal value is chosen as the best epoch, but is no improvement.
    Requires a val part (or ``splits.select_on_test``); without one it logs a note and has no effect.

    Args:
        patience: Number of evaluations to wait.
        min_delta: Minimum improvement of the selecting metric, in its own unit.
    """

    def __init__(self, patience: Count = 10, min_delta: NotNegative = 0.0):
        self.patience, self.min_delta = patience, min_delta
        self.waited = 0
        self.best: float | None = None

    def before_fit(self, run: Run) -> None:
        """Log a note if there is nothing to watch."""
        if run.watched is None and run.is_main:
            run.log.info("early stopping: this split has no val part, so it does not end the training")

    def after_eval(self, run: Run) -> None:
        """Count evaluations since the last improvement."""
        value = run.epoch_metrics[run.selector.name]
        if value != value:  # an undefined metric is not an improvement
            value = float("-inf")
        elif not run.selector.greater_is_better:
            value = -value
        if self.best is None or value > self.best + self.min_delta:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            run.stop(f"no better {run.selector.name} in {self.patience} evaluations")

    def state_dict(self) -> dict:
        """The best value so far, and the number of evaluations since."""
        return {"waited": self.waited, "best": self.best}

    def load_state_dict(self, state: dict) -> None:
        """Restore the best value so far."""
        self.waited, self.best = state["waited"], state["best"]
