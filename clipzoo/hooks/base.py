"""The six moments at which a hook is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.errors import RegistryError, did_you_mean

if TYPE_CHECKING:
    from clipzoo.engine.evaluation import Evaluation
    from clipzoo.engine.state import Run
    from clipzoo.records.results import FoldResult

MOMENTS = ("before_fit", "after_step", "after_eval", "after_epoch", "after_fit", "after_test")


class Hook:
    """Watches a run. Override the moments you need; every process calls them, so files are written where ``run.is_main``.

    The moments, in the order of an epoch: ``before_fit``, then for every optimizer step ``after_step``, then ``after_eval`` where the epoch
    was evaluated, ``after_epoch``, and once ``after_fit(error)``, which is called however training ended. With ``evaluation.every_steps``
    ``after_eval`` also comes between steps. ``after_test`` comes once the test part is scored.

    Raises:
        RegistryError: At class creation: a method is named like a moment but is none.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith(("before_", "after_", "on_")) and name not in MOMENTS:
                raise RegistryError(
                    f"hook {cls.__name__}: there is no moment '{name}'.{did_you_mean(name, MOMENTS)} Moments: {', '.join(MOMENTS)}"
                )

    def before_fit(self, run: Run) -> None:
        """Before the first step of this process; after a restart the states are already restored."""

    def after_step(self, run: Run) -> None:
        """After each optimizer step. Do not read device values here except at logged steps: that would wait for the device."""

    def after_eval(self, run: Run) -> None:
        """After an evaluation; ``run.epoch_metrics`` holds it."""

    def after_epoch(self, run: Run) -> None:
        """After each epoch, before its checkpoint is written; ``run.epoch_losses`` holds its mean losses."""

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """After training, with what ended it; ``None`` where it ended by itself."""

    def after_test(self, run: Run, evaluation: Evaluation, result: FoldResult) -> None:
        """After the test part was scored by the chosen checkpoint and ``predictions.csv`` was written; ``result.json`` follows.

        A run that is killed here is scored again at the next start, and this moment comes once more.
        """

    def state_dict(self) -> dict:
        """What must survive a restart, as plain types; kept in the checkpoint."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore ``state_dict``."""
