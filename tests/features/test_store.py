"""Features of a frozen tower: computed once, found by what makes them, and the same as running the tower."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from checkpoint_files import saved
from PIL import Image
from processes import in_processes, launch
from small_towers import IMAGES, build, spec_of
from tiny import tiny_config, write_class_folders

import clipzoo
from clipzoo.config import Config
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.errors import DataError
from clipzoo.features.dataset import dataset_features
from clipzoo.features.digest import feature_digest
from clipzoo.features.store import FILE, FeatureStore
from clipzoo.inference.files import encode_files
from clipzoo.models.backbones import TimmBackbone
from clipzoo.records.tables import PredictionTable
from clipzoo.registries import BACKBONES
from clipzoo.structures import Preprocessing

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file of weights: a tower of published ones is the same in every fold."""
    path = tmp_path_factory.mktemp("weights") / "tower.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


@pytest.fixture
def tower(weights):
    return TimmBackbone("test_resnet", pretrained=str(weights), image_size=32, freeze="all")


@pytest.fixture
def seen(monkeypatch):
    """How many images every call of a timm tower got."""
    calls: list[int] = []
    forward = TimmBackbone.forward

    def counted(self, images):
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(TimmBackbone, "forward", counted)
    return calls


def features_of(tower, data, store, rows=None) -> np.ndarray:
    rows = np.arange(len(data)) if rows is None else rows
    return dataset_features(tower, data, rows, store, device=CPU, batch_size=8, num_workers=0)


def frozen_config(root: Path, weights: Path, **sections) -> Config:
    image = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "pretrained": str(weights), "freeze": "all"}
    base = tiny_config(root, model={"image_encoder": image}, data={"augmentation": "none"})
    return Config.from_dict({**base, **{name: {**base.get(name, {}), **values} for name, values in sections.items()}}, "frozen")


# --- training ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_tower(
    class_folders,
    weights,
    tmp_path_factory,
):
    """Out-of-fold predictions of a run whose frozen tower is called for every batch."""
    from rich.console import Console

    folder = tmp_path_factory.mktemp("runs") / "tower"
    CrossValidation(frozen_config(class_folders, weights, runtime={"feature_cache": None}), folder, console=Console(quiet=True)).train()
    return PredictionTable.read(folder / "oof_predictions.csv")


@pytest.mark.slow
def test_all_folds_and_epochs_see_every_image_once_and_give_the_same_numbers(class_folders, weights, by_tower, seen, tmp_path, quiet):
    config = frozen_config(class_folders, weights, runtime={"feature_cache": str(tmp_path / "cache")})
    CrossValidation(config, tmp_path / "run", console=quiet).train()
    assert sum(seen) == 36
    table = PredictionTable.read(tmp_path / "run" / "oof_predictions.csv")
    assert table.case_ids == by_tower.case_ids
    np.testing.assert_allclose(table.probabilities, by_tower.probabilities, atol=1e-4)
    assert "features of 36 cases, from 0 newly encoded images" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")


@pytest.mark.slow
def test_with_random_changes_only_what_is_scored_is_looked_up(class_folders, weights, seen, tmp_path, quiet):
    sections = {"runtime": {"feature_cache": str(tmp_path / "cache")}, "data": {"augmentation": "minimal"}, "train": {"epochs": 3}}
    validation = CrossValidation(frozen_config(class_folders, weights, **sections), tmp_path / "run", console=quiet)
    validation.train(fold=1)
    split = validation.folds.splits[0]
    assert sum(seen) == 3 * len(split.train) + len(split.val) + len(split.test)


def test_a_tower_that_learns_is_not_cached_and_a_dry_run_keeps_nothing(class_folders, weights, tmp_path, quiet):
    cache = tmp_path / "cache"
    frozen = frozen_config(class_folders, weights, runtime={"feature_cache": str(cache)}).plain()
    learning = {**frozen, "model": {**frozen["model"], "image_encoder": {**frozen["model"]["image_encoder"], "freeze": "none"}}}
    CrossValidation(Config.from_dict(learning, "learning"), tmp_path / "run", console=quiet).train(fold=1)
    dry_run(CrossValidation(Config.from_dict(frozen, "frozen"), tmp_path / "dry", console=quiet))
    assert not cache.exists()


