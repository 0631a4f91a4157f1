"""Augmentation of whole batches in a run: the losses of the per-image path up to rounding, and to the last bit those of the device, if it
is the CPU, of workers, and of a restart.
"""

import hashlib
import json

import numpy as np
import pytest

from clipzoo.engine import loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run

STANDARD = {"augmentation": "standard"}
ON_DEVICE = {**STANDARD, "augment_on_device": True}
# A step without batched form, which changes nothing.
ONE_BY_ONE = {"augmentation": ["standard", {"type": "RandomErasing", "p": 0}]}
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
    for data in (STANDARD, ON_DEVICE, ONE_BY_ONE, {"augmentation": "none"}):
        dry_run(validation(config_of, tmp_path / "run", quiet, data=data))
    together, on_device, one_by_one, other = first_losses
    assert on_device == together
    assert abs(one_by_one - together) < 1e-5 < abs(one_by_one - other)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, CACHED], ids=["plain", "cached"])
def test_a_stopped_run_goes_on_bit_for_bit_and_neither_workers_nor_the_device_change_anything(config_of, tmp_path, quiet, stopped_at, more):
    validation(config_of, tmp_path / "whole", quiet, **more).train(fold=1)
    with stopped_at(2):
        validation(config_of, tmp_path / "stopped", quiet, **more).train(fold=1)
    validation(config_of, tmp_path / "stopped", quiet, **more).train(fold=1)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    for number, data in enumerate((STANDARD, {**STANDARD, "num_workers": 2}, {**ON_DEVICE, "num_workers": 2})):
        validation(config_of, tmp_path / f"{number}", quiet, data=data, **more).train(fold=1)
        assert digests(tmp_path / f"{number}")["history.json"] == digests(tmp_path / "whole")["history.json"]
    validation(config_of, tmp_path / "one_by_one", quiet, data=ONE_BY_ONE, **more).train(fold=1)
    np.testing.assert_allclose(losses(tmp_path / "whole"), losses(tmp_path / "one_by_one"), atol=0.02 if more else 2e-3)


@pytest.mark.slow
def test_a_change_between_two_starts_is_noted_only_where_it_changes_rounding(config_of, tmp_path, quiet, stopped_at):
    splits = {"num_folds": 2}
    validation(config_of, tmp_path / "run", quiet, splits=splits).train(fold=2)
    with stopped_at(3):
        validation(config_of, tmp_path / "run", quiet, splits=splits).train(fold=1)
    summary = validation(config_of, tmp_path / "run", quiet, splits=splits, data=STANDARD).train()
    assert not any("augment_on_device" in note for note in summary.notes)
    result = tmp_path / "run" / "fold_1" / "result.json"
    assert '"data.augment_on_device": null' in result.read_text(encoding="utf-8")
