"""The command init: for every kind of data the config that it writes is valid, and trains at once."""

import csv
import json
import re
import shutil

import hub_cache
import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image
from tiny import write_class_folders, write_pairs

from clipzoo.config import Config
from clipzoo.config.checking import check

FAST = ["train.epochs=1", "splits.num_folds=2", "runtime.threads=1", "hooks=[]"]
TINY_TOWER = ["model.image_encoder=timm:test_resnet", "model.image_encoder.image_size=32"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache of the hub, no network, no GPU."""
    import torch
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path / "cache"


def write_images(folder, num_patients=6, views=("正位", "侧位")):
    """Radiographs of patients, in no class folders; the rows of a table for them."""
    rng = np.random.default_rng(0)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for patient in range(num_patients):
        for view in views:
            pixels = rng.integers(0, 60, (20, 16)) + 150 * (patient % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"片{patient}_{view}.png")
            rows.append([f"{folder.name}/片{patient}_{view}.png", ("松动", "正常")[patient % 2], f"P{patient:03d}"])
    return rows


def write_dicoms(root, num_patients=6):
    rng = np.random.default_rng(0)
    for patient in range(num_patients):
        for view in range(2):
            pixels = (rng.integers(0, 300, (20, 16)) + 500 * (patient % 2)).astype(np.uint16)
            name = ("松动", "正常")[patient % 2]
            write_dicom(root / name / f"IM{patient}{view}", pixels, PatientID=f"H{patient:04d}", ViewPosition=("AP", "LL")[view])
    return root


def trains(command, *options, work_dir="work"):
    """The config loads, passes the checks and trains; returns it."""
    config = Config.load("config.py")
    check(config)
    ended = command("train", "config.py", "--work-dir", work_dir, "--cfg-options", *FAST, *options)
    assert ended.status == 0, ended.err
    return config


def test_class_folders(command, class_folders):
    ended = command("init", class_folders)
    assert ended.status == 0 and "3: 圆 12, 方块 12, 条纹 12; largest / smallest 1" in ended.out and "language       Chinese" in ended.out
    assert ended.out.endswith("written: config.py\nnext:\n  clipzoo baselines config.py\n  clipzoo train config.py\n")
    assert "clipzoo download chinese-clip:ViT-B-16 loads a published CLIP" in ended.out
    config = trains(command, *TINY_TOWER)
    assert config.data.dataset == {"type": "ImageFolderDataset", "root": str(class_folders)}
    assert config.splits == {"type": "StratifiedGroupKFold", "num_folds": 5, "val_fraction": 0.2}
    assert config.model.image_encoder == {"type": "ResNet", "depth": 18, "image_size": 32} and "sampler" not in config.data


@pytest.mark.slow
def test_a_table_in_gbk(command, tmp_path):
    rows = write_images(tmp_path / "医院" / "影像")
    text = "\r\n".join(",".join(row) for row in [["路径", "标签", "患者编号"], *rows])
    (tmp_path / "医院" / "标注.csv").write_bytes(text.encode("gbk"))
    ended = command("init", tmp_path / "医院")  # a folder with one table
    assert ended.status == 0 and "read as GB18030 (GBK)" in ended.out and "6 patients or other groups" in ended.out
    config = trains(command, *TINY_TOWER)
    assert config.data.dataset == {"type": "TableDataset", "path": str(tmp_path / "医院" / "标注.csv")}
    assert config.evaluation == {"unit": "group"} and config.splits.num_folds == 3


@pytest.mark.slow
def test_a_workbook_whose_images_are_elsewhere(command, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    rows, book = write_images(tmp_path / "影像"), openpyxl.Workbook()
    for row in [["文件名", "诊断", "病历号"], *rows]:
        book.active.append(row)
    book.save(tmp_path / "标注.xlsx")
    (tmp_path / "scans").mkdir()
    (tmp_path / "影像").rename(tmp_path / "scans" / "影像")
    assert command("init", tmp_path / "标注.xlsx").status == 2
    assert command("init", tmp_path / "标注.xlsx", "--images", tmp_path / "scans").status == 0
    assert trains(command, *TINY_TOWER).data.dataset.image_root == str(tmp_path / "scans")


@pytest.mark.slow
def test_dicom(command, tmp_path):
    pytest.importorskip("pydicom")
    ended = command("init", write_dicoms(tmp_path / "片"))
    assert ended.status == 0 and "DICOM" in ended.out and "6 patients or other groups" in ended.out and "H0001" not in ended.out
    config = trains(command, *TINY_TOWER)
    assert config.evaluation.unit == "group" and "H0001" not in open("config.py", encoding="utf-8").read()


def test_pairs(command, tmp_path):
    ended = command("init", write_pairs(tmp_path / "图文"))
    assert ended.status == 0 and ended.out.endswith("next:\n  clipzoo train config.py\n")
    config = trains(command, *TINY_TOWER)
    assert config.data.dataset == {"type": "PairsDataset", "path": str(tmp_path / "图文")} and "evaluation" not in config


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("named", ["{}", "{}/{{00000..00001}}.tar", "{}/*.tar", "{}/00000.tar"])
def test_shards(command, tmp_path, named):
    """Also their groups; a path that holds images takes no ``--images``."""
    write_class_folders(tmp_path / "imgs", per_class=12)
    shards = tmp_path / "分片"
    made = command("make_pairs", tmp_path / "imgs", "--out", shards, "--shards", "--shard-size", 20, "--group-pattern", "^(.+)[.]")
    assert made.status == 0, made.err
    path = named.format(shards)
    assert command("init", path).status == 0
    config = trains(command, *TINY_TOWER)
    assert config.data.dataset == {"type": "ShardPairs", "shards": path, "group_key": "group"}
    assert "has shards, which contain their images" in command("init", path, "--images", tmp_path, "--force").err


@pytest.mark.slow
def test_pairs_in_a_table_with_patients(command, tmp_path):
    rows = write_images(tmp_path / "imgs")
    with open(tmp_path / "pairs.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["filepath", "title", "patient_id"], *([a, f"{b}的髋关节", c] for a, b, c in rows)])
    assert command("init", tmp_path / "pairs.csv").status == 0
    assert Config.load("config.py").data.dataset.group_key == "patient_id"


def test_given_parts_are_followed(command, tmp_path):
    for part, seed in (("train", 0), ("val", 1), ("test", 2)):
        write_class_folders(tmp_path / "data" / part, per_class=6, seed=seed)
    assert command("init", tmp_path / "data").status == 0
    config = Config.load("config.py")
    assert config.data.dataset.root.endswith("train") and config.data.dataset.test_root.endswith("test")
    assert config.splits.type == "AsGiven" and command("train", "config.py", "--dry-run").status == 0


def test_patients_in_the_names_of_files(command, tmp_path):
    for name in ("松动", "正常"):
        write_images(tmp_path / "片" / name, num_patients=8)
    for index, path in enumerate(sorted((tmp_path / "片").rglob("*.png"))):  # distinct patients in the classes
        path.rename(path.with_name(f"{'AB'[index // 16]}{path.name}"))
        Image.fromarray(np.full((8, 8), 5 * index, np.uint8)).save(path.with_name(f"{'AB'[index // 16]}{path.name}"))
    ended = command("init", tmp_path / "片")
    assert ended.status == 0 and "names look as if patients had several images" in ended.out
    config = Config.load("config.py")
    assert config.data.dataset.group_pattern and "16 patients" in ended.out and config.evaluation.unit == "group"


def test_descriptions_and_groups_beside_class_folders(command, tmp_path):
    root = write_class_folders(tmp_path / "mine" / "images", classes=("a", "b"), per_class=6)
    (tmp_path / "mine" / "class_texts.json").write_text(json.dumps({"a": "方形", "b": "圆形"}, ensure_ascii=False), encoding="utf-8")
    rows = "".join(f"{name}/{index:03d}.png,{name}{index // 2}\n" for name in "ab" for index in range(6))
    (tmp_path / "mine" / "groups.csv").write_text("path,group\n" + rows, encoding="utf-8")
    for path in (tmp_path / "mine", root):
        ended = command("init", path, "--force")
        assert ended.status == 0 and "language       Chinese" in ended.out and "6 patients" in ended.out
        assert set(Config.load("config.py").data.dataset) == {"type", "root", "class_texts", "groups"}


@pytest.mark.slow
def test_a_published_clip_in_the_cache(command, cache, class_folders):
    hub_cache.chinese_clip(hub_cache.put(cache, "OFA-Sys/chinese-clip-vit-base-patch16"))
    ended = command("init", class_folders)
    assert "start          chinese-clip:ViT-B-16" in ended.out and "download" not in ended.out
    config = trains(command)
    assert config.model.type == "ImageClassifier" and config.model.image_encoder == {"type": "chinese-clip:ViT-B-16", "freeze": "all"}
    assert command("init", class_folders, "--gpu-memory", 24, "--force").status == 0
    config = trains(command, "data.batch_size=4", "runtime.device=cpu", work_dir="lora")
    assert config.model.image_encoder == {"type": "chinese-clip:ViT-B-16", "lora": {"rank": 8}}
    assert config.model.type == "CLIP" and config.model.text_encoder["freeze"] == "all" and config.data.augmentation == "minimal"


def test_an_incomplete_model_in_the_cache_is_not_chosen(command, cache, class_folders):
    (hub_cache.put(cache, "OFA-Sys/chinese-clip-vit-base-patch16") / "model.safetensors").touch()
    ended = command("init", class_folders)
    assert ended.status == 0 and "note: chinese-clip:ViT-B-16 is in the local cache, but cannot be used: " in ended.out
    assert "start          random weights" in ended.out


def test_own_choices(command, class_folders):
    ended = command("init", class_folders, "--set", "train.epochs=7", "data.batch_size=4", "runtime.seed=3")
    config = Config.load("config.py")
    assert ended.status == 0 and (config.train.epochs, config.data.batch_size, config.runtime.seed) == (7, 4, 3)
    assert re.search("train.epochs +7 .set by hand.", ended.out) and "\n  epochs " not in ended.out
    assert "epochs=7" in open("config.py", encoding="utf-8").read()
    wrong = command("init", class_folders, "--force", "--set", "trian.epochs=7")
    assert wrong.status == 2 and wrong.err == "error: --set: unknown section 'trian'. Did you mean 'train'?\n"
    wrong = command("init", class_folders, "--force", "--set", "train.epochs=0")
    assert wrong.status == 2 and "train.epochs" in wrong.err and Config.load("config.py").train.epochs == 7


def test_an_existing_config_is_not_overwritten(command, class_folders):
    open("config.py", "w").write("mine")
    ended = command("init", class_folders)
    assert ended.status == 2 and "pass --force" in ended.err and open("config.py").read() == "mine"
    assert command("init", class_folders, "--force").status == 0 and "mine" not in open("config.py").read()


def test_the_rules_are_printed(command):
    from clipzoo.planning.rules import RULES

    shown = command("init", "--rules").out
    assert shown.count("\n") == len(RULES) + 2 and "| adaptation | start is random weights | all blocks from scratch |" in shown


def bad(tmp_path, kind):
    root = tmp_path / "坏"
    root.mkdir()
    if kind == "no images":
        (root / "类").mkdir()
        (root / "类" / "notes.doc").write_text("x")
    elif kind == "one class":
        write_class_folders(root / "x", classes=("圆",))
        return root / "x"
    elif kind == "one image":
        write_class_folders(root / "x", classes=("圆", "方"), per_class=4)
        for index in range(1, 4):
            (root / "x" / "方" / f"{index:03d}.png").unlink()
        return root / "x"
    elif kind == "no label":
        (root / "表.csv").write_text("路径,年龄\na.png,3\n", encoding="utf-8")
        return root / "表.csv"
    elif kind == "unreadable":
        write_class_folders(root / "x", per_class=3)
        path = root / "x" / "圆" / "000.png"
        path.write_bytes(path.read_bytes()[:60])
        return root / "x"
    elif kind == "two tables":
        for name in ("甲.csv", "乙.csv"):
            (root / name).write_text("路径,标签\na.png,x\n", encoding="utf-8")
    elif kind == "images only":
        write_images(root / "x")
        return root / "x"
    elif kind == "missing":
        return root / "x"
    elif kind == "other file":
        (root / "a.pdf").write_text("x")
        return root / "a.pdf"
    return root


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "坏: no images (supported: png jpg"),
        ("no images", "坏: no images (supported: png jpg"),
        ("one class", "x: only one class, '圆'. Classification needs at least two"),
        ("one image", "x: only one image in class 方: it can be learned or tested, never both"),
        ("no label", "表.csv: no column for the label or the caption"),
        ("unreadable", "圆/000.png"),
        ("two tables", "several tables: "),
        ("images only", "x: images, but no class folders and no table"),
        ("missing", "x: no such file or folder. "),
        ("other file", "a.pdf: not a table or a list of pairs"),
    ],
)
def test_bad_data_are_one_line(command, tmp_path, kind, message):
    ended = command("init", bad(tmp_path, kind))
    assert ended.status == 2 and message in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "here" / "config.py").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu-memory", "-1"], "is not a number of gigabytes"),
        (["--gpu-memory", "viel"], "is not a number of gigabytes"),
        (["--out", "config.txt"], "must end in .py"),
        (["--images", "."], "which contain their images"),
        (["--images", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_options_are_one_line(command, class_folders, options, message):
    ended = command("init", class_folders, *options)
    assert ended.status == 2 and message in ended.err and ended.err.count("\n") == 1
    assert command("init").status == 2


@pytest.mark.slow
def test_what_is_written_learns(command, tmp_path):
    """As a user does it: nothing overridden; one fold of the five, squares against stripes."""
    root = write_class_folders(tmp_path / "图像")
    shutil.rmtree(root / "圆")
    assert command("init", root).status == 0
    assert command("train", "config.py", "--fold", 1).status == 0
    with open("work_dirs/config/fold_1/predictions.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert len(rows) >= 4 and right >= 0.8 * len(rows)
