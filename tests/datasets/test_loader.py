"""What makes worker processes possible: parts that can be sent to them, and commands that may be imported again by them."""

import ast
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from clipzoo.config import Config
from clipzoo.engine import build
from clipzoo.engine.runner import Runner
from clipzoo.folds import Split


def test_everything_that_workers_get_can_be_sent_to_them(config_of, tmp_path, quiet):
    """macOS, Windows and Python 3.14 start workers as new processes, to which dataset, transform and collate are pickled."""
    config = config_of(data={"augmentation": "standard"})
    data = build.dataset(config)
    ids = tuple(case.id for case in data.cases)
    run = Runner(config, data, Split("fold_1", ids[2:], (), ids[:2]), tmp_path, console=quiet).run
    for loader in (run.train_loader, run.eval_loaders["test"]):
        reader, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
        draws = next(iter(loader.batch_sampler))
        sent, own = collate([reader[draw] for draw in draws]), loader.collate_fn([loader.dataset[draw] for draw in draws])
        assert (sent.images == own.images).all()


def test_commands_may_be_imported_again_by_a_worker(repo):
    """A worker started as a new process imports the main script: whatever it calls outside ``if __name__ == …`` would run again."""
    for path in (repo / "tools").glob("*.py"):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        assert not any(isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) for node in statements), path


@pytest.mark.slow
def test_workers_started_as_new_processes_train(class_folders, tmp_path, repo):
    from tiny import tiny_config

    config = tmp_path / "tiny.py"
    text = Config.from_dict(tiny_config(class_folders, data={"num_workers": 1}, train={"epochs": 1})).dump()
    config.write_text(f"import multiprocessing as _m\n_m.set_start_method('spawn', force=True)\n{text}", encoding="utf-8")
    command = [sys.executable, str(repo / "tools" / "train.py"), str(config), "--fold", "1", "--work-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_leaves_a_checkpoint(class_folders, tmp_path, repo):
    from tiny import tiny_config

    config, history = tmp_path / "tiny.py", tmp_path / "run" / "fold_1" / "history.json"
    sections = {"data": {"num_workers": 2, "batch_size": 2}, "train": {"epochs": 500}}
    config.write_text(Config.from_dict(tiny_config(class_folders, **sections)).dump(), encoding="utf-8")
    command = [sys.executable, str(repo / "tools" / "train.py"), str(config), "--fold", "1", "--work-dir", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    while not history.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143 and "the checkpoint is written" in err, err