def test_features_of_random_weights_are_not_kept(class_folders, tmp_path, quiet):
    """No other run, and no other fold, has these weights."""
    image = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "freeze": "all"}
    sections = {"data": {"augmentation": "none"}, "runtime": {"feature_cache": str(tmp_path / "cache")}, "train": {"epochs": 1}}
    config = tiny_config(class_folders, model={"image_encoder": image}, **sections)
    CrossValidation(Config.from_dict(config, "random"), tmp_path / "run", console=quiet).train(fold=1)
    assert not (tmp_path / "cache").exists()
    assert "from 36 newly encoded images" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")


def test_a_frozen_tower_is_evaluated_in_full_precision(config_of, weights):
    """As its features were computed that are kept; one that learns follows the run's precision."""
    from clipzoo.engine import build

    images = torch.rand(4, 3, 32, 32)
    for freeze, full in (("all", True), ("none", False)):
        image = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "pretrained": str(weights), "freeze": freeze}
        net = build.model(config_of(model={"image_encoder": image}), CPU, num_classes=3).eval()
        with torch.no_grad():
            expected = net.tower_features(images)
            with torch.autocast("cpu", torch.bfloat16):
                found = net.tower_features(images)
                assert net.train().tower_features(images).dtype == torch.bfloat16
        assert (found.dtype == torch.float32 and torch.equal(found, expected)) == full


# --- the store --------------------------------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_tower_and_copies_are_encoded_once(tower, seen, tmp_path):
    root = write_class_folders(tmp_path / "images", per_class=4)
    shutil.copy(root / "圆" / "000.png", root / "圆" / "copy.png")
    data, store = ImageFolderDataset(str(root)), FeatureStore(tmp_path / "cache")
    found = features_of(tower, data, store, rows=np.arange(len(data))[::-1])
    assert sum(seen) == 12 and found.shape == (13, tower.num_features) and found.dtype == np.float32
    assert not tower.training

    from clipzoo.datasets.transforms import evaluation_transform

    prepare = evaluation_transform(tower.preprocessing)
    with torch.inference_mode():
        expected = torch.cat([tower(prepare(data.read_image(row))[None]) for row in reversed(range(13))])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    seen.clear()
    assert np.array_equal(features_of(tower, data, store)[::-1], found) and not seen


def test_the_parts_of_a_fold_do_not_choose_the_batches(tower, monkeypatch, tmp_path):
    data, firsts = ImageFolderDataset(str(write_class_folders(tmp_path / "images", per_class=4))), []
    forward = TimmBackbone.forward
    monkeypatch.setattr(TimmBackbone, "forward", lambda self, images: firsts.append(images[0]) or forward(self, images))
    for rows in (np.arange(12), np.array([7, 2, 5, 0, 11, 1, 3, 4, 10, 6, 9, 8])):
        features_of(tower, data, FeatureStore(None), rows)
    assert torch.equal(firsts[0], firsts[2]) and torch.equal(firsts[1], firsts[3])


def test_a_changed_file_or_tower_is_encoded_anew(tower, weights, seen, tmp_path):
    root = write_class_folders(tmp_path / "images", per_class=2)
    store = FeatureStore(tmp_path / "cache")
    before = features_of(tower, ImageFolderDataset(str(root)), store)
    Image.new("L", (16, 16), 77).save(root / "圆" / "000.png")
    seen.clear()
    data = ImageFolderDataset(str(root))
    after = features_of(tower, data, store)
    row = data.rows["圆/000.png"]
    assert sum(seen) == 1 and (after[row] != before[row]).any() and np.array_equal(np.delete(after, row, 0), np.delete(before, row, 0))
    seen.clear()
    with torch.no_grad():
        next(tower.parameters()).flatten()[0].add_(0.5)
    features_of(tower, data, store)
    assert sum(seen) == 6


@pytest.mark.parametrize("change", ["weights", "statistics", "preprocessing", "kind"])
def test_the_key_changes_with_whatever_makes_a_feature(tower, weights, change):
    same = TimmBackbone("test_resnet", pretrained=str(weights), image_size=32)
    assert feature_digest(tower, tower.preprocessing) == feature_digest(same, same.preprocessing), "freezing makes no other feature"
    other, preprocessing = same, same.preprocessing
    if change == "weights":
        with torch.no_grad():
            next(other.parameters()).flatten()[-1].add_(1e-6)
    elif change == "statistics":
        next(buffer for name, buffer in other.named_buffers() if name.endswith("running_mean"))[0] += 1
    elif change == "preprocessing":
        preprocessing = Preprocessing(**{**vars(preprocessing), "interpolation": "bicubic"})
    else:
        other.__class__ = type("Other", (TimmBackbone,), {})
    assert feature_digest(other, preprocessing) != feature_digest(tower, tower.preprocessing)


