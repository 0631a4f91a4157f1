"""``clipzoo fewshot``: tasks in, a table of labels out; episodes in, a curve out."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from checkpoint_files import saved
from few_shot_files import write_tasks

import clipzoo
from clipzoo.fewshot.episodes import EpisodePool, Plan
from clipzoo.records.few_shot import AboutEpisodes

FILES = {"fewshot_curve.csv", "fewshot_curve.png", "episodes.csv", "fewshot.json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, class_folders):
    """A CLIP with its first weights."""
    from tiny import tiny_config

    from clipzoo.config import Config

    torch.manual_seed(0)
    return saved(tmp_path_factory.mktemp("trained") / "clip.pth", Config.from_dict(tiny_config(class_folders), "tiny"))[0]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, class_folders):
    """A classifier, which has no text side."""
    from tiny import tiny_config

    from clipzoo.config import Config

    torch.manual_seed(0)
    config = tiny_config(class_folders)
    config["model"] = {"type": "ImageClassifier", "image_encoder": config["model"]["image_encoder"], "head": {"type": "LinearHead"}}
    return saved(tmp_path_factory.mktemp("classifier") / "classifier.pth", Config.from_dict(config, "tiny"))[0]


@pytest.fixture
def folder(tmp_path, class_folders):
    write_tasks(tmp_path / "TEST" / "testB", class_folders, tasks=2, shots=4)
    return tmp_path / "TEST"


@pytest.fixture
def fewshot(command):
    """``fewshot('predict', CHECKPOINT, …)`` on the CPU."""
    return lambda name, *arguments: command("fewshot", name, *arguments, "--device", "cpu")


def rows_of(path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- predict ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trained", "classifier"])
def test_the_result_holds_every_query_with_the_label_that_numpy_finds(kind, request, fewshot, folder, tmp_path):
    checkpoint = request.getfixturevalue(kind)
    ended = fewshot("predict", checkpoint, folder, tmp_path / "out.csv", "--temperature", 0.05)
    assert ended.status == 0, ended.err
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["task", "image", "label", "score"]
    queries = [(task, path) for task in ("task1", "task2") for path in sorted((folder / "testB" / task / "query").iterdir())]
    assert [(row["task"], row["image"]) for row in rows] == [(task, path.name) for task, path in queries]
    loaded = clipzoo.load(checkpoint, device="cpu")
    for row, (task, path) in zip(rows, queries, strict=True):
        names = sorted(entry.name for entry in (folder / "testB" / task / "support").iterdir())
        support = [loaded.encode_image(sorted((folder / "testB" / task / "support" / name).iterdir())).numpy() for name in names]
        means = np.stack([features.mean(axis=0) for features in support])
        cosines = loaded.encode_image(path).numpy()[0] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        odds = np.exp((cosines - cosines.max()) / 0.05)
        assert row["label"] == names[int(np.argmax(cosines))]
        assert float(row["score"]) == pytest.approx(odds.max() / odds.sum(), abs=1e-4)
    assert "2 tasks of 3 classes: 24 support and 12 query images" in ended.out
    assert "method prototype: temperature=0.05" in ended.out and "12 images predicted in" in ended.out
    assert f"written: {tmp_path / 'out.csv'}" in ended.err


@pytest.mark.parametrize("method", ["linear", "tip", "knn", "zero_shot"])
def test_every_method_predicts_and_says_what_it_chose(method, fewshot, trained, folder, tmp_path):
    ended = fewshot("predict", trained, folder, tmp_path / "out.csv", "--method", method)
    assert ended.status == 0 and len(rows_of(tmp_path / "out.csv")) == 12, ended.err
    chosen = {"linear": "linear: c=", "tip": "tip: alpha=", "knn": "knn: k=", "zero_shot": "zero_shot: nothing to choose"}
    assert f"method {chosen[method]}" in ended.out and "note" not in ended.err


def test_all_images_are_encoded_in_one_pass_and_each_content_once(fewshot, trained, folder, tmp_path, monkeypatch):
    from clipzoo.models.backbones.timm_backbone import TimmBackbone

    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    seen = []
    forward = TimmBackbone.forward
    monkeypatch.setattr(TimmBackbone, "forward", lambda self, images: seen.append(len(images)) or forward(self, images))
    assert fewshot("predict", trained, folder, tmp_path / "out.csv").status == 0
    files = [path.read_bytes() for path in folder.rglob("*.png")]
    assert seen == [len(set(files))] and len(set(files)) < len(files)
    assert fewshot("predict", trained, folder, tmp_path / "linear.csv", "--method", "linear").status == 0
    assert len(seen) == 1, "features are kept"


def test_texts_are_read_from_a_file_or_made_of_templates(fewshot, trained, folder, tmp_path):
    names = sorted(entry.name for entry in (folder / "testB" / "task1" / "support").iterdir())
    (tmp_path / "texts.json").write_text(json.dumps({name: [f"一个{name}", f"{name}"] for name in names}), encoding="utf-8")
    tip = ("--method", "tip")
    assert fewshot("predict", trained, folder, tmp_path / "a.csv", *tip, "--class-texts", tmp_path / "texts.json").status == 0
    assert fewshot("predict", trained, folder, tmp_path / "b.csv", *tip, "--template", "一个{class_name}", "{class_name}").status == 0
    assert fewshot("predict", trained, folder, tmp_path / "c.csv", *tip).status == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes() != (tmp_path / "c.csv").read_bytes()
    (tmp_path / "texts.json").write_text(json.dumps({names[0]: "x"}), encoding="utf-8")
    ended = fewshot("predict", trained, folder, tmp_path / "d.csv", *tip, "--class-texts", tmp_path / "texts.json")
    assert ended.status == 2 and f"no description for class '{names[1]}', '{names[2]}'" in ended.err


def test_a_class_with_one_image_is_allowed_and_noted(fewshot, trained, folder, tmp_path):
    images = sorted((folder / "testB" / "task2" / "support" / "圆").iterdir())
    for image in images[1:]:
        image.unlink()
    ended = fewshot("predict", trained, folder, tmp_path / "out.csv", "--method", "linear")
    assert ended.status == 0 and len(rows_of(tmp_path / "out.csv")) == 12
    assert re.search(r"note: task2: a class has one example: nothing could be chosen by cross-validation, c=[0-9.]+ was taken", ended.err)
    assert "task1" not in ended.err


def test_a_corrupt_query_image_is_named_and_all_others_predicted(fewshot, trained, folder, tmp_path):
    broken = folder / "testB" / "task1" / "query" / "圆_004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    ended = fewshot("predict", trained, folder, tmp_path / "out.csv")
    assert ended.status == 2
    assert f"error: {broken}: " in ended.err and "unreadable query images skipped: 1" in ended.err
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == 11 and ("task1", broken.name) not in {(row["task"], row["image"]) for row in rows}


def test_bad_tasks_are_refused_before_anything_is_encoded(fewshot, trained, folder, tmp_path, monkeypatch):
    from clipzoo.fewshot import prediction
    from clipzoo.inference import load

    for module, name in ((prediction, "encode_files"), (load, "load_one")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("encoded"))
    task = folder / "testB" / "task1"
    shutil.copy(task / "support" / "圆" / "000.png", task / "query" / "copy.png")
    shutil.rmtree(folder / "testB" / "task2" / "query")
    ended = fewshot("predict", trained, folder, tmp_path / "out.csv")
    assert ended.status == 2 and not (tmp_path / "out.csv").exists() and not ended.out
    first, *lines = ended.err.rstrip().splitlines()
    assert first == "error: 2 problems, nothing was computed"
    assert [line.split(":")[0].strip() for line in lines] == [str(task / "query" / "copy.png"), str(folder / "testB" / "task2" / "query")]


def test_a_result_is_not_written_over_other_content(fewshot, trained, folder, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("mine")
    ended = fewshot("predict", trained, folder, out)
    assert ended.status == 2 and "exists with other content" in ended.err and out.read_text() == "mine"
    assert fewshot("predict", trained, folder, out, "--force").status == 0 and len(rows_of(out)) == 12
    assert fewshot("predict", trained, folder, out).status == 0, "the same content is fine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "protoype"], "--method: unknown method 'protoype'. Did you mean 'prototype'? Methods: knn, linear"),
        (["--method", "tip", "--temperature", "0.1"], "--temperature: only for the method prototype, not for tip"),
        (["--temperature", "0"], "Prototype.temperature: 0.0 is not a number above 0"),
        (["--class-texts", "x.json"], "--class-texts: only for methods that use class texts; prototype does not. Remove it"),
        (["--method", "knn", "--template", "{class_name}"], "--template: only for methods that use class texts; knn does not"),
        (["--method", "tip", "--template", "ohne"], "--template: 'ohne' does not contain {class_name}"),
        (["--template", "{class_name}", "--class-texts", "x.json"], "not allowed with argument --template"),
        (["--plugins", "nowhere"], "plugins: 'nowhere': cannot be imported"),
    ],
)
def test_options_that_cannot_be_are_one_clear_line(options, says, fewshot, trained, folder, tmp_path):
    ended = fewshot("predict", trained, folder, tmp_path / "out.csv", *options)
    assert ended.status == 2 and says in ended.err and len(ended.err.splitlines()) == 1 and not (tmp_path / "out.csv").exists()


def test_what_cannot_be_predicted_from_is_one_clear_line(fewshot, trained, classifier, folder, tmp_path):
    out = tmp_path / "out.csv"
    for arguments, says in [
        (
            (classifier, folder, out, "--method", "tip"),
            "has no text tower, which the method tip requires. Methods that do not: knn, linear",
        ),
        ((tmp_path / "none.pth", folder, out), "no such checkpoint"),
        ((trained, folder, tmp_path / "out.txt"), "RESULT: "),
        ((trained, folder, tmp_path), "is a folder. Pass a file"),
    ]:
        ended = fewshot("predict", *arguments)
        assert ended.status == 2 and says in ended.err and len(ended.err.splitlines()) == 1, ended.err
    ended = fewshot("predict", trained, tmp_path / "none", out)
    assert ended.status == 2 and "none: no such folder. Expected:" in ended.err and not out.exists()


# --- evaluate -----------------------------------------------------------------------------------------------------------------------------


def test_evaluate_shows_and_writes_what_numpy_finds(fewshot, trained, class_folders, tmp_path):
    options = ("--way", 3, "--shot", 1, 4, "--query", 5, "--episodes", 5, "--out", tmp_path / "out", "--features")
    ended = fewshot("evaluate", trained, class_folders, *options)
    assert ended.status == 0, ended.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"features.npz"}
    assert "36 images; 5 episodes of 3 out of 3 classes, 5 queries per class" in ended.out
    curve = rows_of(tmp_path / "out" / "fewshot_curve.csv")
    methods = ["prototype", "prototype", "linear", "linear", "tip", "tip"]
    assert [row["method"] for row in curve] == methods and [row["shot"] for row in curve] == ["1", "4"] * 3
    for row in curve:
        assert any(line.split()[:3] == [row["method"], row["shot"], f"{float(row['mean']):.4f}"] for line in ended.out.splitlines())
    assert "note: linear, 1 per class: a class has one example: nothing could be chosen" in ended.out
    about = AboutEpisodes.read(tmp_path / "out")
    assert about.images == 36 and len(about.classes) == 3 and about.query == 5 and about.model in ended.out
    kept = np.load(tmp_path / "out" / "features.npz")
    features, labels = kept["features"], kept["labels"]
    assert np.allclose(features, clipzoo.load(trained, device="cpu").encode_image([class_folders / i for i in kept["images"]]), atol=1e-5)
    pool = EpisodePool(labels, kept["groups"], kept["classes"].tolist(), Plan(3, (1, 4), 5, 5, 0))
    naive = []
    for number in range(5):
        episode = pool.draw(number)
        means = np.stack([features[own].mean(axis=0) for own in episode.support])
        cosines = features[episode.query] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        naive.append((cosines.argmax(axis=2) == np.arange(3)[:, None]).mean())
    assert float(curve[1]["mean"]) == pytest.approx(np.mean(naive), abs=1e-6)


def test_the_record_counts_only_classes_that_episodes_choose_from(fewshot, trained, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "images")
    small = sorted((tmp_path / "images").iterdir())[0]
    for image in sorted(small.iterdir())[2:]:
        image.unlink()
    ended = fewshot(
        "evaluate", trained, tmp_path / "images", "--way", 2, "--shot", 1, "--query", 3, "--episodes", 3, "--out", tmp_path / "o"
    )
    assert ended.status == 0 and str(tmp_path / "o" / "fewshot.json") in ended.err.splitlines()[-1], ended.err
    about = AboutEpisodes.read(tmp_path / "o")
    assert (about.images, about.groups, len(about.classes)) == (24, 24, 2) and small.name not in about.classes
    assert about.trained_classes == about.classes and "optimistic: the model was trained on 2 of these 2 classes (" in ended.err
    assert list(about.texts) == about.classes and any("1 classes left out" in note for note in about.notes)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_and_the_order_of_methods_no_others(fewshot, trained, class_folders, tmp_path):
    options = ("--way", 2, "--shot", 2, "--query", 3, "--episodes", 6)
    for name, methods in (("a", ["prototype", "knn"]), ("b", ["prototype", "knn"]), ("c", ["knn", "prototype"])):
        ended = fewshot("evaluate", trained, class_folders, *options, "--method", *methods, "--out", tmp_path / name)
        assert ended.status == 0 and "written:" in ended.err, ended.err
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    as_sets = [{tuple(row.values()) for row in rows_of(tmp_path / name / "episodes.csv")} for name in "ac"]
    assert as_sets[0] == as_sets[1] and len(as_sets[0]) == 12
    ended = fewshot("evaluate", trained, class_folders, *options, "--method", "knn", "--out", tmp_path / "a")
    assert ended.status == 2 and "exists with other content" in ended.err
    other = fewshot("evaluate", trained, class_folders, *options, "--method", "knn", "--seed", 1, "--out", tmp_path / "a", "--force")
    assert other.status == 0 and {row["method"] for row in rows_of(tmp_path / "a" / "episodes.csv")} == {"knn"}


def test_a_classifier_is_evaluated_without_texts(fewshot, classifier, class_folders):
    ended = fewshot("evaluate", classifier, class_folders, "--way", 3, "--shot", 1, "--query", 3, "--episodes", 3)
    assert ended.status == 0 and "linear" in ended.out and "tip" not in ended.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--way", "4", "--query", "2"], "from 7 different groups, but there are 3. Lower --way, --shot or --query"),
        (
            ["--method", "linear", "knn", "--class-texts", "x.json"],
            "--class-texts: only for methods that use class texts; linear, knn do not",
        ),
        (["--method", "knn", "knn"], "--method: knn is listed twice"),
        ([], "5-way episodes need 5 classes with 5 support and 15 query images from 20 different groups, but there are 0"),
        (["--way", "1"], "--way: 1 must be 2 or more"),
        (["--features"], "--features: written to the folder of --out"),
        (["--way", "3", "--group-pattern", "^([0-9])", "--query", "2"], "7 different groups, but there are 0. Too few groups: 圆 (1)"),
        (["--shot", "1", "1"], "--shot: 1 1 must be different numbers"),
    ],
)
def test_evaluations_that_cannot_be_are_one_clear_line(options, says, fewshot, trained, class_folders):
    ended = fewshot("evaluate", trained, class_folders, *options)
    assert ended.status == 2 and says in ended.err and len(ended.err.splitlines()) == 1 and not ended.out


def test_damaged_images_are_all_named(fewshot, trained, class_folders, tmp_path):
    copy = shutil.copytree(class_folders, tmp_path / "images")
    for name in ("000.png", "003.png"):
        (copy / "圆" / name).write_bytes((copy / "圆" / name).read_bytes()[:60])
    ended = fewshot("evaluate", trained, copy, "--way", 3, "--shot", 1, "--query", 3, "--episodes", 3, "--out", tmp_path / "out")
    assert ended.status == 2 and ended.err.count("圆/00") == 2 and not (tmp_path / "out").exists()


# --- the command --------------------------------------------------------------------------------------------------------------------------


def test_train_is_the_ordinary_training(command, write_config):
    plain = command("train", write_config(), "--dry-run")
    ended = command("fewshot", "train", write_config(), "--dry-run")
    assert ended.status == 0 == plain.status and ended.out == plain.out and "one step of" in ended.out


def test_the_commands_are_named(command):
    assert command("fewshot").out == command("fewshot", "--help").out and "evaluate" in command("fewshot").out
    ended = command("fewshot", "predct")
    assert ended.status == 2 and "no command 'predct'. Did you mean 'predict'? Commands: train, predict, evaluate" in ended.err
    for name in ("train", "predict", "evaluate"):
        assert "usage" in command("fewshot", name, "--help").out
