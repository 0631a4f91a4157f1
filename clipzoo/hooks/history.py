"""``history.json``: one object per epoch; and ``timing.json`` beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.files import read_json, write_json
from clipzoo.hooks.base import Hook
from clipzoo.hooks.records import epoch_record
from clipzoo.registries import HOOKS

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


@HOOKS.register_module()
class HistoryHook(Hook):
    """Writes losses, learning rate and validation metrics of every epoch to ``history.json``; the metrics are of its last evaluation.

    Seconds and images per second go to ``timing.json``: a run that was stopped and started again then has the same ``history.json``, byte
    for byte, as one that was not.
    """

    def __init__(self) -> None:
        self.epochs: list[dict] = []
        self.timings: list[dict] = []

    def before_fit(self, run: Run) -> None:
        """Read the timings of the epochs before a restart."""
        path = run.folder / "timing.json"
        if run.is_main and self.epochs and path.exists():
            self.timings = list(read_json(path))[: len(self.epochs)]

    def after_epoch(self, run: Run) -> None:
        """Add the epoch and write both files."""
        self.epochs.append(epoch_record(run))
        self.timings.append(
            {"epoch": run.state.epoch, "seconds": round(run.epoch_seconds, 3), "images_per_second": round(run.images_per_second, 2)}
        )
        if run.is_main:
            write_json(run.folder / "history.json", self.epochs)
            write_json(run.folder / "timing.json", self.timings)

    def state_dict(self) -> dict:
        """The epochs so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict) -> None:
        """Restore the epochs so far."""
        self.epochs = list(state["epochs"])
