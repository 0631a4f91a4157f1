"""A small base config, and jobs that are done."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.records.json_records import write_record
from clipzoo.records.results import Summary


@pytest.fixture
def tiny(tmp_path, class_folders) -> Path:
    """The tiny config as a file, with two folds and one epoch."""
    path = tmp_path / "tiny.py"
    config = Config.from_dict(tiny_config(class_folders, train={"epochs": 1}, splits={"num_folds": 2}))
    path.write_text(config.dump(), encoding="utf-8")
    return path


@pytest.fixture
def finished_job():
    """``finished_job(folder, config, accuracy=…)``: what a finished job leaves, without training."""

    def make(folder: Path, config: Config | None = None, *, accuracy: float, digest: str = "d", optimistic: bool = False, **more) -> None:
        folder.mkdir(parents=True)
        values = {"accuracy": accuracy, "log_loss": 1 - accuracy, **more}
        if config is not None:
            about = {"name": "x", "created": "today", "seeds": {}, "folds_digest": digest, "environment": {}}
            write_record(folder / "config.json", {**about, "config": config.plain()})
        Summary(
            name="x", folds=[], mean=values, sd={name: 0.1 for name in values}, pooled=values, per_class=[], confusion=[], classes=[],
            selection="last epoch", optimistic=optimistic, folds_digest=digest, notes=[], seconds=12.4,
        ).write(folder)  # fmt: skip

    return make
