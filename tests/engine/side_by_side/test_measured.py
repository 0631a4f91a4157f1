"""A training tells its memory after its first step, to whoever asks."""

from __future__ import annotations

import json

import pytest

from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.side_by_side.measured import tell_the_grid
from clipzoo.engine.waiting import Interrupted
from clipzoo.hooks import Hook
from clipzoo.runtime.jobs import room


def test_a_job_of_a_grid_tells_once_after_its_first_step_also_of_a_resumed_training(config_of, tmp_path, quiet, monkeypatch):
    told: list[int] = []

    def run(stop_after: int = 0) -> None:
        """Train a fold; end in this epoch, with a checkpoint."""
        del told[:]
        validation = CrossValidation(config_of(train={"epochs": 3}), tmp_path / "run", console=quiet)
        tell_the_grid(validation)
        began = validation.began

        def begin(runner):
            monkeypatch.setattr(room, "tell", lambda tell=tell: (told.append(runner.run.state.step), tell()))
            if stop_after:
                runner.run.hooks.append(StopAfter(stop_after, validation.interrupt))
            began(runner)

        validation.began = begin
        validation.train(fold=1)

    tell = room.tell
    validation = CrossValidation(config_of(), tmp_path / "unasked", console=quiet)
    before = validation.began
    tell_the_grid(validation)
    assert validation.began is before, "nobody asks"
    monkeypatch.setenv(room.FILE, str(tmp_path / "memory.json"))
    with pytest.raises(Interrupted):
        run(stop_after=1)
    assert told == [1] and json.loads((tmp_path / "memory.json").read_text())["used"] > 2**26
    run()
    assert told == [StopAfter.step + 1], "not before the first step of this process"


class StopAfter(Hook):
    """Sends a signal after an epoch, and keeps the number of steps so far."""

    step = 0

    def __init__(self, epoch: int, interrupt):
        self.epoch, self.interrupt = epoch, interrupt

    def after_epoch(self, run) -> None:
        if run.state.epoch == self.epoch:
            self.interrupt.signal = 15
            StopAfter.step = run.state.step
