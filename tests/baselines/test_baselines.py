"""Baselines on frozen features: against scikit-learn and open_clip, on the folds of the experiment, without a look at the test part."""

from __future__ import annotations

import copy
import json
import logging
import math
import shutil

import clip_files
import numpy as np
import open_clip
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from tiny import tiny_config, write_pairs

from clipzoo.baselines import run as module
from clipzoo.baselines.predictions import Frozen, predict_fold
from clipzoo.baselines.run import Baselines, Options, chosen_methods
from clipzoo.baselines.towers import ClassTexts, build_tower, class_texts
from clipzoo.config import Config
from clipzoo.engine import build
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import CheckpointError, ConfigError, DataError
from clipzoo.features.dataset import dataset_features
from clipzoo.features.store import FeatureStore
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.probes import LinearProbe, MajorityClass, Probe
from clipzoo.records.folds import Folds
from clipzoo.records.results import Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.seeds import derived_seed, seed_everything
from clipzoo.scoring.baselines import Comparison, Record
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.intervals import classification_intervals
from clipzoo.statistics.uncertainty.retraining import widening, without_blocks

FREE = ("majority", "prototype", "knn", "linear")


@pytest.fixture(scope="module")
def made(tmp_path_factory, class_folders):
    """The work dir of the tiny config with its baselines, and that config; read only."""
    from rich.console import Console

    config = Config.from_dict(tiny_config(class_folders), "tiny")
    folder = tmp_path_factory.mktemp("baselines") / "run"
    Baselines(config, folder, Options(), console=Console(quiet=True)).compute()
    return folder, config


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two CLIPs of open_clip with different weights, and their folders."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for seed in (0, 1):
        model = clip_files.scatter(clip_files.open_clip_model(), seed)
        sizes = {"embed_dim": clip_files.EMBED_DIM, "vision_cfg": clip_files.VISION["vit"], "text_cfg": clip_files.TEXT}
        clip_files.save_open_clip_folder(model, folder / str(seed), sizes)
        found.append((model, folder / str(seed)))
    return found


def of_a_clip(path, other=None):
    return {"image_encoder": f"weights:{path}", "text_encoder": f"weights:{other or path}", "embed_dim": None}


def features_of(config):
    """Unit-length features of the tower that the baselines use, row by row, and the dataset."""
    data = build.dataset(config)
    seed_everything(derived_seed(42, "baselines"))
    tower = build_tower(config, "image_encoder", None, torch.device("cpu"))
    rows = np.arange(len(data))
    found = dataset_features(tower, data, rows, FeatureStore.of(None), device=torch.device("cpu"), batch_size=7, num_workers=0)
    return found / np.linalg.norm(found, axis=1, keepdims=True), data


def test_every_case_once_on_the_folds_of_the_experiment(made):
    folder, _ = made
    folds = Folds.read(folder / "folds.json")
    fold_of = {case_id: split.name for split in folds.splits for case_id in split.test}
    assert sorted(path.name for path in (folder / "baselines").iterdir()) == sorted([*FREE, "summary.json"])
    for name in FREE:
        table = PredictionTable.read(folder / "baselines" / name / "oof_predictions.csv")
        assert dict(zip(table.case_ids, table.folds, strict=True)) == fold_of and len(table.case_ids) == 36
        summary = Summary.read(folder / "baselines" / name)
        assert summary.folds_digest == folds.digest and [fold["fold"] for fold in summary.folds] == ["fold_1", "fold_2", "fold_3"]
        expected = balanced_accuracy_score(table.labels, table.probabilities.argmax(axis=1))
        assert summary.pooled["balanced_accuracy"] == pytest.approx(expected)
        np.testing.assert_allclose(table.probabilities.sum(axis=1), 1, atol=1e-6)


def test_linear_probe_and_knn_are_scikit_learns(made):
    folder, config = made
    features, data = features_of(config)
    for name in ("linear", "knn"):
        table = PredictionTable.read(folder / "baselines" / name / "oof_predictions.csv")
        found = dict(zip(table.case_ids, table.probabilities, strict=True))
        chosen = {fold["fold"]: fold["chosen"] for fold in Summary.read(folder / "baselines" / name).folds}
        for split in Folds.read(folder / "folds.json").splits:
            train, test = (data.rows_of(part) for part in (split.train, split.test))
            if name == "linear":
                spread = features[train].astype(np.float64).var(axis=0).sum()
                model = LogisticRegression(C=chosen[split.name]["c"] / spread, max_iter=2000, tol=1e-8)
            else:
                model = KNeighborsClassifier(int(chosen[split.name]["k"]), metric="cosine")
            expected = model.fit(features[train].astype(np.float64), data.labels[train]).predict_proba(features[test].astype(np.float64))
            np.testing.assert_allclose(np.stack([found[i] for i in split.test]), expected, atol=2e-4)


