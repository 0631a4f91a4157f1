"""A whole run of a classifier: without captions, restarted, loaded again with equal predictions, started from texts, and refused."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from clip_files import open_clip_model
from tiny import tiny_config, write_class_folders, write_pairs

import clipzoo
from clipzoo.config import Config
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine import build, checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.runner import Runner
from clipzoo.errors import BuildError, CheckpointError, ConfigError
from clipzoo.inference import rescoring
from clipzoo.records.folds import Split
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.log import make_log

IMAGE = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}
MODEL = {"type": "ImageClassifier", "image_encoder": IMAGE, "loss": {"type": "FocalLoss", "class_weights": "balanced"}}


def config_with(root, name="classifier", model=MODEL, **sections) -> Config:
    return Config.from_dict({**tiny_config(root, **sections), "model": model}, name)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """Three classes of 12, 9 and 6 tiny pictures."""
    root = write_class_folders(tmp_path_factory.mktemp("unequal") / "images")
    for name, kept in (("圆", 9), ("条纹", 6)):
        for path in sorted((root / name).iterdir())[kept:]:
            path.unlink()
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory, unequal):
    from rich.console import Console

    folder = tmp_path_factory.mktemp("runs") / "classifier"
    validation = CrossValidation(config_with(unequal), folder, console=Console(quiet=True))
    return validation, validation.train(), folder


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    """A CLIP of 32 px as OpenAI saves one."""
    model = open_clip_model("vit", quick_gelu=True)
    model.logit_scale.data.fill_(math.log(20))
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    marks = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**model.state_dict(), **marks}, path)
    return str(path)


def test_a_fold_loaded_again_predicts_the_same_bits(finished, unequal):
    _, summary, folder = finished
    table = PredictionTable.read(folder / "fold_2" / "predictions.csv")
    loaded = clipzoo.load(folder / "fold_2", device="cpu")
    images = [unequal / case_id for case_id in table.case_ids]
    found = loaded.classify(images, batch_size=16)
    assert found.classes == loaded.classes == tuple(table.classes) and len(table.case_ids) < 16
    np.testing.assert_array_equal(found.probabilities.numpy(), table.probabilities)
    features = loaded.encode_image(images)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(images)))
    with torch.no_grad():
        raw = loaded.model.image_encoder(torch.stack([loaded.preprocess(_open(path)) for path in images]))
    torch.testing.assert_close(features, raw / raw.norm(dim=1, keepdim=True))
    assert repr(loaded).startswith("LoadedClassifier(") and loaded.describe()[-1].startswith("3 classes: ")
    assert summary.pooled["accuracy"] > 0


def _open(path):
    from PIL import Image

    return Image.open(path).convert("RGB")


def test_a_classifier_answers_no_texts(finished):
    loaded = clipzoo.load(finished[2] / "fold_1", device="cpu")
    image = torch.zeros(3, 32, 32)
    for call in (
        lambda: loaded.classify(image, ["a", "b"]),
        lambda: loaded.classify(image, templates="a photo of a {class_name}"),
        lambda: loaded.encode_text("a"),
        lambda: loaded.similarity(image, ["a"]),
    ):
        with pytest.raises(BuildError, match="is a classifier of 3 classes without a text side. Call classify without texts"):
            call()


def test_class_weights_are_those_of_the_fold_s_training_part(finished):
    validation, _, folder = finished
    seen = []
    for split in validation.folds.splits:
        labels = validation.dataset.labels[validation.dataset.rows_of(split.train)]
        counts = np.bincount(labels, minlength=3)
        weight = checkpoint.read(folder / split.name / "checkpoint_best.pth")["model"]["loss.weight_C"]
        np.testing.assert_allclose(weight, len(labels) / (3 * counts), rtol=1e-6)
        seen.append(tuple(counts))
    assert len(set(seen)) > 1 or seen[0] != (12, 9, 6)


def test_a_stopped_classifier_goes_on_bit_for_bit(finished, unequal, tmp_path, quiet, stopped_at):
    with stopped_at(2):
        CrossValidation(config_with(unequal), tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(config_with(unequal), tmp_path / "stopped", console=quiet).train(fold=1)
    whole, stopped = (checkpoint.read(f / "fold_1" / "checkpoint_latest.pth")["model"] for f in (finished[2], tmp_path / "stopped"))
    assert "loss.weight_C" in whole and all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_a_run_that_left_only_its_best_weights_starts_anew(finished, unequal, tmp_path, quiet, monkeypatch):
    """Its val part chose them: to train on from there would be another run."""
    _, _, whole = finished
    config = config_with(unequal)

    def cut_off(path, content):
        if path.name == checkpoint.LATEST:
            raise KeyboardInterrupt
        original(path, content)

    original = checkpoint.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "write", cut_off)
        CrossValidation(config, tmp_path, console=quiet).train(fold=1)
    left = {path.name for path in (tmp_path / "fold_1").glob("*.pth*")}
    assert left == {"checkpoint_best.pth.next"}
    CrossValidation(config, tmp_path, console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv"):
        assert (tmp_path / "fold_1" / name).read_bytes() == (whole / "fold_1" / name).read_bytes(), name


def test_scoring_again_and_scoring_other_images(finished, unequal, tmp_path, quiet):
    validation, _, folder = finished
    log = make_log(quiet, None)
    agreement = rescoring.score_again(validation, log)
    assert agreement.holds and agreement.largest == 0
    other = write_class_folders(tmp_path / "other", per_class=2, seed=9)
    external = rescoring.score_external(validation.config, folder, str(other), log)
    images = sorted(other.rglob("*.png"))
    found = [clipzoo.load(folder / name, device="cpu").classify(images).probabilities.double() for name in external.folds]
    table = external.tables["predictions.csv"]
    assert [str(other / case_id) for case_id in table.case_ids] == [str(path) for path in images]
    np.testing.assert_allclose(table.probabilities, torch.stack(found).mean(dim=0), atol=1e-6)


def from_texts(clip_file, head, **image):
    towers = {"image_encoder": {"type": "CLIPVision", "pretrained": clip_file, **image}, "text_encoder": f"weights:{clip_file}"}
    return {"type": "ImageClassifier", **towers, "head": head}


def test_before_training_a_classifier_started_from_texts_is_the_zero_shot_clip(class_folders, clip_file, tmp_path, quiet):
    """And afterwards its checkpoint needs no text tower."""
    config = config_with(
        class_folders, model=from_texts(clip_file, "CosineHead", freeze="all"), train={"epochs": 1}, data={"augmentation": "none"}
    )
    validation = CrossValidation(config, tmp_path / "work", console=quiet)
    split = validation.folds.splits[0]
    runner = Runner(config, validation.dataset, split, tmp_path / "fold", log=make_log(quiet, None), console=quiet)
    run = runner.run
    assert run.model.text_encoder is None and run.model.tokenizer is None
    prepare = evaluation_transform(run.model.preprocessing)
    images = torch.stack([prepare(_open(class_folders / case_id)) for case_id in split.test])
    clip = clipzoo.load(clip_file, device="cpu")
    captions = validation.dataset.captions.worded(clip.tokenizer)
    sentences = [captions.sentences[i] for ids in validation.dataset.class_captions() for i in ids]
    expected = clip.classify([class_folders / case_id for case_id in split.test], sentences).probabilities
    with torch.no_grad():
        logits = run.model.eval().logits(run.model.image_encoder(images))
    torch.testing.assert_close(logits.softmax(dim=1), expected, atol=1e-5, rtol=0)

    validation.train(fold=1)
    loaded = clipzoo.load(tmp_path / "work" / "fold_1", device="cpu")
    assert loaded.model.text_encoder is None and loaded.classes == validation.dataset.classes
    table = PredictionTable.read(tmp_path / "work" / "fold_1" / "predictions.csv")
    found = loaded.classify([class_folders / case_id for case_id in table.case_ids], batch_size=16)
    torch.testing.assert_close(found.probabilities, torch.from_numpy(table.probabilities), atol=1e-6, rtol=0)


def test_a_checkpoint_of_other_classes_is_one_line(finished, unequal, tmp_path, quiet):
    _, _, folder = finished
    more = write_class_folders(tmp_path / "more", classes=("方块", "圆", "条纹", "点"))
    renamed = write_class_folders(tmp_path / "renamed", classes=("方块", "圆", "线"))
    for root in (more, renamed):
        config = config_with(root)
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases)
        with pytest.raises(CheckpointError, match="checkpoint_latest.pth: belongs to another config and to other folds") as error:
            Runner(config, data, Split("fold_1", ids, (), ids), folder / "fold_1", log=make_log(quiet, None), console=quiet)
        assert "\n" not in str(error.value)


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(record.getMessage())


BALANCING = [("WeightedSampler", "balanced", True), ("WeightedSampler", None, False), (None, "balanced", False)]


@pytest.mark.parametrize(("sampler", "weights", "warned"), BALANCING)
def test_a_sampler_and_a_loss_that_both_balance_are_warned_of(unequal, tmp_path, quiet, sampler, weights, warned):
    model = {**MODEL, "loss": {"type": "CrossEntropyLoss", "class_weights": weights}}
    config = config_with(unequal, model=model, data={"sampler": sampler})
    data = build.dataset(config)
    log, lines = logging.Logger("test"), Lines()
    log.addHandler(lines)
    Runner(config, data, build.folds(config, data).splits[0], tmp_path / "run", log=log, console=quiet)
    said = [line for line in lines.lines if "both correct the imbalance" in line]
    assert len(said) == warned


@pytest.mark.parametrize("weights", [[0.5, 2, 1.25], "balanced"])
def test_class_weights_given_as_a_list_are_logged_beside_their_classes(tmp_path, quiet, weights):
    """In natural order, so 10 comes last: the list follows the order of the classes, and the log shows what it was taken for."""
    root = write_class_folders(tmp_path / "images", classes=("10", "9", "1"))
    config = config_with(root, model={**MODEL, "loss": {"type": "CrossEntropyLoss", "class_weights": weights}})
    data = build.dataset(config)
    run = Runner(config, data, build.folds(config, data).splits[0], tmp_path / "run", log=logging.Logger("test"), console=quiet).run
    said = [line for line in build.describe(run) if line.startswith("class weights as given")]
    assert said == ([] if weights == "balanced" else ["class weights as given: 1 0.5, 9 2, 10 1.25"])


def test_pairs_have_no_classes_to_tell_apart(tmp_path, quiet):
    values = {**tiny_config(tmp_path), "model": MODEL, "splits": {"type": "Holdout", "val_fraction": 0.25}}
    values["data"]["dataset"] = {"type": "PairsDataset", "path": str(write_pairs(tmp_path / "pairs"))}
    with pytest.raises(BuildError, match="tells classes apart, and the data have captions and no classes"):
        CrossValidation(Config.from_dict(values, "pairs"), tmp_path / "work", console=quiet).train()


def test_a_text_tower_that_is_dropped_cannot_be_unfrozen(class_folders, clip_file, tmp_path, quiet):
    config = config_with(
        class_folders, model=from_texts(clip_file, "CosineHead", freeze="all"), train={"unfreeze": [{"epoch": 1, "text_encoder": "all"}]}
    )
    with pytest.raises(ConfigError, match="ImageClassifier has no tower 'text_encoder'"):
        CrossValidation(config, tmp_path / "work", console=quiet).train(fold=1)
    assert not (tmp_path / "work").exists()
