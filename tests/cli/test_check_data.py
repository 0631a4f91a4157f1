"""``check_data``: exit status, files, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import write_class_folders


@pytest.fixture
def images(tmp_path) -> Path:
    """Class folders to damage: two classes of noise, without any finding but that they are small."""
    return write_class_folders(tmp_path / "data" / "images", ("甲", "乙"), per_class=9, size=40)


def test_a_clean_set_is_fine(command, write_config, images, snapshot):
    before = snapshot(images.parent)
    ended = command("check_data", write_config(images), "--workers", 2)
    out = Path("work_dirs/tiny/data_check")
    assert ended.status == 0, ended.out
    assert "甲" in ended.out and str(out / "data_report.html") in ended.out and "errors 0" in ended.out
    assert {path.name for path in out.iterdir()} == {"data_report.html", "data_report.json"} and snapshot(images.parent) == before


def test_errors_warnings_and_strict(command, write_config, images):
    config = write_config(images)
    Image.new("CMYK", (40, 40), (200, 3, 9, 40)).effect_spread(9).save(images / "甲" / "cmyk.jpg")
    assert command("check_data", config).status == 0
    assert command("check_data", config, "--strict").status == 1
    (images / "乙" / "empty.png").write_bytes(b"")
    ended = command("check_data", config, "--lang", "zh")
    assert ended.status == 2 and "乙/empty.png" in ended.out and "无法读取" in ended.out and ended.err == ""
    content = json.loads(Path("work_dirs/tiny/data_check/data_report.json").read_text(encoding="utf-8"))
    assert {"unreadable", "cmyk", "refused"} <= {finding["check"] for finding in content["findings"]}


def test_a_class_too_small_for_the_folds(command, write_config, images):
    for path in sorted((images / "乙").iterdir())[2:]:
        path.unlink()
    ended = command("check_data", write_config(images))
    assert ended.status == 2 and "class '乙' (2 groups) is missing from the test part of fold_" in ended.out


@pytest.mark.parametrize("where", [".", "report", "甲", "甲/deeper/report"])
def test_no_report_inside_the_data(command, write_config, images, where):
    ended = command("check_data", write_config(images), "--out", images / where)
    assert ended.status == 2 and "is inside the data" in ended.err and not list(images.rglob("data_report*"))


def test_no_report_inside_data_that_cannot_be_read(command, write_config, images):
    (images / "empty class").mkdir()
    ended = command("check_data", write_config(images), "--out", images / "report")
    assert ended.status == 2 and "is inside the data" in ended.err and not (images / "report").exists()
    ended = command("check_data", write_config(images))
    assert ended.status == 2 and "no images in the class folder" in ended.out


def test_a_table_of_images_in_the_current_folder(command, tmp_path):
    """The report is in ``work_dirs`` below it, where no table looks for images."""
    (tmp_path / "my.py").write_text(
        "data = dict(dataset=dict(type='TableDataset', path='labels.csv'))\nsplits = dict(type='StratifiedGroupKFold', num_folds=2)\n"
    )
    rng, rows = np.random.default_rng(0), ["path,label"]
    for number in range(8):
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]}")
    Path("labels.csv").write_text("\n".join(rows))
    ended = command("check_data", tmp_path / "my.py")
    assert ended.status == 0 and Path("work_dirs/my/data_check/data_report.html").is_file(), ended.err


def test_a_folder_that_cannot_be_written(command, write_config, images, tmp_path):
    (tmp_path / "file").write_text("x")
    ended = command("check_data", write_config(images), "--out", tmp_path / "file" / "out")
    assert ended.status == 2 and ended.err.count("\n") == 1


def test_a_wrong_config_is_one_line(command, write_config, images):
    ended = command("check_data", write_config(images), "--cfg-options", "data.dataset.rot=x")
    assert ended.status == 2 and "rot" in ended.err


def test_hostile_names_on_the_terminal(command, write_config, images):
    name = "x\x1b[31m\u202e.png"
    shutil.copy(images / "甲" / "000.png", images / "乙" / name)
    ended = command("check_data", write_config(images))
    assert ended.status == 2 and "\x1b" not in ended.out and "\u202e" not in ended.out and "x\\x1b[31m\\u202e.png" in ended.out
