"""Scalars of every epoch and the confusion matrix of the watched part, for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.config.arguments import Whole
from clipzoo.hooks.base import Hook
from clipzoo.hooks.row_file import learning_rate, temperature
from clipzoo.pictures.figures import confusion_figure, confusion_matrix
from clipzoo.pictures.fonts import drawing
from clipzoo.records.tables import PredictionTable
from clipzoo.registries import HOOKS

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


@HOOKS.register_module()
class TensorBoardHook(Hook):
    """Writes to ``<fold>/tensorboard/``; view with ``tensorboard --logdir work_dirs``.

    The horizontal axis counts epochs, or optimizer steps if evaluation counts in steps.

    Args:
        confusion_every: Evaluations between confusion matrices, which are also drawn at the last; 0 for never.
    """

    def __init__(self, confusion_every: Whole = 5):
        self.confusion_every = confusion_every
        self.writer = None

    def before_fit(self, run: Run) -> None:
        """Open the event file; after a restart, events beyond the checkpoint are hidden."""
        if run.is_main:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=place(run) + 1 if run.state.step else None)

    def after_eval(self, run: Run) -> None:
        """Write the metrics and the confusion matrix of the evaluation."""
        if self.writer is None:
            return
        for name, value in run.epoch_metrics.items():
            self.writer.add_scalar(f"{run.watched}/{name}", value, place(run))
        number = place(run) // (run.evaluation.every_steps or run.evaluation.every)
        due = self.confusion_every and (number % self.confusion_every == 0 or run.state.step >= run.last_step)
        table = None if run.epoch_evaluation is None else run.epoch_evaluation.table
        if due and isinstance(table, PredictionTable):
            with drawing(table.classes) as letters:
                figure = confusion_figure(confusion_matrix(table), table.classes, letters)
                self.writer.add_figure(f"confusion/{run.watched}", figure, place(run))

    def after_epoch(self, run: Run) -> None:
        """Write losses, learning rate and temperature."""
        if self.writer is None:
            return
        now = temperature(run)
        values = {**run.epoch_losses, "lr": learning_rate(run), **({} if now is None else {"temperature": now})}
        for name, value in values.items():
            self.writer.add_scalar(f"train/{name}", value, place(run))
        self.writer.flush()

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def place(run: Run) -> int:
    """The position of this moment on the horizontal axis."""
    return run.state.step if run.evaluation.every_steps else run.state.epoch
