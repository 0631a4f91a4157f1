"""A run with the image cache: every image is decoded once for all runs, and no bit of any result changes, whatever happens to the cache."""

import hashlib
from pathlib import Path

import pytest
from tiny import tiny_config, write_class_folders

from clipzoo.config import Config
from clipzoo.datasets import file_dataset
from clipzoo.datasets.files import images as reading
from clipzoo.engine import checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.errors import ConfigError

NUM_IMAGES = 12


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path) -> Path:
    return write_class_folders(tmp_path / "images", per_class=4, size=40)


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Sizes of the files that were decoded."""
    calls: list[int] = []
    original = reading.decode
    for module in (reading, file_dataset):
        monkeypatch.setattr(module, "decode", lambda content, **more: calls.append(len(content)) or original(content, **more))
    return calls


def config_for(root: Path, **sections) -> Config:
    sections = {"train": {"epochs": 2}, "splits": {"num_folds": 2}, "data": {"augmentation": "standard"}, **sections}
    return Config.from_dict(tiny_config(root, **sections), "tiny")


def trained(root: Path, folder: Path, console, fold: int | None = 1, **sections) -> dict[str, str]:
    """Digests of what a training leaves; of checkpoints without the config in them."""
    CrossValidation(config_for(root, **sections), folder, console=console).train(fold=fold)
    files = [path for path in sorted(folder.rglob("*")) if path.name in ("history.json", "predictions.csv") or path.suffix == ".pth"]
    assert len(files) >= 4
    return {str(path.relative_to(folder)): digest(path) for path in files}


def digest(path: Path) -> str:
    found = hashlib.sha256()
    if path.suffix != ".pth":
        found.update(path.read_bytes())
    else:
        content = checkpoint.read(path)
        found.update(repr(content["state"]).encode())
        for name, tensor in sorted(content["model"].items()):
            found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def without(root: Path, tmp_path: Path, console, **more) -> dict[str, str]:
    return trained(root, tmp_path / "without", console, runtime={"image_cache": None}, **more)


def notes(folder: Path) -> list[str]:
    return [line for line in (folder / "train.log").read_text(encoding="utf-8").splitlines() if "image cache" in line]


@pytest.mark.slow
def test_every_image_is_decoded_once_for_all_epochs_folds_and_runs(root, quiet, tmp_path, decoded):
    first = trained(root, tmp_path / "first", quiet, fold=None)
    assert len(decoded) == NUM_IMAGES, "in the pass that checks them"
    decoded.clear()
    assert trained(root, tmp_path / "second", quiet, fold=None) == first and decoded == []
    assert without(root, tmp_path, quiet, fold=None) == first and len(decoded) > NUM_IMAGES
    assert notes(tmp_path / "first") == notes(tmp_path / "second") == []


@pytest.mark.slow
def test_images_that_are_not_checked_are_kept_by_the_first_epoch(root, quiet, tmp_path, decoded):
    data = {"augmentation": "standard", "check_images": False}
    trained(root, tmp_path / "first", quiet, data=data)
    assert len(decoded) == NUM_IMAGES
    trained(root, tmp_path / "second", quiet, data=data)
    assert len(decoded) == NUM_IMAGES


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", ["no folder", "damaged"])
def test_a_cache_that_fails_is_one_line_and_changes_nothing(root, quiet, tmp_path, cache, fault, workers):
    more = {"data": {"augmentation": "standard", "num_workers": workers}, "fold": None if workers else 1}
    expected = without(root, tmp_path, quiet, **more)
    if fault == "damaged":
        assert trained(root, tmp_path / "sound", quiet, **more) == expected
        (pack,) = cache.glob("images/*/*.pack")
        content = bytearray(pack.read_bytes())
        content[:: len(content) // 50] = bytes(len(content[:: len(content) // 50]))
        pack.write_bytes(content)
    else:
        cache.mkdir(exist_ok=True)
        (cache / "images").write_text("a file where the folder should be")
    assert trained(root, tmp_path / "run", quiet, **more) == expected
    (line,) = notes(tmp_path / "run")
    assert ("is damaged; what is damaged in it is decoded again" if fault == "damaged" else "cannot grow (File exists)") in line
    if fault == "damaged":
        assert trained(root, tmp_path / "again", quiet, **more) == expected and notes(tmp_path / "again") == []


def test_a_cache_that_fails_while_batches_of_one_case_are_tried(root, quiet, tmp_path):
    """The try comes before the first batch of a training; its answer is the one that a working cache gives."""
    (tmp_path / "file").touch()
    model = {"type": "ImageClassifier", "image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}}
    data = {**tiny_config(root)["data"], "batch_size": 1, "check_images": False}
    config = {**config_for(root).plain(), "model": model, "data": data, "runtime": {"device": "cpu", "image_cache": str(tmp_path / "file")}}
    with pytest.raises(ConfigError, match="in a batch of one case, batch normalisation sees a single value"):
        CrossValidation(Config.from_dict(config), tmp_path / "run", console=quiet).train(fold=1)


def test_a_dry_run_keeps_nothing(root, quiet, tmp_path, cache):
    assert dry_run(CrossValidation(config_for(root), tmp_path / "run", console=quiet))[-1] == "dry run: nothing was written"
    assert not cache.exists()


@pytest.mark.slow
def test_a_run_may_go_on_without_the_cache_and_with_it(root, quiet, tmp_path):
    """The keys may differ between two starts of one experiment."""
    folder = tmp_path / "run"
    trained(root, folder, quiet)
    CrossValidation(config_for(root, runtime={"image_cache": None}), folder, console=quiet).train(fold=2)
    assert trained(root, tmp_path / "other", quiet, fold=None).items() <= trained(root, folder, quiet, fold=None).items()
