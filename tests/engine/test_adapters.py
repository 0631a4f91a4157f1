"""A run with low-rank adapters in both towers: stopped and continued bit for bit, and its checkpoint is enough to use the model."""

import numpy as np
import pytest
import torch

import clipzoo
from clipzoo.config import Config
from clipzoo.engine import build, checkpoint, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.loop import Interrupted
from clipzoo.models.lora import is_adapter
from clipzoo.records.tables import read_table
from clipzoo.runtime.seeds import derived_seed

LORA = {"rank": 2, "dropout": 0.1}
TOWERS = {
    "image_encoder": {
        "type": "CLIPVision", "image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "output_dim": 16, "lora": LORA,
    },
    "text_encoder": {"type": "CLIPText", "width": 16, "layers": 2, "heads": 2, "output_dim": 16, "lora": LORA},
}  # fmt: skip


@pytest.mark.slow
def test_adapters_are_trained_kept_and_used(config_of, class_folders, tmp_path, quiet, monkeypatch):
    config = config_of(model={**TOWERS, "embed_dim": 16}, optimizer={"layer_decay": 0.9, "lr": 0.01})

    def step_then_signal(run, group):
        original(run, group)
        if run.state.step == 1:
            run.interrupt.signal = 15

    original = loop.step
    CrossValidation(config, tmp_path / "whole", console=quiet).train(fold=1)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "step", step_then_signal)
        CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv"):
        whole, stopped = ((tmp_path / run / "fold_1" / name).read_bytes() for run in ("whole", "stopped"))
        assert whole == stopped, name

    path = tmp_path / "whole" / "fold_1" / "checkpoint_latest.pth"
    state = checkpoint.read(path)["model"]
    torch.manual_seed(derived_seed(42, "fold_1"))
    first = build.model(Config.from_dict(config.plain(), "x"), torch.device("cpu"), num_classes=3).state_dict()
    moved = {name for name, value in state.items() if not torch.equal(first[name], value)}
    assert {name for name in state if is_adapter(name)} | {"logit_scale"} == moved

    loaded = clipzoo.load(tmp_path / "whole" / "fold_1")
    table = read_table(tmp_path / "whole" / "fold_1" / "predictions.csv")
    images = [class_folders / case for case in table.case_ids]
    np.testing.assert_allclose(loaded.classify(images).probabilities, table.probabilities, atol=1e-5)
