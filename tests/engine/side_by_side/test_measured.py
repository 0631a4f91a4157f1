"""A training tells its memory after its first step, to whoever asks."""

from __future__ import annotations

import json

from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.side_by_side.measured import tell_the_grid
from clipzoo.runtime.jobs import room


def test_a_job_of_a_grid_tells_once_after_the_first_step(config_of, tmp_path, quiet, monkeypatch):
    steps: list[int] = []
    validation = CrossValidation(config_of(train={"epochs": 2}), tmp_path / "run", console=quiet)
    tell_the_grid(validation)
    validation.began(None)  # nobody asks: nothing happens
    monkeypatch.setenv(room.FILE, str(tmp_path / "memory.json"))
    tell_the_grid(validation)
    began = validation.began

    def begin(runner):
        monkeypatch.setattr(room, "tell", lambda tell=room.tell: (steps.append(runner.run.state.step), tell()))
        began(runner)

    validation.began = begin
    validation.train(fold=1)
    assert steps == [1] and json.loads((tmp_path / "memory.json").read_text())["used"] > 2**26
