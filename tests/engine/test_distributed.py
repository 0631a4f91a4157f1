"""Two gloo processes, started by tools/dist_train.sh as a user would."""

import json
import os
import subprocess
import sys

import pytest
import torch

from clipzoo.config import Config
from clipzoo.engine import checkpoint
from clipzoo.results import Summary
from clipzoo.tables import PredictionTable


@pytest.mark.slow
def test_two_processes_train_the_folds_and_agree(class_folders, tmp_path, repo):
    from tiny import tiny_config

    config = tmp_path / "tiny.py"
    config.write_text(Config.from_dict(tiny_config(class_folders, data={"batch_size": 4}, train={"epochs": 5})).dump(), encoding="utf-8")
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(repo / "tools" / "dist_train.sh"), str(config), "2", "--work-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    table = PredictionTable.read(tmp_path / "run" / "oof_predictions.csv")
    assert len(table.case_ids) == 36 and 0 <= Summary.read(tmp_path / "run").pooled["accuracy"] <= 1
    content = checkpoint.read(tmp_path / "run" / "fold_1" / "checkpoint_latest.pth")
    assert len(content["generators"]) == 2 and all(torch.isfinite(v).all() for v in content["model"].values())
    history = json.loads((tmp_path / "run" / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert history[-1]["step"] == 5 * 2 and history[-1]["loss"] < history[0]["loss"]
    assert done.stderr.count("fold_2: test accuracy") == 1, "only the main process speaks"
