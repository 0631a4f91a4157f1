"""Scalars of every epoch, the confusion matrix of the watched part, the test metrics and the config, for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.config.arguments import Whole
from clipzoo.hooks.base import Hook
from clipzoo.hooks.flat_config import flat
from clipzoo.hooks.pace import Pace
from clipzoo.hooks.row_file import numbers_of_epoch, place
from clipzoo.pictures.figures import confusion_figure, confusion_matrix
from clipzoo.pictures.fonts import drawing
from clipzoo.records.tables import PredictionTable
from clipzoo.registries import HOOKS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from clipzoo.engine.evaluation import Evaluation
    from clipzoo.engine.state import Run
    from clipzoo.records.results import FoldResult


@HOOKS.register_module()
class TensorBoardHook(Hook):
    """Writes to ``<fold>/tensorboard/``; view with ``tensorboard --logdir work_dirs``.

    The horizontal axis counts epochs, or optimizer steps if evaluation counts in steps.

    Args:
        confusion_every: Evaluations between confusion matrices, which are also drawn at the last; 0 for never. They are drawn less often
            if drawing would take more than 2 % of the time.
    """

    def __init__(self, confusion_every: Whole = 5):
        self.confusion_every = confusion_every
        self.writer = None
        self.pace = Pace()

    def before_fit(self, run: Run) -> None:
        """Open the event file; after a restart, events beyond the checkpoint are hidden."""
        if run.is_main:
            self.writer = _writer(run, purge_step=place(run) + 1 if run.state.step else None)
            self.pace.start()

    def after_eval(self, run: Run) -> None:
        """Write the metrics and the confusion matrix of the evaluation."""
        if self.writer is None:
            return
        for name, value in run.epoch_metrics.items():
            self.writer.add_scalar(f"{run.watched}/{name}", value, place(run))
        number = place(run) // (run.evaluation.every_steps or run.evaluation.every)
        is_turn = self.confusion_every and number % self.confusion_every == 0 and self.pace.is_due()
        due = is_turn or (self.confusion_every and run.state.step >= run.last_step)
        table = None if run.epoch_evaluation is None else run.epoch_evaluation.table
        if due and isinstance(table, PredictionTable):
            with self.pace.working(), drawing(table.classes) as letters:
                figure = confusion_figure(confusion_matrix(table), table.classes, letters)
                self.writer.add_figure(f"confusion/{run.watched}", figure, place(run))

    def after_epoch(self, run: Run) -> None:
        """Write losses, learning rate and temperature."""
        if self.writer is None:
            return
        for name, value in numbers_of_epoch(run).items():
            self.writer.add_scalar(name, value, place(run))
        self.writer.flush()

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def after_test(self, run: Run, evaluation: Evaluation, result: FoldResult) -> None:
        """Write the test metrics at the scored epoch, and the config as hyper-parameters that lead to them."""
        if not run.is_main:
            return
        from torch.utils.tensorboard.summary import hparams

        metrics = {f"test/{name}": value for name, value in result.metrics.items()}
        config = {key: value if isinstance(value, (bool, int, float, str)) else str(value) for key, value in flat(run.config).items()}
        with _writer(run) as writer:
            for name, value in metrics.items():
                writer.add_scalar(name, value, result.step if run.evaluation.every_steps else result.epoch)
            for part in hparams(config, metrics):  # add_hparams would write them to a folder of their own, as another run
                writer.file_writer.add_summary(part)


def _writer(run: Run, **options: int | None) -> SummaryWriter:
    """A further event file of the run."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.folder / "tensorboard"), **options)
