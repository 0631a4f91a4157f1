"""The benchmarks run, open_clip's own trainer included, and print what their README promises."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def smoke(repo, tmp_path):
    """``header, setting, rows = smoke(name)``: what a benchmark prints when it only shows that it runs; it leaves nothing behind."""

    def run(name: str) -> tuple[str, str, list[list[str]]]:
        command = [sys.executable, str(repo / "benchmarks" / f"{name}.py"), "--smoke"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert os.listdir(tmp_path) == []  # all of it went to a temporary folder
        header, setting, _, *table = done.stdout.splitlines()
        return header, setting, [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]

    return run


@pytest.mark.slow
def test_class_captions_prints_the_four_rows(smoke):
    header, setting, rows = smoke("class_captions")
    assert "torch" in header and "open_clip_torch" in header and "resnet18" in setting
    assert [row[0] for row in rows] == ["clipzoo", "clipzoo, text frozen", "open_clip_train", "image tower alone"]
    assert all(row[1] in ("fp32", "bf16") and float(row[2]) > 0 for row in rows)
    assert float(rows[2][5]) == float(rows[3][6]) == 1


@pytest.mark.slow
def test_dual_encoder_prints_the_three_rows(smoke):
    header, setting, rows = smoke("dual_encoder")
    assert "transformers" in header and setting.startswith("ViT-Ti/16 x BERT")
    assert [row[0] for row in rows] == ["clipzoo", "HF Trainer", "image tower alone"]
    assert float(rows[1][5]) == float(rows[2][6]) == 1 and all(float(row[2]) > 0 for row in rows)


@pytest.mark.slow
def test_five_folds_prints_both_rows(smoke):
    header, setting, rows = smoke("five_folds")
    assert "scikit-learn" in header and setting.endswith("48 images of 3 classes, 32 px, 2 folds x 1 epochs, 1 rounds")
    assert [row[0] for row in rows] == ["clipzoo", "plain PyTorch"] and float(rows[1][3]) == 1


@pytest.mark.slow
def test_gpu_prints_a_row_on_the_processor(smoke):
    header, setting, rows = smoke("gpu")
    assert header.startswith("CPU") and "32 px" in setting and rows[0][:3] == ["test_vit", "4", "fp32"]
    assert float(rows[0][3]) > 0 and 0 < float(rows[0][4]) <= 100 and rows[0][7] == "0"


@pytest.mark.slow
def test_overhead_accounts_for_all_of_the_time(smoke):
    header, setting, rows = smoke("overhead")
    assert "torch" in header and setting.startswith("48 images, 32 px, 2 folds x 2 epochs")
    seconds = {row[0]: float(row[1]) for row in rows}
    causes = {"steps", "reading batches", "evaluation", "checkpoints", "hooks", "pictures", "start", "report", "building runs"}
    assert causes < set(seconds) and abs(seconds.pop("other")) < 0.1
    assert sum(v for k, v in seconds.items() if k not in ("all but steps", "wall time")) == pytest.approx(seconds["wall time"], abs=0.2)


def test_class_captions_refuses_too_few_images(repo, class_folders):
    command = [sys.executable, str(repo / "benchmarks" / "class_captions.py"), "--data", str(class_folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode != 0 and "36 images are too few for 128" in done.stderr


@pytest.mark.slow
def test_retrieval_prints_the_three_rows_and_the_recalls_agree(smoke):
    header, setting, rows = smoke("retrieval")
    assert "open_clip_torch" in header and setting.startswith("300 images x 300 captions")
    assert [row[0] for row in rows] == ["clipzoo", "open_clip_train", "products alone"]
    assert float(rows[1][3]) == 1 and rows[0][5:] == rows[1][5:] and 0 < float(rows[0][5]) < 1


@pytest.mark.slow
def test_input_pipeline_prints_every_loader_for_every_kind_of_file(smoke):
    header, setting, rows = smoke("input_pipeline")
    assert "torchvision" in header and "timm" in header and setting.startswith("8 images of 80 x 80 to 32 px")
    ours = ["clipzoo without cache", "clipzoo, first epoch", "clipzoo, later epochs", "clipzoo, later epochs, one by one"]
    names = ["torchvision", "timm", *ours, "evaluation without cache", "evaluation, later passes"]
    assert [row[:2] for row in rows] == [[kind, name] for kind in ("jpeg", "png", "png16") for name in names]
    assert all(float(row[2]) > 0 for row in rows) and all(float(row[4]) == 1 for row in rows if row[1] == "torchvision")


@pytest.mark.slow
def test_frozen_tower_prints_the_four_rows_and_the_cache_changes_no_number(smoke):
    header, setting, rows = smoke("frozen_tower")
    assert "torchvision" in header and setting.startswith("resnet18, 48 images")
    assert [row[0] for row in rows] == ["clipzoo", "clipzoo, features known", "clipzoo without cache", "plain PyTorch"]
    assert float(rows[3][3]) == 1 and rows[0][4] == rows[1][4] == rows[2][4]


@pytest.mark.slow
def test_folds_side_by_side_prints_three_rows_and_equal_threads_give_equal_tables(smoke):
    header, setting, rows = smoke("folds_side_by_side")
    assert "torch" in header and setting == "r18_bertzh_digits_5fold, 1 epoch, 1 round"
    assert [row[0].split()[0] for row in rows] == ["in", "in", "--jobs"] and all(float(row[2]) > 0 for row in rows)
    assert rows[1][1] == rows[2][1] and rows[1][5] == rows[2][5]


@pytest.mark.slow
def test_pairs_at_scale_prints_its_three_tables(smoke):
    header, setting, rows = smoke("pairs_at_scale")
    assert "tokenizers" in header and json.loads(setting)["pairs"] == 200
    names = [row[0] for row in rows if not set(row[0]) <= set("-")]
    assert names[:6] == ["Latin captions", "Chinese", "mixed", "accented Latin", "start", "first"]
    assert names[6:] == ["second", "images", "shards", "files"]
    assert all(float(cell.replace(",", "")) >= 0 for row in rows if row[0] in ("Chinese", "second", "shards") for cell in row[1:])


@pytest.mark.slow
def test_explanations_prints_the_rows_of_both_methods(smoke):
    header, setting, rows = smoke("explanations")
    assert "timm" in header and setting.startswith("40 scenes to train on, 4 scenes of two shapes to explain")
    ways = ["the sentence", "the sentence minus the other one", "the other sentence", "random weights", "last block random"]
    ways += ["always the centre", "random map"]
    assert [row[:2] for row in rows] == [[method, way] for method in ("grad_cam", "relevance") for way in ways]
    for row in rows:
        value, low, high = (float(word.strip("[],")) for word in row[3].split())
        assert 0 <= low <= value <= high <= 1
        assert bool(row[5]) == ("random" in row[1] and "map" not in row[1]) and bool(row[6]) == bool(row[7]) == (not row[5])
    named, other = rows[0], rows[2]
    assert named[3:5] == other[4:2:-1]  # both sentences of a scene are asked for, so their rows mirror each other


@pytest.mark.slow
def test_coverage_prints_both_tables(repo, tmp_path):
    command = [sys.executable, str(repo / "benchmarks" / "coverage.py"), "--smoke", "--out", "found.md"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.md").read_text(encoding="utf-8").splitlines() == done.stdout.splitlines()
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("| 60")]
    assert [row[5] for row in rows[:6]] == ["clipzoo", "patients", "images"] * 2
    assert all(0 <= float(cell) <= 100 for row in rows[:6] for cell in row[6:])
    assert [row[4] for row in rows[6:]] == ["swapping patients", "interval excludes 0", "McNemar over images", "t over images"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [("random_labels", ["--seeds", "2"], ["linear", "knn", "prototype"]), ("label_errors", ["--smoke"], ["imbalanced digits"])],
)
def test_quick_benchmarks_print_their_table(repo, tmp_path, name, options, rows):
    command = [sys.executable, str(repo / "benchmarks" / f"{name}.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"| {row} |" in done.stdout for row in rows), done.stdout


@pytest.fixture
def few_val_cases(repo, monkeypatch):
    """The module, whose rules need no training."""
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    import few_val_cases

    return few_val_cases


def test_rules_of_few_val_cases(few_val_cases):
    scores, losses = [0.0, 0.5, 0.25, 0.5, 0.5, 0.0], [3.0, 2.0, 0.5, 1.0, 1.5, 9.0]
    curve = [{"val_score": score, "val_loss": loss} for score, loss in zip(scores, losses, strict=True)]
    assert {name: rule(curve) + 1 for name, rule in few_val_cases.RULES.items()} == {
        "best, ties to the first": 2,
        "best, ties by log loss": 4,
        "best, ties to the last": 5,
        "lowest log loss": 3,
        "best of means over 3": 5,  # as good as epoch 4, and with the lower mean log loss
        "best of means over 5": 5,  # likewise, against epoch 6
        "last epoch": 6,
    }


def test_losses_of_few_val_cases_are_against_the_best_epoch_of_the_usual_training(few_val_cases):
    def curve(*test_scores: float) -> list[dict]:
        return [{"val_score": i, "val_loss": 1.0, "test_score": score, "test_loss": 1.0} for i, score in enumerate(test_scores)]

    names = ("few", "two", "inner_1", "inner_2", "all")
    curves = dict(zip(names, (curve(0.6, 0.5), curve(0.4, 0.7), curve(0.0, 0.0), curve(0.0, 0.0), curve(0.5, 0.9)), strict=True))
    found = {name: round(lost, 12) for name, lost, _, _ in few_val_cases.losses({"curves": curves})}
    assert found["val as it is: last epoch"] == 0.1 and found["val with 2 of a class: last epoch"] == -0.1
    assert found["3 inner folds"] == found["no val part: last epoch"] == -0.3


@pytest.mark.slow
def test_few_val_cases_prints_both_tables_and_goes_on_from_its_curves(repo, tmp_path):
    def run(*options: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(repo / "benchmarks" / "few_val_cases.py"), "--curves", "curves.json", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)

    first = run("--smoke")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("| 3 inner folds |") == 2 and "2/2 subsets" in first.stderr
    again = run("--smoke")
    assert again.stdout == first.stdout and "subsets" not in again.stderr
    other = run("--smoke", "--image-size", "48")
    assert other.returncode != 0 and "of another setting" in other.stderr
