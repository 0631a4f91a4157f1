"""tools/plain_train.py trains as a library, on the parts that tools/train.py uses."""

import runpy
import sys

import pytest


@pytest.mark.slow
def test_plain_train_runs(class_folders, repo, monkeypatch, capsys):
    script = str(repo / "tools" / "plain_train.py")
    monkeypatch.setattr(sys, "argv", [script, str(class_folders), "--epochs", "1", "--folds", "3", "--image-size", "32"])
    runpy.run_path(script, run_name="__main__")
    printed = capsys.readouterr().out
    assert "balanced_accuracy" in printed and printed.count("epoch 1/1") == 3
