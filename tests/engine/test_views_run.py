"""Runs with several images per case, and with test-time augmentation: every use of the models sees the same features."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import clipzoo
from clipzoo.baselines.run import Baselines, Options
from clipzoo.engine import checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import BuildError, ConfigError
from clipzoo.inference.export import weights_of
from clipzoo.inference.rescoring import score_again, score_external
from clipzoo.records.results import Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.registries import MODELS

LOG = logging.getLogger("test")
FROZEN = {"image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "freeze": "all"}}


@pytest.fixture
def patients(tmp_path, config_of):
    """Class folders with twelve patients of one to five images each, and the tiny config on them."""
    from tiny import write_class_folders

    root = write_class_folders(tmp_path / "images")
    for folder in root.iterdir():
        for path in sorted(folder.glob("*.png")):
            patient = int(np.searchsorted([1, 6, 9, 12], int(path.stem), side="right"))
            path.rename(path.with_name(f"{folder.name}{patient}_{path.stem}.png"))
    dataset = {"type": "ImageFolderDataset", "root": str(root), "group_pattern": r"^(.+)_\d"}

    def make(**sections):
        data = {"dataset": dataset, "views": "group", "batch_size": 4, **sections.pop("data", {})}
        return config_of(**{"data": data, "train": {"epochs": 2}, "splits": {"num_folds": 2, "val_fraction": 0.3}, **sections})

    return make


def test_cases_of_several_images_are_trained_scored_and_used(patients, tmp_path, quiet):
    config, folder = patients(data={"max_views": 3}), tmp_path / "run"
    CrossValidation(config, folder, console=quiet).train()
    table = PredictionTable.read(folder / "oof_predictions.csv")
    assert len(table.case_ids) == 12 == len(set(table.groups)) and Summary.read(folder).num_groups == 12
    assert score_again(CrossValidation(config, folder, console=quiet), LOG).rows == 12
    external = score_external(config, folder, str(tmp_path / "images"), LOG, allow_overlap=True)
    assert len(external.tables["predictions.csv"].case_ids) == 12
    Baselines(config, folder, Options(only=["knn"]), console=quiet).compute()
    assert PredictionTable.read(folder / "baselines/knn/oof_predictions.csv").case_ids == table.case_ids
    data = CrossValidation(config, folder, console=quiet).dataset
    row = next(row for row in range(12) if len(data.image_rows(row)) == 5)
    images = [str(data.single_images.path_of(i)) for i in data.image_rows(row)]
    at = table.case_ids.index(data.cases[row].id)
    loaded = clipzoo.load(folder / table.folds[at])
    found = loaded.classify([images, images[:1]], batch_size=2)
    np.testing.assert_allclose(found.probabilities[0], table.probabilities[at], atol=1e-6)
    np.testing.assert_allclose(found.probabilities[1], loaded.classify(images[0]).probabilities[0], atol=1e-6)
    np.testing.assert_allclose(
        clipzoo.load(folder).classify([images]).probabilities, external.tables["predictions.csv"].probabilities[[row]], atol=1e-6
    )


def test_a_stopped_run_goes_on_bit_for_bit(patients, tmp_path, quiet, stopped_at):
    config = patients(data={"max_views": 2})
    CrossValidation(config, tmp_path / "whole", console=quiet).train(fold=1)
    with stopped_at(2):
        CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    first, second = (checkpoint.read(tmp_path / name / "fold_1/checkpoint_latest.pth")["model"] for name in ("whole", "stopped"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("tta", [["flip", "shifts"], pytest.param(None, marks=pytest.mark.slow)])
def test_a_frozen_tower_gives_the_same_from_its_cached_features(patients, tmp_path, quiet, tta):
    tables = []
    for name, cache in (("kept", str(tmp_path / "cache")), ("read", None)):
        config = patients(
            model=FROZEN,
            data={"augmentation": "none"},
            evaluation={"tta": tta},
            runtime={"feature_cache": cache, "device": "cpu", "threads": 1},
        )
        CrossValidation(config, tmp_path / name, console=quiet).train(fold=1)
        tables.append(PredictionTable.read(tmp_path / name / "fold_1/predictions.csv"))
    np.testing.assert_allclose(tables[0].probabilities, tables[1].probabilities, atol=1e-5)


def test_every_use_of_a_model_averages_over_the_test_views(config_of, class_folders, tmp_path, quiet):
    config = config_of(evaluation={"tta": ["flip"], "calibrate": True}, splits={"num_folds": 2, "val_fraction": 0.3}, train={"epochs": 2})
    CrossValidation(config, tmp_path / "run", console=quiet).train()
    table = PredictionTable.read(tmp_path / "run/oof_predictions.csv")
    loaded = {name: clipzoo.load(tmp_path / "run" / name) for name in set(table.folds)}
    paths = [class_folders / case_id for case_id in table.case_ids[:6]]
    for row, path in enumerate(paths):
        mirrored = ImageOps.mirror(Image.open(path).convert("RGB"))
        found = loaded[table.folds[row]].classify([path, mirrored]).probabilities
        np.testing.assert_allclose(found[0], table.probabilities[row], atol=1e-6)
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)  # the mean over an image and its mirror image is that of its mirror image
    model = loaded["fold_1"]
    features = model.encode_image(paths)
    model.model.image_encoder.test_views = ()
    assert not np.allclose(features, model.encode_image(paths), atol=1e-3)
    assert score_again(CrossValidation(config, tmp_path / "run", console=quiet), LOG).holds


def test_an_export_says_that_it_leaves_out_test_views(config_of, tmp_path, quiet):
    towers = {
        "image_encoder": {"type": "CLIPVision", "image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "heads": 2, "output_dim": 16},
        "text_encoder": {"type": "CLIPText", "width": 32, "heads": 2, "layers": 1, "output_dim": 16},
        "embed_dim": 16,
    }
    config = config_of(model=towers, evaluation={"tta": ["flip"]}, train={"epochs": 1})
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    with pytest.warns(UserWarning, match="was scored with evaluation.tta, which the exported weights do not include"):
        weights_of(tmp_path / "run/fold_1", "export")


def test_what_does_not_fit_is_refused_before_training(patients, config_of, tmp_path, quiet, monkeypatch):
    cases = [
        (patients(data={"augmentation": ["minimal", "MixUp"]}), ConfigError, "MixUp cannot be used with data.views"),
        (config_of(data={"views": "设备"}), ConfigError, "data.views: there is no attribute '设备'. Known: group"),
        (config_of(data={"max_views": 2}), ConfigError, "data.max_views: has no effect without data.views"),
        (config_of(evaluation={"tta": ["flips"]}), ConfigError, "evaluation.tta"),
    ]
    for config, error, message in cases:
        with pytest.raises(error, match=message):
            CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    monkeypatch.setattr(MODELS.get("CLIP"), "takes_views", False)
    with pytest.raises(ConfigError, match=r"data.views: CLIP does not support several images per case \(no takes_views\)"):
        CrossValidation(patients(), tmp_path / "run", console=quiet).train(fold=1)
    monkeypatch.setattr(MODELS.get("CLIP"), "takes_features", False)
    with pytest.raises(BuildError, match=r"evaluation.tta: CLIP does not support it"):
        CrossValidation(config_of(evaluation={"tta": ["flip"]}), tmp_path / "run", console=quiet).train(fold=1)
