"""The benchmarks run, open_clip's own trainer included, and print what their README promises."""

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
def test_class_captions_prints_the_three_rows(smoke):
    header, setting, rows = smoke("class_captions")
    assert "torch" in header and "open_clip_torch" in header and "resnet18" in setting
    assert [row[0] for row in rows] == ["clipzoo", "open_clip_train", "image tower alone"]
    assert all(row[1] in ("fp32", "bf16") and float(row[2]) > 0 for row in rows) and float(rows[1][5]) == 1


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
def test_frozen_tower_prints_the_four_rows_and_the_cache_changes_no_number(smoke):
    header, setting, rows = smoke("frozen_tower")
    assert "torchvision" in header and setting.startswith("resnet18, 48 images")
    assert [row[0] for row in rows] == ["clipzoo", "clipzoo, features known", "clipzoo without cache", "plain PyTorch"]
    assert float(rows[3][3]) == 1 and rows[0][4] == rows[1][4] == rows[2][4]


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
