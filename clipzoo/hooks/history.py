"""``history.json`` with one object per epoch, and ``timing.json`` in the same folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import DataError
from clipzoo.files import read_json, write_json
from clipzoo.hooks.base import Hook
from clipzoo.hooks.pace import Pace
from clipzoo.hooks.row_file import epoch_record
from clipzoo.registries import HOOKS

if TYPE_CHECKING:
    from clipzoo.engine.state import Run

HISTORY_FILE, TIMING_FILE = "history.json", "timing.json"
_TIMED = {"epoch", "seconds", "images_per_second"}


@HOOKS.register_module()
class HistoryHook(Hook):
    """Writes losses, learning rate and validation metrics of every epoch to ``history.json``; the metrics are those of its last evaluation.

    The file is rewritten at most once a second, and at the end; the epochs are in the checkpoint too.

    Seconds and images per second go to ``timing.json``, so that ``history.json`` of a restarted run is byte-identical to that of
    an uninterrupted run.
    """

    def __init__(self) -> None:
        self.epochs: list[dict] = []
        self.timings: list[dict] = []
        self.pace = Pace(seconds=1.0)

    def before_fit(self, run: Run) -> None:
        """After a restart, rewrite ``history.json`` in any case, and read the timings of the previous epochs."""
        if not run.is_main or not self.epochs:
            return
        write_json(run.folder / HISTORY_FILE, self.epochs)
        path = run.folder / TIMING_FILE
        if not os.path.lexists(path):
            return
        try:
            self.timings = _timings(path)[: len(self.epochs)]
        except DataError as error:
            run.log.warning(f"warning: {error}. It starts again: the timings of the previous {len(self.epochs)} epochs are lost")
            write_json(path, [])

    def after_epoch(self, run: Run) -> None:
        """Append the epoch, and write both files if due."""
        self.epochs.append(epoch_record(run))
        self.timings.append(
            {"epoch": run.state.epoch, "seconds": round(run.epoch_seconds, 3), "images_per_second": round(run.images_per_second, 2)}
        )
        if run.is_main and self.pace.is_due():
            self.write(run)

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Write both files."""
        if run.is_main and self.epochs:
            self.write(run)

    def write(self, run: Run) -> None:
        """Write both files."""
        with self.pace.working():
            write_json(run.folder / HISTORY_FILE, self.epochs)
            write_json(run.folder / TIMING_FILE, self.timings)

    def state_dict(self) -> dict:
        """The epochs so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict) -> None:
        """Restore the epochs so far."""
        self.epochs = list(state["epochs"])


def _timings(path: Path) -> list[dict]:
    """The content of ``timing.json``.

    Raises:
        DataError: The file is damaged.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() == _TIMED for row in rows):
        raise DataError(f"{path}: must be a list with an object of {', '.join(sorted(_TIMED))} per epoch")
    return rows
