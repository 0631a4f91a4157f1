"""tools/plain_train.py trains as a library, on the parts that tools/train.py uses."""

import subprocess
import sys


def test_plain_train_runs(class_folders, repo):
    command = [sys.executable, str(repo / "tools" / "plain_train.py"), str(class_folders), "--epochs", "1", "--folds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "balanced_accuracy" in done.stdout and done.stdout.count("epoch 1/1") == 3