def test_intervals_allow_for_learning_from_other_cases(made):
    folder, config = made
    features, data = features_of(config)
    splits = Folds.read(folder / "folds.json").splits
    summary = Summary.read(folder / "baselines" / "knn")
    k_of = {fold["fold"]: int(fold["chosen"]["k"]) for fold in summary.folds}

    def cases_without(gone):
        """Cross-validation of scikit-learn's kNN without some cases."""
        kept = [i for split in splits for i in split.test if i not in gone]
        probabilities = np.zeros((len(data), 3))
        for split in splits:
            train, test = (data.rows_of([i for i in part if i not in gone]) for part in (split.train, split.test))
            model = KNeighborsClassifier(k_of[split.name], metric="cosine").fit(features[train], data.labels[train])
            probabilities[test] = model.predict_proba(features[test])
        rows = data.rows_of(sorted(kept))
        return Cases.from_arrays(data.labels[rows], probabilities[rows])

    cases = cases_without(set())
    ids = sorted(case.id for case in data.cases)
    left_out = [cases_without({ids[row] for row in np.flatnonzero(~kept)}) for kept in without_blocks(cases)]
    factors = widening(cases, left_out)
    assert factors["accuracy", None] > 1
    for name, interval in classification_intervals(cases, widening=factors).overall.items():
        if name in summary.intervals:
            found = summary.intervals[name]
            assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=1e-4)
            assert found["widening"] == pytest.approx(factors[name, None], rel=1e-3)
    assert "for learning from other cases" in Comparison.read(folder).text()


def test_a_holdout_has_nothing_to_learn_again(class_folders, tmp_path, quiet):
    splits = {"type": "Holdout", "seed": 0, "test_fraction": 0.3, "val_fraction": 0.2}
    config = Config.from_dict({**tiny_config(class_folders), "splits": splits}, "tiny")
    found = Baselines(config, tmp_path / "run", Options(only=["knn"]), console=quiet).compute()
    assert "widening" not in found.summaries["knn"].intervals["accuracy"] and "learning from other cases" not in found.text()


def test_majority_is_the_share_of_the_classes_in_the_train_part(made):
    folder, config = made
    data = build.dataset(config)
    table = PredictionTable.read(folder / "baselines" / "majority" / "oof_predictions.csv")
    for split in Folds.read(folder / "folds.json").splits:
        shares = np.bincount(data.labels[data.rows_of(split.train)], minlength=3) / len(split.train)
        mine = [row for row, fold in enumerate(table.folds) if fold == split.name]
        np.testing.assert_allclose(table.probabilities[mine], np.tile(shares, (len(mine), 1)), atol=1e-6)


def test_nothing_is_known_of_the_test_part(made):
    _, config = made
    features, data = features_of(config)
    split = build.folds(config, data).splits[0]
    test, train = data.rows_of(split.test), data.rows_of(split.train)
    other = copy.copy(data)
    other.labels_if_any = data.labels.copy()
    other.labels[test] = np.roll(other.labels[test], 5)
    noisy = features.copy()
    noisy[data.rows_of(split.val)] = np.nan  # the val part is not learnt from either
    for name, kind in chosen_methods(FREE).items():
        expected, chosen, _ = predict_fold(kind(), data, split, Frozen(features))
        found, chosen_then, _ = predict_fold(kind(), other, split, Frozen(noisy))
        np.testing.assert_array_equal(found.probabilities, expected.probabilities, err_msg=name)
        assert chosen == chosen_then and not np.array_equal(found.labels, expected.labels)
    other.labels[train] = np.roll(other.labels[train], 5)
    changed, _, _ = predict_fold(LinearProbe(), other, split, Frozen(features))
    assert not np.allclose(changed.probabilities, predict_fold(LinearProbe(), data, split, Frozen(features))[0].probabilities)


