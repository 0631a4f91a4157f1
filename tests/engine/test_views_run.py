"""Runs with several images per case, and with test-time augmentation: every use of the models sees the same features."""

import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from processes import in_processes, launch
from tiny import tiny_config

import clipzoo
from clipzoo.baselines.run import Baselines, Options
from clipzoo.baselines.towers import build_tower
from clipzoo.config import Config
from clipzoo.engine import build, checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.runner import Runner
from clipzoo.errors import BuildError, ConfigError, DataError
from clipzoo.features.digest import feature_digest
from clipzoo.inference.export import weights_of
from clipzoo.inference.rescoring import score_again, score_external
from clipzoo.records.folds import Split
from clipzoo.records.results import Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.registries import MODELS
from clipzoo.runtime import distributed
from clipzoo.runtime.log import make_console, make_log

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
    with pytest.warns(UserWarning, match="the model was trained on several images per case .data.views., but here every image is a case"):
        single = loaded.classify(images[0]).probabilities[0]
    with pytest.raises(DataError, match="images: the list of the case at position 1 is empty"):
        loaded.classify([images, []])
    np.testing.assert_allclose(found.probabilities[0], table.probabilities[at], atol=1e-6)
    np.testing.assert_allclose(found.probabilities[1], single, atol=1e-6)
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


def test_a_limit_of_images_holds_with_cached_features_too(patients, tmp_path, quiet):
    tables = {}
    for most, cache in ((None, "cache"), (1, "cache"), (1, None)):
        config = patients(
            model=FROZEN,
            data={"augmentation": "none", "max_views": most},
            runtime={"feature_cache": cache and str(tmp_path / cache), "device": "cpu", "threads": 1},
        )
        CrossValidation(config, tmp_path / f"{most} {cache}", console=quiet).train(fold=1)
        tables[most, cache] = PredictionTable.read(tmp_path / f"{most} {cache}/fold_1/predictions.csv").probabilities
    np.testing.assert_allclose(tables[1, "cache"], tables[1, None], atol=1e-5)
    assert not np.allclose(tables[None, "cache"], tables[1, None], atol=1e-4)


def test_baselines_share_the_features_of_training(config_of):
    config = config_of(model=FROZEN)
    trained = build.model(config, torch.device("cpu"), num_classes=3).image_tower
    other = build_tower(config, "image_encoder", None, torch.device("cpu"))
    other.load_state_dict(trained.state_dict())
    assert feature_digest(other, other.preprocessing) == feature_digest(trained, trained.preprocessing)


@pytest.mark.slow
def test_other_images_that_nothing_joins_are_scored_one_by_one_with_a_warning(patients, tmp_path, quiet, caplog):
    config, folder = patients(train={"epochs": 1}), tmp_path / "run"
    groups = tmp_path / "groups.csv"
    root = Path(config.data.dataset.root)
    ids = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    groups.write_text("\n".join(["path,group", *(f"{i},{i.rpartition('_')[0]}" for i in ids)]), encoding="utf-8")
    config = config.plain()
    config["data"]["dataset"] = {"type": "ImageFolderDataset", "root": str(root), "groups": str(groups)}
    config = Config.from_dict(config, "tiny")
    CrossValidation(config, folder, console=quiet).train()
    with caplog.at_level(logging.INFO):
        external = score_external(config, folder, str(root), LOG, allow_overlap=True)
    assert len(external.tables["predictions.csv"].case_ids) == 36
    assert "nothing says which images are of one case (data.views), so each image is scored as one" in caplog.text


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


@pytest.mark.slow
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
        (config_of(evaluation={"tta": ["flip", "flip"]}), ConfigError, "evaluation.tta: a kind of views is repeated"),
    ]
    for config, error, message in cases:
        with pytest.raises(error, match=message):
            CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    for seed in range(4):  # whichever case comes first, one has a single image
        small = {
            "image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 16},
            "loss": {"type": "CaptionCrossEntropyLoss"},
        }
        config = patients(model=small, data={"batch_size": 1}, runtime={"seed": seed, "device": "cpu", "threads": 1})
        with pytest.raises(ConfigError, match="data.batch_size: in a batch of one case, batch normalisation sees a single value"):
            CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    monkeypatch.setattr(MODELS.get("CLIP"), "takes_views", False)
    with pytest.raises(ConfigError, match=r"data.views: CLIP does not support several images per case \(no takes_views\)"):
        CrossValidation(patients(), tmp_path / "run", console=quiet).train(fold=1)
    monkeypatch.setattr(MODELS.get("CLIP"), "takes_features", False)
    with pytest.raises(BuildError, match=r"evaluation.tta: CLIP does not support it"):
        CrossValidation(config_of(evaluation={"tta": ["flip"]}), tmp_path / "run", console=quiet).train(fold=1)


def make_runner(images: Path, folder: Path, kind: str) -> Runner:
    """Four joint steps on the cases of several images, or on mixed images, without batch normalisation."""
    tower = {"type": "TimmBackbone", "name": "test_vit", "image_size": 32}
    text = {"type": "CLIPText", "context_length": 48, "width": 16, "heads": 2, "layers": 2}
    data = {"batch_size": 4 // distributed.world_size(), "augmentation": "none"}
    dataset = {"type": "ImageFolderDataset", "root": str(images)}
    if kind == "views":
        data |= {"views": "group", "max_views": 2, "dataset": {**dataset, "group_pattern": r"^(.+)_\d"}}
    else:
        data["augmentation"] = [{"type": "MixUp", "alpha": 1.0}, "CutMix"]
    config = tiny_config(images, model={"image_encoder": tower, "text_encoder": text}, data=data, train={"epochs": 2}, hooks=[])
    config["optimizer"] = {"type": "AdamW", "lr": 1e-3, "eps": 1e-4}  # a gradient near eps would turn rounding into a step
    loaded = Config.from_dict(config, "tiny")
    cases, console = build.dataset(loaded), make_console(quiet=True)
    split = Split("fold_1", train=tuple(case.id for case in cases.cases[:8]), val=(), test=(cases.cases[-1].id,))
    return Runner(loaded, cases, split, folder / f"{kind}-{distributed.world_size()}", log=make_log(console, None), console=console)


def train_both(images: Path, folder: Path, rank: int) -> None:
    """One of the processes."""
    for kind in ("views", "mixing"):
        make_runner(images, folder, kind).fit()


@pytest.mark.slow
def test_two_processes_train_as_one(patients, tmp_path):
    images = tmp_path / "images"
    launch(__file__, images, tmp_path)
    train_both(images, tmp_path, 0)
    one, two = (checkpoint.read(tmp_path / f"views-{n}" / checkpoint.LATEST) for n in (1, 2))
    assert one["state"]["step"] == two["state"]["step"] == 4
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-4, atol=2e-6, msg=name)


if __name__ == "__main__":
    in_processes(2, partial(train_both, Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[2]))
