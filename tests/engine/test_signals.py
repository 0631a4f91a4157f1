"""Real processes, really killed: SIGKILL after the second epoch, SIGTERM and Ctrl-C within one; each goes on as if nothing had been."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import tiny_config

from clipzoo.config import Config

COMPARED = (
    *(f"fold_1/{name}" for name in ("checkpoint_best.pth", "checkpoint_latest.pth", "history.json", "metrics.csv")),
    "oof_predictions.csv",
)
HOOKS = [{"type": "HistoryHook"}, {"type": "MetricsCSVHook", "every_steps": 1}, {"type": "ResultsHook"}]


def start(config: Path, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    train = str(Path(__file__).resolve().parents[2] / "tools" / "train.py")
    command = [sys.executable, train, str(config), "--work-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def epochs_done(folder: Path) -> int:
    path = folder / "fold_1" / "history.json"
    return len(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory, class_folders):
    """A config of two folds whose epochs take long enough to be hit, and its uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    config = folder / "tiny.py"
    sections = {"train": {"epochs": 5}, "splits": {"num_folds": 2}, "data": {"batch_size": 2}, "hooks": HOOKS}
    config.write_text(Config.from_dict(tiny_config(class_folders, **sections)).dump(), encoding="utf-8")
    done = start(config, folder / "run")
    out, err = done.communicate(timeout=300)
    assert done.returncode == 0, err
    return config, folder / "run", out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path, number, status):
    config, reference, table = whole
    process = start(config, tmp_path / "run")
    while epochs_done(tmp_path / "run") < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    assert "Traceback" not in err and not (tmp_path / "run" / "fold_1" / "result.json").exists()
    assert not [p for p in (tmp_path / "run").rglob("*.tmp") if number != signal.SIGKILL]
    again = start(config, tmp_path / "run")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "goes on after epoch" in err
    for name in COMPARED:
        assert _digest(tmp_path / "run" / name) == _digest(reference / name), name
    assert out.split("results:")[0] == table.split("results:")[0]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
