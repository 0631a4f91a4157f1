"""tools/baselines.py, and what tools/train.py and tools/summary.py say of it."""

from __future__ import annotations

import shutil

import pytest
from tiny import write_pairs

from clipzoo.scoring.runs import RunComparison


@pytest.mark.slow
def test_baselines_then_training_then_summary(command, write_config):
    config = write_config(train={"epochs": 1})
    done = command("baselines", config, "--work-dir", "run", "--only", "majority", "knn", "--device", "cpu", "--batch-size", 9)
    assert done.status == 0 and done.out.startswith("baselines on the same folds") and done.out.endswith("results: run/baselines\n")
    assert "images encoded for 36 cases" in done.err and "baselines in " in done.err and "trained model" not in done.out
    trained = command("train", config, "--work-dir", "run")
    assert trained.status == 0 and trained.out.endswith("results: run\n")
    assert trained.out.count("the trained model") == 3 and trained.out.count("(Holm, 2 comparisons)") == 2
    summary = command("summary", "run")
    assert summary.status == 0 and trained.out.startswith(summary.out.rstrip("\n"))
    again = command("baselines", config, "--work-dir", "run")
    assert again.status == 0 and "knn: already done, skipped" in again.err and "linear" in again.out and "trained model" in again.out


def test_the_summary_shows_the_comparison_that_is_stored(command, finished, tmp_path):
    """And computes it where there is none, without writing."""
    folder = shutil.copytree(finished, tmp_path / "run")
    done = command("baselines", folder / "config.py", "--work-dir", folder, "--only", "majority")
    stored = folder / "baselines/comparison.json"
    (verdict,) = RunComparison.read(stored.parent).verdicts()
    assert done.status == 0 and verdict in done.out and "always predicting the most frequent class" in verdict
    assert verdict in command("summary", folder).out
    stored.unlink()
    assert verdict in command("summary", folder).out and not stored.exists()


def test_what_is_wrong_is_one_line(command, write_config, tmp_path):
    pairs = write_config(data={"dataset": {"type": "PairsDataset", "path": str(write_pairs(tmp_path / "pairs"))}})
    for arguments, said in (
        ((pairs,), "Baselines require class labels"),
        ((write_config(name="b.py"), "--only", "lin"), "Did you mean 'linear'?"),
        ((write_config(name="b.py"), "--templates", "a photo"), "--templates: 'a photo' does not contain {class_name}"),
        ((write_config(name="b.py"), "--image-encoder", "resnet81"), "resnet81"),
    ):
        done = command("baselines", *arguments, "--work-dir", "run")
        assert done.status == 2 and done.err.startswith("error: ") and said in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "here" / "run").exists()