@pytest.mark.parametrize("change", ["activation", "eps", "attribute", "table", "adapters"])
def test_the_key_changes_with_what_no_weight_says(tmp_path, change):
    """timm's vit_base_patch32_clip_224 and …_clip_quickgelu_224 hold the same weights, and make other features of an image."""
    lora = {"rank": 2, "alpha": 4} if change == "adapters" else None
    towers = [build("VisionTransformer", tmp_path, lora=lora) for _ in range(2)]
    first, second = (feature_digest(tower, tower.preprocessing) for tower in towers)
    assert first == second
    block = towers[1].net.blocks[0]
    if change == "activation":
        block.mlp.act = torch.nn.ReLU()
    elif change == "eps":
        block.norm1.eps = 1e-3
    elif change == "attribute":
        towers[1].net.global_pool = "avg"
    elif change == "table":
        block.register_buffer("table", torch.zeros(3), persistent=False)
    else:
        towers[1].lora = {"rank": 2, "alpha": 8}
    assert feature_digest(towers[1], towers[1].preprocessing) != first


@pytest.mark.parametrize("name", IMAGES)
def test_a_tower_from_a_checkpoint_has_the_same_key(tmp_path, name):
    tower = build(name, tmp_path, freeze="all")
    again = BACKBONES.build({**spec_of(name, tmp_path), **tower.blueprint()})
    again.load_state_dict(tower.state_dict())
    again.weights = "of a checkpoint"
    assert feature_digest(again.train(), again.preprocessing) == feature_digest(tower.eval(), tower.preprocessing)


def test_a_damaged_store_is_made_again_and_what_others_wrote_is_kept(tower, seen, tmp_path):
    root = write_class_folders(tmp_path / "images", per_class=2)
    data, store = ImageFolderDataset(str(root)), FeatureStore(tmp_path / "cache")
    expected = features_of(tower, data, store)
    (file,) = (tmp_path / "cache").rglob(FILE)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.warns(UserWarning, match="features.npz: truncated.*; its features are computed again"):
        np.testing.assert_array_equal(features_of(tower, data, store), expected)
    file.unlink()
    first, second = store.shelf(tower, tower.preprocessing), store.shelf(tower, tower.preprocessing)
    first.add(["a" * 32], expected[:1])
    second.add(["b" * 32], expected[1:2])
    first.save()
    second.save()
    assert set(store.shelf(tower, tower.preprocessing).rows) == {"a" * 32, "b" * 32}


def test_a_damaged_image_is_named_and_the_others_are_kept(tower, seen, tmp_path):
    root = write_class_folders(tmp_path / "images", per_class=4)
    path = root / "条纹" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    store = FeatureStore(tmp_path / "cache")
    with pytest.raises(DataError, match="003.png"):
        features_of(tower, ImageFolderDataset(str(root)), store)
    assert len(store.shelf(tower, tower.preprocessing).rows) == 8


def test_a_folder_that_cannot_be_written_costs_no_run(tower, tmp_path):
    (tmp_path / "cache").write_text("a file")
    data = ImageFolderDataset(str(write_class_folders(tmp_path / "images", per_class=2)))
    with pytest.warns(UserWarning, match="features are not kept: .*cannot be written"):
        assert features_of(tower, data, FeatureStore(tmp_path / "cache")).shape[0] == 6


