"""From class folders to a table, to folds: the commands that pairs go through before they are trained on."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny import write_class_folders

from clipzoo.datasets.samples.sample_data import create_sample_dataset
from clipzoo.records.folds import Folds


@pytest.fixture
def config(tmp_path):
    """``config(path=…, splits={…})``: a config file that is enough to make folds."""

    def write(splits: dict | None = None, **dataset):
        path = tmp_path / "pairs.py"
        data = {"dataset": {"type": "PairsDataset", **{name: str(value) for name, value in dataset.items()}}}
        path.write_text(f"data = {data!r}\nsplits = {splits or {'type': 'AsGiven'}!r}\n", encoding="utf-8")
        return path

    return write


def test_a_table_and_a_val_table(command, class_folders, config, tmp_path):
    train, val = tmp_path / "csv" / "train.csv", tmp_path / "csv" / "val.csv"
    arguments = (
        "make_pairs",
        class_folders,
        "--out",
        train,
        "--template",
        "一张{class_name}的图片",
        "--val-fraction",
        0.25,
        "--val-out",
        val,
    )
    ended = command(*arguments)
    assert ended.status == 0 and ended.err == ""
    assert ended.out.splitlines() == [
        f"written: {train}: 27 images, 3 classes, 3 distinct captions",
        f"written: {val}: 9 images, 3 classes, 3 distinct captions",
    ]
    assert train.read_text(encoding="utf-8").startswith("filepath,title\n") and "一张圆的图片" in val.read_text(encoding="utf-8")
    assert command(*arguments).status == 0, "the same once more is no overwriting"

    folds = tmp_path / "folds.json"
    ended = command("make_folds", config(path=train, val_path=val), "--out", folds)
    assert ended.status == 0 and "36 images, 36 groups, 3 distinct captions" in ended.out
    assert [line.split()[-1] for line in ended.out.splitlines() if line.startswith("fold_1")] == ["27", "0", "9"]
    assert "their val part is tested instead" in ended.out and len(Folds.read(folds).splits[0].test) == 9


def test_every_option(command, class_folders, tmp_path):
    (tmp_path / "names.txt").write_text("方块\tsquare, block\n圆\tdisc\n条纹\tstripes\n", encoding="utf-8")
    ended = command(
        "make_pairs", class_folders, "--out", tmp_path / "t.csv", "--class-list", tmp_path / "names.txt", "--names", "each",
        "--separator", "tab", "--image-key", "link", "--caption-key", "caption", "--limit-per-class", 5,
        "--seed", 3, "--group-pattern", r"^(\d)",
    )  # fmt: skip
    assert ended.status == 0 and ended.out.endswith("t.csv: 15 images, 3 classes, 4 distinct captions\n")
    header, *rows = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert header == "link\tcaption\tgroup" and len(rows) == 20 and sum("a photo of a block" in row for row in rows) == 5


def test_folds_of_pairs_show_how_many_cases_there_are(command, config, tmp_path):
    folder = create_sample_dataset(tmp_path / "pairs", "pairs", 20)
    ended = command("make_folds", config({"type": "StratifiedGroupKFold", "num_folds": 4, "val_fraction": 0.2}, path=folder))
    assert ended.status == 0 and "20 images, 20 groups" in ended.out
    shown = [line.split() for line in ended.out.splitlines() if line.startswith("fold_")]
    assert [line[-1] for line in shown] == ["12", "3", "5"] * 4


BAD = {
    "missing source": ({"path": "nowhere"}, "nowhere: no such file or folder"),
    "missing image": ({"path": "b.csv"}, "b.csv:2: no image 'b.png'"),
    "wrong column": ({"path": "a.csv", "caption_key": "captoin"}, "'captoin' (data.dataset.caption_key). Did you mean 'caption'?"),
    "leak": ({"path": "a.csv", "val_path": "a2.csv"}, "a2.csv:2: image 'images/scene_0001.jpg' is also at a.csv:2, in another part"),
    "no parts": ({"path": "a.csv"}, "splits.type: AsGiven follows the parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_pairs_are_one_clear_line(command, config, tmp_path, monkeypatch, name):
    arguments, message = BAD[name]
    folder = create_sample_dataset(tmp_path / "pairs", "pairs", 2)
    monkeypatch.chdir(folder)
    rows = {"a": "images/scene_0001.jpg", "a2": "images/scene_0001.jpg", "b": "b.png"}
    for file, image in rows.items():
        (folder / f"{file}.csv").write_text(f"image_path,caption\n{image},x\n", encoding="utf-8")
    ended = command("make_folds", config(**arguments))
    assert ended.status == 2 and ended.out == "" and ended.err.startswith("error: ") and "Traceback" not in ended.err
    assert message in ended.err and (name == "missing source" or ended.err.count("\n") == 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none", "--out", "t.csv"], "none: no such folder"),
        (["IMAGES"], "--out"),
        (["IMAGES", "--out", "t.csv", "--template", "a photo"], "template: 'a photo' does not contain {class_name}"),
        (["IMAGES", "--out", "t.csv", "--names", "al"], "--names"),
        (["IMAGES", "--out", "t.csv", "--val-fraction", "0.1"], "val_fraction and val_out must be given together"),
        (
            ["IMAGES", "--out", "there.csv"],
            "there.csv: already exists with different content. Choose another name, or overwrite it with --force",
        ),
        (["IMAGES", "--out", "t.csv", "--classlist", "x"], "Did you mean '--class-list'?"),
    ],
)
def test_bad_command_lines(command, tmp_path, monkeypatch, snapshot, arguments, message):
    root = write_class_folders(tmp_path / "images", per_class=2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("years of work", encoding="utf-8")
    before = snapshot(tmp_path)
    ended = command("make_pairs", *(root if word == "IMAGES" else word for word in arguments))
    assert ended.status == 2 and ended.out == "" and ended.err.startswith("error: ") and message in ended.err
    assert snapshot(tmp_path) == before


def test_the_door_in_tools_loads_no_torch(repo, class_folders, tmp_path):
    command = [sys.executable, "-X", "importtime", repo / "tools" / "make_pairs.py", class_folders, "--out", tmp_path / "t.csv"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert done.returncode == 0 and "36 images" in done.stdout and not imported & {"torch", "transformers", "PIL"}


def test_shards(command, class_folders, config, tmp_path):
    arguments = ("make_pairs", class_folders, "--out", tmp_path / "train", "--shards", "--shard-size", 10, "--group-pattern", "^(.+)[.]")
    ended = command(*arguments, "--val-fraction", 0.25, "--val-out", tmp_path / "val")
    assert ended.status == 0 and ended.out.splitlines() == [
        f"written: {tmp_path / 'train'}: 3 shards, 27 images, 3 classes, 3 distinct captions",
        f"written: {tmp_path / 'val'}: 1 shards, 9 images, 3 classes, 3 distinct captions",
    ]
    path = config(type="ShardPairs", shards=tmp_path / "train", test_shards=tmp_path / "val", group_key="group")
    ended = command("make_folds", path, "--out", tmp_path / "folds.json")
    assert ended.status == 0 and "36 images, 12 groups, 3 distinct captions" in ended.out
    for more, message in (
        ((), "already exists and will not be overwritten"),
        (("--force",), "--force: shards are only written into new folders"),
        (("--shard-size", 0), "shard_size: 0 is not allowed"),
    ):
        out = tmp_path / "new" if more else tmp_path / "train"
        ended = command("make_pairs", class_folders, "--out", out, "--shards", *more)
        assert ended.status == 2 and message in ended.err and len(ended.err.splitlines()) == 1 and not (tmp_path / "new").exists()
    ended = command("make_pairs", class_folders, "--out", tmp_path / "a.csv", "--shard-size", 5)
    assert ended.status == 2 and "--shard-size: only with --shards" in ended.err
