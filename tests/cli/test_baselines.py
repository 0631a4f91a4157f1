"""tools/baselines.py, and what tools/train.py and tools/summary.py say of it."""

from __future__ import annotations

import shutil

from tiny import write_pairs

from clipzoo.records.json_records import read_plain, write_record


def test_baselines_then_training_then_summary(command, write_config):
    config = write_config(train={"epochs": 1})
    done = command("baselines", config, "--work-dir", "run", "--only", "majority", "knn", "--device", "cpu", "--batch-size", 9)
    assert done.status == 0 and done.out.startswith("baselines on the same folds") and done.out.endswith("results: run/baselines\n")
    assert "images encoded for 36 cases" in done.err and "baselines in " in done.err and "trained model" not in done.out
    trained = command("train", config, "--work-dir", "run")
    assert trained.status == 0 and trained.out.endswith("results: run\n")
    assert "trained model" in trained.out and "balanced_accuracy 0." in trained.out.rpartition("trained model")[2]
    summary = command("summary", "run")
    assert summary.status == 0 and trained.out.startswith(summary.out.rstrip("\n"))
    again = command("baselines", config, "--work-dir", "run")
    assert again.status == 0 and "knn: already done, skipped" in again.err and "linear" in again.out and "trained model" in again.out


def test_a_lost_comparison_is_in_the_summary(command, finished, tmp_path, class_folders, write_config):
    folder = shutil.copytree(finished, tmp_path / "run")
    config = folder / "config.py"
    assert command("baselines", config, "--work-dir", folder, "--only", "majority").status == 0
    path = folder / "baselines/majority/cv_summary.json"
    content = read_plain(path, "")
    for value, said in ((1.5, "is better than the trained model: balanced_accuracy 1.5000 > "), (-1.0, "better than every baseline")):
        content["pooled"]["balanced_accuracy"] = value
        write_record(path, content)
        assert said in command("summary", folder).out


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
