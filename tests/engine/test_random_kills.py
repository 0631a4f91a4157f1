"""Random kills of a run, of one process, of two, and of folds side by side, with everything switched on: it ends as if nobody had."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import tiny_config

from clipzoo.config import Config

KILLS = {"1": 20, "2": 20, "--jobs": 4}
COMPARED = ("checkpoint_best.pth", "checkpoint_latest.pth", "history.json", "metrics.csv", "predictions.csv")
EVERYTHING = {
    "train": {"epochs": 6, "accumulation": 2, "grad_cache": True, "ema_decay": 0.9, "clip_grad": 0.5},
    "evaluation": {"every_steps": 2},
    "splits": {"num_folds": 2},
    "data": {"batch_size": 4, "num_workers": 1, "augmentation": "standard"},
    "hooks": ["HistoryHook", "TensorBoardHook", {"type": "MetricsCSVHook", "every_steps": 1}, "ResultsHook"],
    "runtime": {"save_every_steps": 1},
}


def start(repo: Path, config: Path, folder: Path, how: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo), "PYTHON": sys.executable}
    train = ["bash", "tools/dist_train.sh", config, how] if how == "2" else [sys.executable, "tools/train.py", config]
    jobs = ["--jobs", "2"] if how == "--jobs" else []
    with (folder.parent / "output.txt").open("ab") as output:
        command = [*map(str, train), "--work-dir", str(folder), *jobs]
        return subprocess.Popen(command, cwd=repo, stdout=output, stderr=output, env=environment)


def kill_all(folder: Path) -> None:
    """Every process of the run: torchrun gives each of its own a session."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def is_alive_until(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("how", KILLS)
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_been(repo, tmp_path, class_folders, how):
    config = tmp_path / "tiny.py"
    config.write_text(Config.from_dict(tiny_config(class_folders, **EVERYTHING)).dump(), encoding="utf-8")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    started = time.monotonic()
    whole = start(repo, config, tmp_path / "whole" / "run", how)
    assert whole.wait(600) == 0, (tmp_path / "whole" / "output.txt").read_text(encoding="utf-8")
    seconds, draw, kills = time.monotonic() - started, random.Random(how), 0
    for _ in range(10 * KILLS[how]):
        process = start(repo, config, tmp_path / "killed" / "run", how)
        if kills < KILLS[how] and is_alive_until(process, draw.uniform(0.2 * seconds, seconds)):
            kills += 1
            kill_all(tmp_path / "killed" / "run")
            process.wait(60)
            continue
        assert process.wait(600) == 0, (tmp_path / "killed" / "output.txt").read_text(encoding="utf-8")[-4000:]
        if kills >= KILLS[how]:
            break
        for fold in (1, 2):  # done before it was killed often enough: score it again
            (tmp_path / "killed" / "run" / f"fold_{fold}" / "result.json").unlink()
    assert kills == KILLS[how]
    for name in [*(f"fold_{fold}/{file}" for fold in (1, 2) for file in COMPARED), "oof_predictions.csv"]:
        ours, theirs = (hashlib.sha256((tmp_path / run / "run" / name).read_bytes()).hexdigest() for run in ("whole", "killed"))
        assert ours == theirs, name
    for fold in (1, 2):
        assert (tmp_path / "killed" / "run" / f"fold_{fold}" / "results" / "model_metrics.png").exists()
    assert not list((tmp_path / "killed").rglob(".*.tmp"))
