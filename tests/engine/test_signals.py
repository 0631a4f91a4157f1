"""Real processes, really killed: SIGKILL after the second epoch, other signals within one; each goes on as if nothing had been."""

import hashlib
import json
import os
import pty
import select
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
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
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
    assert "resumed after epoch" in err
    for name in COMPARED:
        assert _digest(tmp_path / "run" / name) == _digest(reference / name), name
    assert out.split("results:")[0] == table.split("results:")[0]


@pytest.fixture
def with_workers(class_folders, tmp_path):
    """A run of one fold that reads in two processes, each in its first epoch at least; the run is told to end at the end of the test."""
    sections = {"train": {"epochs": 500}, "splits": {"val_fraction": 0.0}, "data": {"batch_size": 2, "num_workers": 2}}
    (tmp_path / "tiny.py").write_text(Config.from_dict(tiny_config(class_folders, **sections)).dump(), encoding="utf-8")
    process = start(tmp_path / "tiny.py", tmp_path / "run")
    while epochs_done(tmp_path / "run") < 1 and process.poll() is None:
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_with_workers_ends_with_one_line(with_workers, number):
    with_workers.send_signal(number)
    _, err = with_workers.communicate(timeout=200)
    assert with_workers.returncode == 128 + number, err
    assert (
        err.splitlines()[-1].startswith(f"stopped by signal {int(number)}; ") and "Exception ignored" not in err and "Traceback" not in err
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker processes in /proc")
def test_a_killed_worker_ends_the_run_with_one_line(with_workers):
    children = Path(f"/proc/{with_workers.pid}/task/{with_workers.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = with_workers.communicate(timeout=200)
    assert with_workers.returncode == 2, err
    assert err.splitlines()[-1].startswith(
        "error: data.num_workers: one of 2 worker processes for the training cases was killed by signal 9"
    )
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "forkpty"), reason="needs a terminal")
def test_a_terminal_that_closes_leaves_a_checkpoint(class_folders, tmp_path):
    """SIGHUP comes with it, and whatever is written afterwards fails."""
    sections = {"train": {"epochs": 500}, "hooks": ["ConsoleHook", "HistoryHook"]}
    (tmp_path / "tiny.py").write_text(Config.from_dict(tiny_config(class_folders, **sections)).dump(), encoding="utf-8")
    train = str(Path(__file__).resolve().parents[2] / "tools" / "train.py")
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, train, str(tmp_path / "tiny.py"), "--work-dir", str(tmp_path / "run")])
    end = time.monotonic() + 200
    while epochs_done(tmp_path / "run") < 1 and time.monotonic() < end:
        if select.select([terminal], [], [], 0.02)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 129 and (tmp_path / "run" / "fold_1" / "checkpoint_latest.pth").exists()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
