"""The benchmarks run, open_clip's own trainer included, and print what their README promises."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_class_captions_prints_the_three_rows(repo, tmp_path):
    script = repo / "benchmarks" / "class_captions.py"
    done = subprocess.run(
        [sys.executable, str(script), "--smoke"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    header, setting, _, *table = done.stdout.splitlines()
    assert "torch" in header and "open_clip_torch" in header and "resnet18" in setting
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[0] for row in rows] == ["clipzoo", "open_clip_train", "image tower alone"]
    assert all(row[1] in ("fp32", "bf16") and float(row[2]) > 0 for row in rows) and float(rows[1][5]) == 1
    assert os.listdir(tmp_path) == []  # all of it went to a temporary folder


def test_class_captions_refuses_too_few_images(repo, class_folders):
    command = [sys.executable, str(repo / "benchmarks" / "class_captions.py"), "--data", str(class_folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode != 0 and "36 images are too few for 128" in done.stderr


@pytest.mark.slow
def test_retrieval_prints_the_three_rows_and_the_recalls_agree(repo, tmp_path):
    script = repo / "benchmarks" / "retrieval.py"
    done = subprocess.run(
        [sys.executable, str(script), "--smoke"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    header, setting, _, *table = done.stdout.splitlines()
    assert "open_clip_torch" in header and setting.startswith("300 images x 300 captions")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[0] for row in rows] == ["clipzoo", "open_clip_train", "products alone"]
    assert float(rows[1][3]) == 1 and rows[0][5:] == rows[1][5:] and 0 < float(rows[0][5]) < 1
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_frozen_tower_prints_the_four_rows_and_the_cache_changes_no_number(repo, tmp_path):
    script = repo / "benchmarks" / "frozen_tower.py"
    done = subprocess.run(
        [sys.executable, str(script), "--smoke"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    header, setting, _, *table = done.stdout.splitlines()
    assert "torchvision" in header and setting.startswith("resnet18, 48 images")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[0] for row in rows] == ["clipzoo", "clipzoo, features known", "clipzoo without cache", "plain PyTorch"]
    assert float(rows[3][3]) == 1 and rows[0][4] == rows[1][4] == rows[2][4]
    assert os.listdir(tmp_path) == []
