"""Scalars of every epoch and the confusion matrix of the watched part, for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipzoo.hooks.base import Hook
from clipzoo.registries import HOOKS
from clipzoo.tables import PredictionTable

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


@HOOKS.register_module()
class TensorBoardHook(Hook):
    """Writes to ``<fold>/tensorboard/``; look at it with ``tensorboard --logdir work_dirs``.

    Args:
        confusion_every: Draw the confusion matrix every so many evaluations; 0 for never.
    """

    def __init__(self, confusion_every: int = 5):
        self.confusion_every = confusion_every
        self.writer = None

    def before_fit(self, run: Run) -> None:
        """Open the event file; after a restart, what was written beyond the checkpoint is hidden."""
        if run.is_main:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.state.epoch + 1 if run.state.epoch else None)

    def after_eval(self, run: Run) -> None:
        """The confusion matrix of the evaluation."""
        due = self.confusion_every and (run.state.epoch % self.confusion_every == 0 or run.state.epoch == run.total_epochs)
        table = None if run.epoch_evaluation is None else run.epoch_evaluation.table
        if self.writer is not None and due and isinstance(table, PredictionTable):
            known = table.labels >= 0
            labels, predicted = table.labels[known], table.probabilities[known].argmax(axis=1)
            matrix = np.zeros((len(run.dataset.classes),) * 2, dtype=np.int64)
            np.add.at(matrix, (labels, predicted), 1)
            self.writer.add_figure(f"confusion/{run.watched}", confusion_figure(matrix, run.dataset.classes), run.state.epoch)

    def after_epoch(self, run: Run) -> None:
        """Losses, learning rate, temperature and metrics."""
        if self.writer is None:
            return
        epoch = run.state.epoch
        for name, value in run.epoch_losses.items():
            self.writer.add_scalar(f"train/{name}", value, epoch)
        for name, value in run.epoch_metrics.items():
            self.writer.add_scalar(f"{run.watched}/{name}", value, epoch)
        self.writer.add_scalar("train/lr", max(group["lr"] for group in run.optimizer.param_groups), epoch)
        scale = getattr(run.model, "logit_scale", None)
        if scale is not None:
            self.writer.add_scalar("train/temperature", float((-scale.detach()).exp()), epoch)
        self.writer.flush()

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def confusion_figure(matrix: np.ndarray, classes: tuple[str, ...]) -> object:
    """A confusion matrix ``[C, C]`` (rows: true class) as a matplotlib figure; names are drawn only where a font can draw them."""
    from matplotlib.figure import Figure

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.5 + 0.5 * len(classes), 1.2 + 0.5 * len(classes)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = classes if all(name.isascii() for name in classes) else [str(i) for i in range(len(classes))]
    axes.set_xticks(range(len(classes)), names, rotation=90)
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(matrix):
            axes.text(
                column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black", fontsize=8
            )
    return figure