def test_groups_stay_together_inside_the_train_part(config_of, class_folders):
    data = {"dataset": {"type": "ImageFolderDataset", "root": str(class_folders), "group_pattern": "^(0.)"}}
    dataset = build.dataset(config_of(data=data))
    split = build.folds(config_of(), build.dataset(config_of())).splits[0]
    seen = []

    class Spy(MajorityClass):
        def learn(self, examples):
            seen.append(examples)
            return super().learn(examples)

    features = np.eye(len(dataset), dtype=np.float32)
    predict_fold(Spy(), dataset, split, Frozen(features))
    (examples,) = seen
    rows = dataset.rows_of(split.train)
    assert examples.features.argmax(axis=1).tolist() == rows.tolist() and examples.text is None
    groups = [dataset.cases[row].group for row in rows]
    assert [groups[i] == groups[j] for i in range(9) for j in range(9)] == [
        examples.groups[i] == examples.groups[j] for i in range(9) for j in range(9)
    ]
    predict_fold(Spy(), build.dataset(config_of()), split, Frozen(features))
    assert seen[1].groups is None  # each case stands alone


def test_what_is_to_be_said_names_classes_and_joins_folds(config_of, tmp_path, quiet, class_folders):
    copy = shutil.copytree(class_folders, tmp_path / "images")
    for image in sorted((copy / "圆").iterdir())[1:]:
        image.unlink()
    config = config_of(copy, splits={"type": "StratifiedGroupKFold", "num_folds": 3, "min_groups_per_class": 1, "val_fraction": 0})
    found = Baselines(config, tmp_path / "run", Options(only=["prototype"]), console=quiet).compute()
    split = next(split for split in build.folds(config, build.dataset(config)).splits if any("圆" in case for case in split.test))
    others = ", ".join(name for name in ("fold_1", "fold_2", "fold_3") if name != split.name)
    assert sorted(found.summaries["prototype"].notes) == sorted(
        [
            f"{split.name}: without an example, and so never predicted: class '圆'",
            f"{others}: a class has one example: nothing could be chosen by cross-validation, temperature=0.01 was taken",
        ]
    )


def test_images_are_encoded_once_and_known_features_not_at_all(config_of, tmp_path, quiet, monkeypatch):
    encoded = []
    forward = TimmBackbone.forward
    monkeypatch.setattr(TimmBackbone, "forward", lambda self, images: encoded.append(len(images)) or forward(self, images))
    config = config_of(runtime={"feature_cache": str(tmp_path / "cache")})
    wanted = Options(batch_size=10, only=["knn", "prototype"])
    Baselines(config, tmp_path / "a", wanted, console=quiet).compute()
    assert sum(encoded) == 36
    Baselines(config, tmp_path / "b", wanted, console=quiet).compute()
    assert sum(encoded) == 36
    first, second = ((tmp_path / run / "baselines/prototype/oof_predictions.csv").read_bytes() for run in "ab")
    assert first == second


@pytest.mark.slow
def test_a_second_start_makes_what_is_missing(config_of, tmp_path, quiet):
    folder = tmp_path / "run"
    Baselines(config_of(), folder, Options(only=["knn"]), console=quiet).compute()
    before = (folder / "baselines/knn/cv_summary.json").stat().st_mtime_ns
    found = Baselines(config_of(), folder, Options(only=["majority", "knn"]), console=quiet).compute()
    assert list(found.summaries) == ["majority", "knn"] and (folder / "baselines/knn/cv_summary.json").stat().st_mtime_ns == before
    (folder / "baselines/knn/cv_summary.json").unlink()
    again = Baselines(config_of(), folder, Options(only=["knn"]), console=quiet).compute()
    assert again.summaries["knn"].pooled == found.summaries["knn"].pooled


@pytest.mark.parametrize(
    ("changes", "balanced"),
    [
        ({}, False),
        ({"data": {"sampler": {"type": "WeightedSampler"}}}, True),
        ({"data": {"sampler": {"type": "WeightedSampler"}}, "evaluation": {"balance_baselines": False}}, False),
        ({"evaluation": {"balance_baselines": True}}, True),
    ],
)
def test_baselines_balance_classes_as_the_training_does(config_of, tmp_path, quiet, changes, balanced):
    Baselines(config_of(**changes), tmp_path / "run", Options(only=["knn"]), console=quiet).compute()
    (about,) = Record.read(tmp_path / "run").methods.values()
    assert about["chosen_by"] == "balanced_accuracy" and about["balanced"] is balanced