def test_where_the_store_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path))
    assert FeatureStore.of("auto").folder == tmp_path / "features" and FeatureStore.of(None).folder is None
    monkeypatch.delenv("CLIPZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert FeatureStore.of("auto").folder == tmp_path / "xdg" / "clipzoo" / "features"
    assert FeatureStore.of("~/here").folder == Path.home() / "here"


# --- files ------------------------------------------------------------------------------------------------------------------------------


def test_files_are_encoded_as_by_the_loaded_model_and_damaged_ones_are_said(config_of, class_folders, seen, tmp_path):
    loaded = clipzoo.load(saved(tmp_path / "checkpoint.pth", config_of())[0])
    files = sorted(class_folders.rglob("*.png"))[:7]
    bad, text, gone = tmp_path / "bad.png", tmp_path / "text.png", tmp_path / "gone.png"
    bad.write_bytes(files[0].read_bytes()[:50])
    text.write_text("no image")
    expected = loaded.encode_image(files).numpy()
    seen.clear()
    told: list[int] = []
    copy = shutil.copy(bad, tmp_path / "copy.png")
    paths = [bad, *files, files[2], text, gone]
    both = encode_files(loaded, [bad, copy], FeatureStore(None))
    assert "bad.png" in both.failed[0] and "copy.png" in both.failed[1], "each under its own name"
    found = encode_files(loaded, paths, FeatureStore(tmp_path / "cache"), batch_size=3, progress=told.append)
    assert sorted(found.failed) == [0, 9, 10] and "bad.png" in found.failed[0] and "gone.png" in found.failed[10]
    assert np.isnan(found.features[[0, 9, 10]]).all() and found.digests[10] == ""
    np.testing.assert_allclose(found.features[1:8], expected, atol=1e-6)
    assert np.array_equal(found.features[8], found.features[3]) and found.digests[8] == found.digests[3]
    assert sum(seen) == 7 and told[-1] == len(paths)
    again = encode_files(loaded, files, FeatureStore(tmp_path / "cache"))
    assert sum(seen) == 7 and again.num_cached == 7 and np.array_equal(again.features, found.features[1:8])


def test_any_model_that_makes_features_of_images_encodes_files(class_folders, tmp_path):
    """Not only those with an ``image_encoder``: what Model declares is all that is asked for."""
    from clipzoo.errors import BuildError
    from clipzoo.inference.model import LoadedModel
    from clipzoo.inference.restore import Restored
    from clipzoo.models.base import Model

    seen = []

    class Means(Model):
        """A plugin's: the mean of every channel."""

        preprocessing = Preprocessing(size=8)

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))

        def encode_image(self, images):
            seen.extend(images)
            return torch.nn.functional.normalize(images.mean(dim=(2, 3)) * self.scale, dim=-1)

    net = Means().eval()
    loaded, files, store = LoadedModel(Restored(net, "a plugin's")), sorted(class_folders.rglob("*.png"))[:5], FeatureStore(tmp_path)
    bad = tmp_path / "bad.png"
    bad.write_bytes(files[0].read_bytes()[:50])
    found = encode_files(loaded, [*files, bad], store, batch_size=2)
    np.testing.assert_allclose(found.features[:5], loaded.encode_image(files).numpy(), atol=1e-6)
    assert list(found.failed) == [5] and len(seen) == 10
    again = encode_files(loaded, files, store)
    assert len(seen) == 10 and again.num_cached == 5 and np.array_equal(again.features, found.features[:5])
    nothing = encode_files(loaded, [bad], FeatureStore(None))
    assert list(nothing.failed) == [0] and len(nothing.features) == 1
    with torch.no_grad():
        net.scale[0] = 2
    assert encode_files(loaded, files, store).num_cached == 0, "other weights, other features"
    del Means.encode_image
    for call in (lambda: encode_files(loaded, files, store), lambda: loaded.encode_image(files)):
        with pytest.raises(BuildError, match="a plugin's: Means cannot encode images, as it has no method encode_image"):
            call()


# --- several processes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_the_work(tower, weights, tmp_path):
    write_class_folders(tmp_path / "images", per_class=5)
    launch(__file__, tmp_path, weights)
    expected = features_of(tower, ImageFolderDataset(str(tmp_path / "images")), FeatureStore(None))
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), expected, atol=1e-6)
    assert len(FeatureStore(tmp_path / "cache").shelf(tower, tower.preprocessing).rows) == 15


def _two_processes(folder: Path, weights: Path) -> None:
    def work(rank: int) -> None:
        tower = TimmBackbone("test_resnet", pretrained=str(weights), image_size=32, freeze="all")
        calls = []
        tower.register_forward_hook(lambda module, arguments, output: calls.append(len(output)))
        found = features_of(tower, ImageFolderDataset(str(folder / "images")), FeatureStore(folder / "cache"))
        assert 7 <= sum(calls) <= 8
        np.save(folder / f"{rank}.npy", found)

    in_processes(2, work, folder)


if __name__ == "__main__":
    _two_processes(Path(sys.argv[1]), Path(sys.argv[2]))
