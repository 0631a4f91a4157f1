"""Two gloo processes, started by tools/dist_train.sh as a user would."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from clipzoo.config import Config
from clipzoo.datasets.loader import EpochBatches
from clipzoo.datasets.samplers import RandomSampler, WeightedSampler
from clipzoo.engine import checkpoint
from clipzoo.results import Summary
from clipzoo.tables import PredictionTable


@pytest.mark.parametrize("sampler", [RandomSampler(), WeightedSampler("inverse_freq"), WeightedSampler("balanced")])
@pytest.mark.parametrize("cases", [23, 24, 33])
def test_all_processes_together_hold_what_one_process_would(sampler, cases):
    """Step by step, the union over ranks equals the batch of one process with the joint batch size, with the same seeds."""
    rows, labels = np.arange(100, 100 + cases), np.arange(cases) % 3

    def batches(rank, world, size):
        made = EpochBatches(rows, labels, sampler.order, batch_size=size, seed=5, rank=rank, world_size=world)
        made.set_epoch(2)
        return list(made)

    one = batches(0, 1, 8)
    two = list(zip(batches(0, 2, 4), batches(1, 2, 4), strict=True))
    for joint, (first, second) in zip(one, two, strict=False):
        assert len(first) == len(second)
        union = sorted([*first, *second])
        assert union == sorted(joint) or (joint is one[-1] and set(union) <= set(joint))


def test_an_epoch_starts_where_it_was_left():
    batches = EpochBatches(np.arange(20), np.zeros(20), RandomSampler().order, batch_size=4, seed=0)
    whole = list(batches)
    batches.set_epoch(0, start=3)
    assert list(batches) == whole[3:] and len(batches) == 5
    batches.set_epoch(1)
    assert list(batches) != whole


@pytest.mark.parametrize(("cases", "expected"), [(1, [1]), (4, [4]), (5, [4]), (6, [4, 2]), (9, [4, 4])])
def test_a_rest_of_one_is_left_out_but_never_the_only_batch(cases, expected):
    batches = EpochBatches(np.arange(cases), np.zeros(cases), RandomSampler().order, batch_size=4, seed=0)
    assert [len(b) for b in batches] == expected and len(batches) == len(expected)


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
