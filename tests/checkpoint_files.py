"""Checkpoints without training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from clipzoo.config import Config
from clipzoo.engine import build, checkpoint
from clipzoo.engine.state import TrainState
from clipzoo.records.provenance import Provenance


def saved(path: Path, config: Config, **changes: object):
    """A checkpoint of a model with its first weights, as the engine saves it, and the model."""
    data = build.dataset(config)
    net = build.model(config, torch.device("cpu"), num_classes=len(data.classes))
    run = SimpleNamespace(dataset=data, model=net, scored=net, config=config.plain(), precision="fp32")
    run.split, run.state = SimpleNamespace(name="fold_1"), TrainState()
    run.provenance = Provenance.of(config.plain(), "fold_1", "")
    checkpoint.write(path, {**checkpoint.model_content(run), "kind": "best", **changes})
    return path, net
