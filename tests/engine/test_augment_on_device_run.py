"""``data.augment_on_device`` in a run: the losses of the per-image path up to rounding, and restarts to the last bit."""

import hashlib
import json

import numpy as np
import pytest

from clipzoo.engine import loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run

ON_DEVICE = {"augmentation": "standard", "augment_on_device": True}
CACHED = {"train": {"accumulation": 2, "grad_cache": True}, "runtime": {"precision": "bf16"}}
FILES = ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv")


def validation(config_of, folder, console, *, data=ON_DEVICE, **sections):
    return CrossValidation(config_of(train={"epochs": 2, **sections.pop("train", {})}, data=data, **sections), folder, console=console)


def digests(folder):
    return {name: hashlib.sha256((folder / "fold_1" / name).read_bytes()).hexdigest() for name in FILES}


def losses(folder):
    return [row["loss"] for row in json.loads((folder / "fold_1" / "history.json").read_text(encoding="utf-8"))]


@pytest.fixture
def first_losses(monkeypatch):
    """Losses of the first step of every run."""
    found = []
    original = loop.step

    def step(run, group):
        original(run, group)
        if run.state.step == 0:
            found.append(run.meter.means()["loss"])

    monkeypatch.setattr(loop, "step", step)
    return found


def test_a_step_has_the_loss_of_the_per_image_path(config_of, tmp_path, quiet, first_losses):
    for data in ({"augmentation": "standard"}, ON_DEVICE, {"augmentation": "none"}):
        dry_run(validation(config_of, tmp_path / "run", quiet, data=data))
    one_by_one, together, other = first_losses
    assert abs(one_by_one - together) < 1e-5 < abs(one_by_one - other)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, CACHED], ids=["plain", "cached"])
def test_a_stopped_run_goes_on_bit_for_bit_and_workers_change_nothing(config_of, tmp_path, quiet, stopped_at, more):
    validation(config_of, tmp_path / "whole", quiet, **more).train(fold=1)
    with stopped_at(2):
        validation(config_of, tmp_path / "stopped", quiet, **more).train(fold=1)
    validation(config_of, tmp_path / "stopped", quiet, **more).train(fold=1)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    with_workers = validation(config_of, tmp_path / "workers", quiet, data={**ON_DEVICE, "num_workers": 2}, **more)
    with_workers.train(fold=1)
    assert digests(tmp_path / "workers")["history.json"] == digests(tmp_path / "whole")["history.json"]
    one_by_one = validation(config_of, tmp_path / "one_by_one", quiet, data={"augmentation": "standard"}, **more)
    one_by_one.train(fold=1)
    np.testing.assert_allclose(losses(tmp_path / "whole"), losses(tmp_path / "one_by_one"), atol=0.02 if more else 2e-3)


@pytest.mark.slow
def test_a_change_between_two_starts_is_noted(config_of, tmp_path, quiet, stopped_at):
    splits = {"num_folds": 2}
    validation(config_of, tmp_path / "run", quiet, splits=splits).train(fold=2)
    with stopped_at(3):
        validation(config_of, tmp_path / "run", quiet, splits=splits).train(fold=1)
    summary = validation(config_of, tmp_path / "run", quiet, splits=splits, data={"augmentation": "standard"}).train()
    assert any("data.augment_on_device was used and is None" in note for note in summary.notes)
