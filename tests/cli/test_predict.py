"""``clipzoo predict``: images in, classes and probabilities out."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from checkpoint_files import saved

from clipzoo.cli.predict import image_files
from clipzoo.engine import checkpoint
from clipzoo.errors import DataError
from clipzoo.records.tables import PredictionTable
from clipzoo.text_tables import terminal_columns


@pytest.fixture
def predict(command):
    """``predict(CHECKPOINT, IMAGE, …)`` on the CPU."""
    return lambda *arguments: command("predict", *arguments, "--device", "cpu")


def rows_of(path) -> tuple[list[str], list[list[str]]]:
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


# --- what it shows and writes -----------------------------------------------------------------------------------------------------------


def test_a_fold_gives_the_table_of_its_run(predict, finished, class_folders, tmp_path):
    table = PredictionTable.read(finished / "fold_2" / "predictions.csv")
    images = [class_folders / case_id for case_id in table.case_ids]
    ended = predict(finished / "fold_2", *images, "--csv", tmp_path / "out.csv", "--top", 1)
    assert ended.status == 0, ended.err
    header, rows = rows_of(tmp_path / "out.csv")
    assert header == ["image", "prediction", *(f"p_{name}" for name in table.classes)]
    assert [row[0] for row in rows] == [str(image) for image in images]
    np.testing.assert_allclose([[float(p) for p in row[2:]] for row in rows], table.probabilities, atol=1e-6)
    predicted = [table.classes[i] for i in table.probabilities.argmax(axis=1)]
    assert [row[1] for row in rows] == predicted
    lines = ended.out.splitlines()
    assert len(lines) == 2 + len(images)
    for line, image, name, row in zip(lines[2:], images, predicted, table.probabilities, strict=True):
        assert line.split() == [str(image), name, f"{row.max():.4f}"]
    assert len({terminal_columns(line) for line in lines}) == 1, "columns are aligned, with Chinese in them"
    _, _, *three = predict(finished / "fold_2", images[0], "--top", 9).out.splitlines()
    names = [line.split()[-2] for line in three]
    assert sorted(names) == sorted(table.classes)
    assert len({terminal_columns(line[: line.rindex(name)]) for line, name in zip(three, names, strict=True)}) == 1


def test_a_work_dir_means_the_mean_of_its_finished_folds(predict, copy_of_finished, class_folders, tmp_path):
    image = class_folders / "圆" / "000.png"
    alone = []
    for fold in ("fold_1", "fold_3"):
        predict(copy_of_finished / fold, image, "--csv", tmp_path / f"{fold}.csv")
        alone.append([float(p) for p in rows_of(tmp_path / f"{fold}.csv")[1][0][2:]])
    (copy_of_finished / "fold_2" / "result.json").unlink()
    ended = predict(copy_of_finished, image, "--csv", tmp_path / "mean.csv")
    assert "mean probability of 2 folds: fold_1, fold_3; not done yet: fold_2" in ended.err
    np.testing.assert_allclose([float(p) for p in rows_of(tmp_path / "mean.csv")[1][0][2:]], np.mean(alone, axis=0), atol=1e-6)
    for fold in ("fold_1", "fold_3"):
        (copy_of_finished / fold / "result.json").unlink()
    ended = predict(copy_of_finished, image)
    assert ended.status == 2 and "no fold is done yet. Finish the training, or pass the folder of one: fold_1, fold_2, fold_3" in ended.err


def test_texts_take_the_place_of_the_classes(predict, finished, class_folders, tmp_path):
    image = class_folders / "圆" / "000.png"
    fold = finished / "fold_1"
    (tmp_path / "lines.txt").write_text("\ufeff一个圆\n\n 方块 \n", encoding="utf-8")
    (tmp_path / "list.json").write_text('["一个圆", "方块"]', encoding="utf-8")
    shown = {predict(fold, image, "--texts", "一个圆", "方块").out}
    shown |= {predict(fold, image, "--texts-file", tmp_path / name).out for name in ("lines.txt", "list.json")}
    assert len(shown) == 1 and "一个圆" in shown.pop()
    (tmp_path / "classes.json").write_text(json.dumps({"a": ["一张圆的图", "圆"], "b": ["一张方块的图", "方块"]}), encoding="utf-8")
    (tmp_path / "names.json").write_text(json.dumps({"a": "圆", "b": "方块"}), encoding="utf-8")
    by_hand = predict(fold, image, "--texts-file", tmp_path / "classes.json").out
    assert (
        predict(fold, image, "--texts-file", tmp_path / "names.json", "--template", "一张{class_name}的图", "{class_name}").out == by_hand
    )
    assert predict(fold, image, "--template", "这是{class_name}").out.count("\n") == 5, (
        "templates go round the model's own class names, too"
    )


def test_folders_and_patterns(class_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(class_folders, tmp_path / "x"))
    (tmp_path / "x" / "notes.txt").write_text("x", encoding="utf-8")
    assert len(image_files(["."])) == 36 and image_files(["圆", "方块"])[:2] == ["圆/000.png", "圆/001.png"]
    assert image_files(["*/00[12].png", "圆/001.png"]) == [
        "圆/001.png",
        "圆/002.png",
        "方块/001.png",
        "方块/002.png",
        "条纹/001.png",
        "条纹/002.png",
    ]
    assert image_files(["条纹/002.png", "**/002.png"])[0] == "条纹/002.png" and len(image_files(["**/002.png", "条纹"])) == 14
    assert image_files(["notes.txt"]) == ["notes.txt"], "whoever names a file means it"
    for name in ("[brackets].png", "a*b.png"):
        shutil.copy("圆/001.png", name)
        assert image_files([name]) == [name]
    (tmp_path / "empty").mkdir()
    for given, message in (
        (["*.gif"], r"\*.gif: no image matches"),
        (["a.png", "圆/000.png", "b.png"], "^a.png, b.png: these 2 do not exist. Nothing was computed$"),
        (["a.png"], "a.png: no such file"),
        ([str(tmp_path / "empty")], "empty: no images in this folder. Supported: png"),
    ):
        with pytest.raises(DataError, match=message):
            image_files(given)


def test_a_table_is_not_written_over(predict, finished, class_folders, tmp_path):
    out, fold, images = tmp_path / "out.csv", finished / "fold_1", class_folders / "圆"
    assert predict(fold, images, "--csv", out).status == 0
    first = out.read_bytes()
    assert predict(fold, images, "--csv", out).status == 0, "the same content is no other file"
    ended = predict(finished / "fold_2", images, "--csv", out)
    assert ended.status == 2 and "out.csv exists with other content" in ended.err and "--force" in ended.err
    assert out.read_bytes() == first and "圆/000.png" in ended.out, "what was computed is shown all the same"
    assert predict(finished / "fold_2", images, "--csv", out, "--force").status == 0 and out.read_bytes() != first
    assert list(tmp_path.glob("*.tmp")) == []


def test_workers_and_batches_change_nothing(predict, finished, class_folders):
    expected = predict(finished / "fold_1", class_folders).out
    assert predict(finished / "fold_1", class_folders, "--workers", 2, "--batch-size", 5).out == expected


def test_long_texts_are_cut_in_one_line_or_refused(predict, finished, class_folders):
    texts = ("--texts", "圆" * 80, "方块")
    ended = predict(finished, class_folders / "圆" / "000.png", *texts)
    assert ended.status == 0
    warnings = [line for line in ended.err.splitlines() if "82 tokens" in line]
    assert len(warnings) == 1 and warnings[0].startswith("warning: texts: '圆") and "inference.py" not in ended.err, "once for all folds"
    ended = predict(finished, class_folders / "圆" / "000.png", *texts, "--no-cut")
    assert ended.status == 2 and "has 82 tokens, but only 64 fit" in ended.err


# --- bad input --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["WORK/fold_9", "IMAGE"], "WORK/fold_9: no such checkpoint or published name. Did you mean"),
        (["IMAGE", "IMAGE"], "neither a checkpoint of clipzoo nor weights of a CLIP"),
        (["IMAGES", "IMAGE"], "IMAGES: contains no checkpoint"),
        (["clip:ViT-B-32x", "IMAGE"], "Did you mean 'clip:ViT-B/32'"),
        (["clip:ViT-B/32", "IMAGE", "--texts", "a", "b"], "Connect to the hub"),
        (["WORK/fold_1", "none.png", "nor_this.png"], "none.png, nor_this.png: these 2 do not exist"),
        (["WORK/fold_1", "IMAGE", "--texts", "a", "--texts-file", "x.txt"], "--texts-file: not allowed with argument --texts"),
        (["WORK/fold_1", "IMAGE", "--texts", "a"], "a single class ('a')"),
        (["WORK/fold_1", "IMAGE", "--texts", "a", ""], "the text at position 1 is empty"),
        (["WORK/fold_1", "IMAGE", "--texts", "a", "a"], "'a' describes two classes"),
        (["WORK/fold_1", "IMAGE", "--texts-file", "none.txt"], "none.txt: no such file"),
        (["WORK/fold_1", "IMAGE", "--texts-file", "empty.txt"], "there is no text"),
        (["WORK/fold_1", "IMAGE", "--texts-file", "numbers.json"], "numbers.json: must be a list of texts"),
        (["WORK/fold_1", "IMAGE", "--texts-file", "broken.json"], "broken.json:1: not valid JSON"),
        (["WORK/fold_1", "IMAGE", "--texts-file", "gbk.txt"], "gbk.txt:1: not UTF-8 text"),
        (["WORK/fold_1", "IMAGE", "--template", "a photo"], "does not contain {class_name}"),
        (["WORK/fold_1", "IMAGE", "--top", "0"], "--top: '0' is not a whole number of 1 or more"),
        (["WORK/fold_1", "IMAGE", "--workers", "-1"], "--workers: '-1' is not a whole number of 0 or more"),
        (["WORK/fold_1", "IMAGE", "--csv", "out.txt"], "--csv: out.txt must end in .csv"),
        (["WORK/fold_1", "IMAGE", "--csv", "IMAGES"], "IMAGES is a folder. Pass a file"),
        (["WORK/fold_1", "IMAGE", "--quick-gelu", "yes"], "records its own activation"),
        (["WORK/fold_1", "broken.png"], "broken.png: not an image, or a damaged one"),
        (["WORK/fold_1"], "the following arguments are required: IMAGE"),
        (["WORK/fold_1", "IMAGE", "--text", "a", "b"], "ambiguous option: --text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_clear_line(command, finished, class_folders, arguments, message):
    from pathlib import Path

    Path("empty.txt").write_text("\n", encoding="utf-8")
    Path("numbers.json").write_text("[1]", encoding="utf-8")
    Path("broken.json").write_text("[", encoding="utf-8")
    Path("gbk.txt").write_bytes("骨水泥型全髋".encode("gbk"))
    Path("broken.png").write_bytes(b"hello")
    before = sorted(Path.cwd().iterdir())
    places = {"WORK": str(finished), "IMAGES": str(class_folders), "IMAGE": str(class_folders / "圆" / "000.png")}

    def placed(text: str) -> str:
        for name, path in places.items():
            if text == name or text.startswith(f"{name}/") or f"{name}:" in text or f"{name} " in text:
                return text.replace(name, path, 1)
        return text

    ended = command("predict", *map(placed, arguments))
    assert ended.status == 2 and placed(message) in ended.err, ended.err
    assert ended.err.count("\n") == 1 and "Traceback" not in ended.err and ended.out == ""
    assert sorted(Path.cwd().iterdir()) == before


def test_a_model_of_pairs_needs_texts(predict, class_folders, tmp_path, config_of):
    path, _ = saved(tmp_path / "x.pth", config_of(), classes=[], class_captions=[])
    image = class_folders / "圆" / "000.png"
    ended = predict(path, image)
    assert ended.status == 2 and "has no classes of its own. Pass --texts or --texts-file" in ended.err
    assert predict(path, image, "--texts", "圆", "方块").status == 0


def test_a_model_without_text_side(predict, class_folders, tmp_path, config_of):
    from clipzoo.models.base import Model
    from clipzoo.models.clip import CLIP
    from clipzoo.registries import MODELS

    path, _ = saved(tmp_path / "x.pth", config_of())
    content = checkpoint.read(path)
    content["config"]["model"]["type"] = "OnlyImages"

    class OnlyImages(CLIP):
        encode_captions = Model.encode_captions  # declared, and not implemented

        def __init__(self, image_encoder: torch.nn.Module, text_encoder: torch.nn.Module, embed_dim: int = 32):
            super().__init__(image_encoder, text_encoder, embed_dim=embed_dim)

    assert issubclass(OnlyImages, Model)
    MODELS.register_module()(OnlyImages)
    try:
        checkpoint.write(path, content)
        ended = predict(path, class_folders / "圆" / "000.png")
    finally:
        del MODELS._classes["OnlyImages"]
    assert ended.status == 2 and "OnlyImages has no text side" in ended.err and ended.err.count("\n") == 1