def test_class_weights_of_the_loss_balance_too():
    from clipzoo.config import Config

    assert module.balances_classes(Config.load("classification/r18_linear_hip_5fold_balanced"))
    assert not module.balances_classes(Config.load("classification/r18_linear_digits_5fold"))


def test_a_baseline_fitted_otherwise_is_computed_again(config_of, tmp_path, quiet):
    """The key says nothing about the training, so a finished one may stay where it is."""
    folder = tmp_path / "run"
    Baselines(config_of(), folder, Options(only=["knn"]), console=quiet).compute()
    Baselines(config_of(evaluation={"balance_baselines": True}), folder, Options(only=["knn"]), console=quiet).compute()
    assert Record.read(folder).methods["knn"]["balanced"] is True


@pytest.mark.slow
def test_training_goes_on_with_the_same_folds(made, tmp_path, quiet):
    folder, config = made
    run = shutil.copytree(folder, tmp_path / "run")
    before = (run / "folds.json").read_bytes()
    summary = CrossValidation(config, run, console=quiet).train()
    assert (run / "folds.json").read_bytes() == before and summary.folds_digest == Comparison.read(run).record.folds_digest
    assert "trained model" in Comparison.read(run).text(summary)


def test_another_tower_or_config_is_refused(made, config_of, tmp_path, quiet):
    folder, config = made
    with pytest.raises(CheckpointError, match=r"another image tower \(test_resnet, weights random; now test_vit, weights random\)"):
        Baselines(config, folder, Options(image_encoder="timm:test_vit"), console=quiet).compute()
    with pytest.raises(CheckpointError, match="made with another config"):
        Baselines(config_of(splits={"seed": 1}), folder, Options(), console=quiet)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="not a work dir"):
        Baselines(config, tmp_path, Options(), console=quiet)


@pytest.mark.slow
def test_zero_shot_is_open_clips(clips, config_of, tmp_path, quiet):
    reference, path = clips[0]
    config = config_of(model=of_a_clip(path))
    templates = ["a photo of a {class_name}", "an X-ray of {class_name}."]
    Baselines(config, tmp_path / "run", Options(templates=templates, only=["zero_shot", "tip"]), console=quiet).compute()
    table = PredictionTable.read(tmp_path / "run/baselines/zero_shot/oof_predictions.csv")
    data = build.dataset(config)
    features, _ = features_of(config)
    wanted = build_tower(config, "image_encoder", None, torch.device("cpu")).preprocessing
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        texts = [reference.encode_text(tokenizer([t.format(class_name=c) for t in templates]), normalize=True) for c in data.classes]
    text_CD = torch.nn.functional.normalize(torch.stack([found.mean(dim=0) for found in texts]), dim=-1).numpy()
    logits = reference.logit_scale.exp().item() * features.astype(np.float64) @ text_CD.T
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    rows = [data.rows[case_id] for case_id in table.case_ids]
    np.testing.assert_allclose(table.probabilities, expected[rows], atol=1e-4)
    with torch.no_grad():
        images = open_clip.transform.image_transform(32, is_train=False, mean=wanted.mean, std=wanted.std)
        pixels = torch.stack([images(data.read_image(row)) for row in range(4)])
        np.testing.assert_allclose(reference.encode_image(pixels, normalize=True).numpy(), features[:4], atol=2e-3)
    assert {"zero_shot", "tip"} == set(Comparison.read(tmp_path / "run").summaries)


@pytest.mark.slow
def test_other_texts_or_another_text_tower_are_refused(clips, config_of, tmp_path, quiet):
    (_, path), (_, other) = clips
    config = config_of(model=of_a_clip(path))
    Baselines(config, tmp_path / "run", Options(only=["zero_shot"]), console=quiet).compute()
    with pytest.raises(CheckpointError, match="computed with other texts"):
        Baselines(config, tmp_path / "run", Options(templates=["{class_name}"]), console=quiet).compute()
    found = Baselines(config, tmp_path / "run", Options(text_encoder=f"weights:{other}", only=["majority"]), console=quiet).compute()
    assert set(found.summaries) == {"majority", "zero_shot"}


