"""``clipzoo explain``: pictures, a listing and arrays in a new folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import clipzoo
from clipzoo.explain import explain, explain_classes
from clipzoo.explain.folder import picture_name


@pytest.fixture
def explained(command, tmp_path):
    """``explained(CHECKPOINT, IMAGE, …)``: how the command ended, and the listing and arrays of the folder ``out``, if there is one."""
    out = tmp_path / "out"

    def run(*arguments):
        ended = command("explain", *arguments, "--device", "cpu", "--out", out)
        listing = json.loads((out / "explanations.json").read_text(encoding="utf-8")) if out.exists() else None
        arrays = np.load(out / "explanations.npz") if out.exists() else None
        return ended, listing, arrays

    return run


@pytest.fixture
def images(class_folders):
    return [class_folders / name / "000.png" for name in ("圆", "方块", "条纹")]


def test_the_predicted_classes_of_a_fold(explained, finished, images, tmp_path):
    ended, listing, arrays = explained(finished / "fold_1", *images, "--top", 2)
    assert ended.status == 0, ended.err
    model = clipzoo.load(finished / "fold_1", device="cpu")
    best = model.classify(images).top(2)
    rows = listing["explanations"]
    assert [(row["image"], row["target"], row["against"]) for row in rows] == [
        (str(image), name, None) for image, classes in zip(images, best, strict=True) for name, _ in classes
    ]
    np.testing.assert_allclose([row["probability"] for row in rows], [p for classes in best for _, p in classes], atol=1e-6)
    for rank in (0, 1):
        expected = explain_classes(model, images, [classes[rank][0] for classes in best])
        np.testing.assert_allclose(arrays["maps"][rank::2], expected.maps, atol=1e-6)
        np.testing.assert_allclose([row["score"] for row in rows[rank::2]], expected.scores, atol=1e-5)
    np.testing.assert_allclose(arrays["scores"], [row["score"] for row in rows], atol=1e-6)
    assert listing["method"] == "grad_cam" and listing["size"] == 32 and listing["fit"] == "pad"
    assert [row["picture"] for row in rows] == [f"{i}_000_{rank}.png" for i in (1, 2, 3) for rank in (1, 2)]
    written = {"explanations.json", "explanations.npz", *(row["picture"] for row in rows)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    assert all(Image.open(tmp_path / "out" / row["picture"]).size == (16, 16) for row in rows)
    assert len(ended.out.splitlines()) == 2 + 6 and all(name in ended.out for name in ("probability", "1_000_1.png", *model.classes[:2]))


@pytest.mark.slow
def test_a_sentence_against_another_with_the_mean_of_all_folds(explained, finished, images):
    ended, listing, arrays = explained(finished, *images, "--text", "一个圆", "--against", "方块")
    assert ended.status == 0 and "mean probability of 3 folds" in ended.err
    expected = explain(clipzoo.load(finished, device="cpu"), images, "一个圆", "方块")
    np.testing.assert_allclose(arrays["maps"], expected.maps, atol=1e-6)
    assert [(row["target"], row["against"], row["probability"]) for row in listing["explanations"]] == [("一个圆", "方块", None)] * 3
    assert "一个圆 − 方块" in ended.out and "3 folds" in listing["source"]


@pytest.mark.slow
def test_a_given_class_against_another(explained, finished, images):
    _, listing, arrays = explained(finished / "fold_1", *images, "--class", "圆", "--against", "条纹")
    expected = explain_classes(clipzoo.load(finished / "fold_1", device="cpu"), images, "圆", "条纹")
    np.testing.assert_allclose(arrays["maps"], expected.maps, atol=1e-6)
    assert [row["target"] for row in listing["explanations"]] == ["圆"] * 3


def test_bad_input_is_a_line_and_writes_nothing(command, finished, images, tmp_path):
    fold, out = finished / "fold_1", tmp_path / "out"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for arguments, message in [
        ((fold, *images, "--against", "b"), "--against: nothing to subtract from. Pass --text with a sentence, or --class with a class"),
        ((fold, *images, "--text", "a", "--top", 2), "not allowed with argument --text"),
        ((fold, *images, "--class", "圆圆"), "has no class '圆圆'. Did you mean '圆'?"),
        ((fold, *images, "--text", " "), "is empty"),
        ((fold, "nowhere.png"), "nowhere.png: no such file. Nothing was computed"),
        ((fold, *images, "--method", "relevance"), "method 'relevance' does not fit TimmBackbone test_resnet, which has feature maps"),
        ((fold, *images, "--out", tmp_path / "full"), "already exists and will not be overwritten"),
        ((fold, *images, "--top", 0), "'0' is not a whole number of 1 or more"),
        (("nowhere", *images), "nowhere"),
    ]:
        place = () if "--out" in arguments else ("--out", out)
        ended = command("explain", *arguments, *place, "--device", "cpu")
        assert ended.status == 2 and message in ended.err and ended.err.count("\n") == 1, ended.err
        assert not out.exists() and not ended.out
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_hostile_names_become_safe_file_names(explained, finished, images, tmp_path):
    names = ["<script>alert(1)<-script>.png", "\u202egnp.png", "a\nb\x1b[31m.png", "长" * 60 + ".png", "=cmd.png", "--x.png"]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(images[0].read_bytes())
    ended, listing, _ = explained(finished / "fold_1", folder)
    assert ended.status == 0, ended.err
    assert "\x1b" not in ended.out and "\u202e" not in ended.out
    assert {row["image"] for row in listing["explanations"]} == {str(folder / name) for name in names}
    pictures = [row["picture"] for row in listing["explanations"]]
    assert len(set(pictures)) == 6 and all((tmp_path / "out" / picture).is_file() for picture in pictures)
    assert all(set(picture) & set("<>()\n\x1b\u202e=[ ") == set() and len(picture.encode()) < 200 for picture in pictures)
    assert picture_name(0, "../..", 1, None) == "1.png" and picture_name(8, "/a/\udcff.png", 20, 1) == "09_2.png"


@pytest.mark.slow
def test_pictures_are_no_larger_than_asked(explained, finished, tmp_path):
    Image.new("RGB", (500, 100), (90, 90, 90)).save(tmp_path / "wide.png")
    _, listing, _ = explained(finished / "fold_1", tmp_path / "wide.png", "--max-side", 100)
    assert Image.open(tmp_path / "out" / listing["explanations"][0]["picture"]).size == (100, 20)
