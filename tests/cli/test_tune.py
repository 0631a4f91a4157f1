"""The command ``tune``: what it prints, and how it ends."""

from __future__ import annotations

import sys

import pytest

from clipzoo.engine import loop
from clipzoo.hooks import Hook
from clipzoo.records.results import Summary

MODEL = {"type": "ImageClassifier", "image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}}


@pytest.fixture
def config(write_config, tmp_path):
    """Two folds of one epoch of a small classifier."""
    path = write_config(splits={"num_folds": 2, "val_fraction": 0.34}, train={"epochs": 1})
    text = path.read_text(encoding="utf-8").partition("\n\ndata = ")
    path.write_text(f"model = {MODEL!r}\n\ndata = {text[2]}", encoding="utf-8")
    return path


@pytest.mark.slow
def test_trials_then_the_best(command, config, monkeypatch):
    arguments = ["tune", config, "--trials", 2, "--space", "optimizer.lr=1e-4..1e-2:log", "train.clip_grad=None,1.0", "--work-dir", "w"]
    ended = command(*arguments, "--only-trials")
    assert ended.status == 0 and "trial 2 of 2: optimizer.lr=" in ended.err and "trial 1: val balanced_accuracy 0." in ended.err
    assert ended.out.splitlines()[0].split() == ["trial", "state", "folds", "val", "balanced_accuracy", "optimizer.lr", "train.clip_grad"]
    assert "the best of 2, and therefore optimistic; no test part was scored" in ended.out and ": test " not in ended.err

    def step_then_signal(run, group, original=loop.step):
        original(run, group)
        run.interrupt.signal = 15

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", step_then_signal)
        ended = command(*arguments)
    assert ended.status == 143 and ended.err.endswith("stopped by signal 15; the same command continues from there\n")
    called = []
    with monkeypatch.context() as patch:
        patch.setattr(Hook, "after_cross_validation", lambda self, summary, folder, log: called.append((folder.name, summary.name)))
        ended = command(*arguments)
    assert ended.status == 0 and ended.out.endswith("\nresults: w/best\n") and "trial 1:" not in ended.err
    assert called and set(called) == {("best", Summary.read("w/best").name)}, "trackers get the summary, too"
    assert "note: hyper-parameters chosen among 2 trials by balanced_accuracy, on val parts only: optimizer.lr=" in ended.out
    assert any(note.startswith("hyper-parameters chosen among 2 trials") for note in Summary.read("w/best").notes)
    assert "hyper-parameters chosen among 2 trials" in command("summary", "w/best").out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "lr=1e-4..1e-2"], "error: --space lr=0.0001..0.01: unknown section 'lr'. Did you mean 'optimizer.lr'?\n"),
        (["--space", "optimizer.lr=1..1"], "error: --space optimizer.lr=1..1: empty range, 1 is not below 1\n"),
        (["--space", "optimizer.lr=0..1"], "error: --space optimizer.lr=0.0..1.0: optimizer.lr: 0.0 is not a number above 0\n"),
        (["--space", "optimizer.lr=1..2", "--trials", "0"], "error: --trials: 0 is not 1 or more\n"),
        (
            ["--space", "optimizer.lr=1..2", "--cfg-options", "splits.val_fraction=0"],
            "error: splits.val_fraction: fold_1, fold_2 has no val ",
        ),
        (["--space", "optimizer.lr=1..2", "--cfg-options", "splits.select_on_test=True"], "error: splits.select_on_test: must be False"),
        ([], "error: the following arguments are required: --space. See clipzoo tune --help\n"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(command, config, tmp_path, options, message):
    ended = command("tune", config, "--work-dir", "w", *options)
    assert ended.status == 2 and ended.err.startswith(message) and ended.err.count("\n") == 1
    assert not list((tmp_path / "here").iterdir())


def test_a_missing_package_is_one_line(command, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    ended = command("tune", config, "--space", "optimizer.lr=1e-4..1e-2")
    assert (ended.status, ended.err) == (2, "error: tune: requires the package optuna. Run pip install optuna\n")
