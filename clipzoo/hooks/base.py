"""The seven moments at which a hook is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clipzoo.errors import RegistryError, did_you_mean

if TYPE_CHECKING:
    from logging import Logger
    from pathlib import Path

    from clipzoo.engine.evaluation import Evaluation
    from clipzoo.engine.state import Run
    from clipzoo.records.results import FoldResult, Summary

MOMENTS = ("before_fit", "after_step", "after_eval", "after_epoch", "after_fit", "after_test", "after_cross_validation")


class Hook:
    """Observes a run. Override the required moments; all processes call them, so write files only if ``run.is_main``.

    The moments, in the order of an epoch: ``before_fit``, then ``after_step`` for every optimizer step, ``after_eval`` if the epoch
    was evaluated, ``after_epoch``, and once ``after_fit(error)``, however training ended. With ``evaluation.every_steps``
    ``after_eval`` is also called between steps. ``after_test`` is called once the test part has been scored.

    ``after_cross_validation`` belongs to no run: it is called once all folds are done, in the main process only, on a hook that is built
    for it and has seen none of them.

    Attributes:
        is_tracker: Whether the hook shows runs to others, elsewhere. Inner runs and trials have no such hooks.

    Raises:
        RegistryError: At class creation, if a method is named like a moment but is not one.
    """

    is_tracker: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith(("before_", "after_", "on_")) and name not in MOMENTS:
                raise RegistryError(
                    f"hook {cls.__name__}: unknown moment '{name}'.{did_you_mean(name, MOMENTS)} Moments: {', '.join(MOMENTS)}"
                )

    def before_fit(self, run: Run) -> None:
        """Called before the first step of this process; after a restart, all states have already been restored."""

    def after_step(self, run: Run) -> None:
        """Called after each optimizer step. Read device values only at logged steps, since that synchronises the device."""

    def after_eval(self, run: Run) -> None:
        """Called after an evaluation, whose metrics are in ``run.epoch_metrics``."""

    def after_epoch(self, run: Run) -> None:
        """Called after each epoch, before its checkpoint is written; its mean losses are in ``run.epoch_losses``."""

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Called after training, with the exception that ended it, or ``None``."""

    def after_test(self, run: Run, evaluation: Evaluation, result: FoldResult) -> None:
        """Called after the chosen checkpoint was scored on the test part and ``predictions.csv`` written; ``result.json`` follows.

        If the run is killed here, it is scored again at the next start, and this moment is called again.
        """

    def after_cross_validation(self, summary: Summary, folder: Path, log: Logger) -> None:
        """Called when all folds of a work dir are done and all its files are written, also if they were done before.

        Args:
            summary: The summary of all folds.
            folder: The work dir.
            log: Logger for messages.
        """

    def state_dict(self) -> dict:
        """The state that must survive a restart, as plain types; stored in checkpoints."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore ``state_dict``."""