@pytest.mark.slow
def test_texts_of_another_model_are_left_out_in_one_line(clips, config_of, tmp_path, quiet):
    (_, path), (_, other) = clips
    config = config_of(model={**of_a_clip(path, other), "embed_dim": 8})
    comparison = Baselines(config, tmp_path / "run", Options(only=["majority", "zero_shot", "tip"]), console=quiet).compute()
    assert list(comparison.summaries) == ["majority"]
    assert any("zero_shot, tip: left out" in note and "do not come from one model" in note for note in comparison.record.notes)
    with pytest.raises(ConfigError, match="--only: zero_shot cannot be computed, the image tower .* do not come from one model"):
        Baselines(config, tmp_path / "run", Options(only=["zero_shot"]), console=quiet).compute()


def test_the_temperature_of_class_means_is_by_default_that_of_the_weights(clips, config_of, tmp_path, quiet, monkeypatch):
    reference, path = clips[0]
    seen = []
    original = module.predict_folds
    monkeypatch.setattr(module, "predict_folds", lambda *known, **jobs: seen.append(known[3]) or original(*known, **jobs))
    Baselines(config_of(model=of_a_clip(path)), tmp_path / "run", Options(only=["prototype"]), console=quiet).compute()
    assert seen[0].texts is None and seen[0].logit_scale == pytest.approx(math.exp(reference.logit_scale.item()), rel=1e-5)


def test_texts_have_length_1(clips, config_of):
    config = config_of(model=of_a_clip(clips[0][1]))
    tower = build_tower(config, "image_encoder", None, torch.device("cpu"))
    texts = class_texts(config, tower, build.dataset(config), logging.Logger("x"), text_encoder=None, templates=())
    assert isinstance(texts, ClassTexts) and texts.features.shape == (3, 24)
    np.testing.assert_allclose(np.linalg.norm(texts.features, axis=1), 1, atol=1e-5)


def test_how_training_freezes_the_tower_does_not_matter(config_of):
    config = config_of(model={"image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "unfreeze_blocks": 1}})
    tower = build_tower(config, "image_encoder", None, torch.device("cpu"))
    assert tower.frozen and tower.unfreeze_blocks is None and not tower.training


def test_pairs_have_no_baselines(config_of, tmp_path, quiet):
    root = write_pairs(tmp_path / "pairs")
    config = config_of(data={"dataset": {"type": "PairsDataset", "path": str(root)}})
    with pytest.raises(ConfigError, match="PairsDataset has captions but no classes. Baselines require class labels") as caught:
        Baselines(config, tmp_path / "run", Options(), console=quiet)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_damaged_image_leaves_no_work_dir(config_of, tmp_path, quiet, class_folders):
    root = shutil.copytree(class_folders, tmp_path / "images")
    damaged = next(root.rglob("003.png"))
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DataError, match=r"003\.png"):
        Baselines(config_of(root), tmp_path / "run", Options(), console=quiet).compute()
    assert not (tmp_path / "run").exists()


def test_methods_by_name():
    assert list(chosen_methods(())) == ["majority", "zero_shot", "prototype", "knn", "linear", "tip"]
    assert list(chosen_methods(["linear", "majority"])) == ["majority", "linear"]
    assert all(issubclass(kind, Probe) for kind in chosen_methods(()).values())
    with pytest.raises(ConfigError, match=r"--only: unknown method 'lin'\. Did you mean 'linear'\? Known: majority, "):
        chosen_methods(["lin"])


def test_the_record_says_what_the_baselines_are_made_of(made):
    folder, _ = made
    record = json.loads((folder / "baselines" / "summary.json").read_text())
    assert record["select"] == "balanced_accuracy" and record["greater_is_better"] is True and set(record["methods"]) == set(FREE)
    assert record["image_encoder"] == "test_resnet, weights random" and len(record["image_digest"]) == 32
    assert any("random weights" in note for note in record["notes"])


def test_a_method_of_a_plugin_is_one_of_them(config_of, tmp_path, quiet, monkeypatch):
    from clipzoo.registries import PROBES

    len(PROBES)
    monkeypatch.setattr(PROBES, "_classes", dict(PROBES._classes))
    (tmp_path / "my_probe.py").write_text(
        "from clipzoo.probes import MajorityClass\nfrom clipzoo.registries import PROBES\n\n\n"
        "@PROBES.register_module()\nclass MyProbe(MajorityClass):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = Baselines(config_of(plugins=["my_probe"]), tmp_path / "run", Options(only=["mine", "majority"]), console=quiet).compute()
    assert list(found.summaries) == ["majority", "mine"] and found.summaries["mine"].pooled == found.summaries["majority"].pooled
