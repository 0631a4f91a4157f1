"""Every image file is decoded once before a training: damaged ones are refused together, and known files are not read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_config, write_class_folders, write_pairs

from clipzoo.config import Config
from clipzoo.datasets.build import build_dataset
from clipzoo.datasets.inspection import image_facts, remembered
from clipzoo.engine import dry_run as dry_run_module
from clipzoo.engine.checks import images as module
from clipzoo.engine.checks.images import check_images
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.errors import CheckpointError, ConfigError, DataError
from clipzoo.runtime import distributed
from clipzoo.runtime.log import make_log


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path) -> Path:
    return write_class_folders(tmp_path / "images", per_class=4)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Ids of the images that were decoded, in any order."""
    rows: list[str] = []
    original = image_facts.decoded_fact_of
    monkeypatch.setattr(module, "decoded_fact_of", lambda data, row: rows.append(data.cases[row].id) or original(data, row))
    return rows


def config_for(root: Path, **data) -> Config:
    data = {"check_images": True, **data}
    return Config.from_dict(tiny_config(root, data=data, splits={"num_folds": 2}, train={"epochs": 1}), "tiny")


def checked(config: Config, quiet, **more) -> list[str]:
    return check_images(build_dataset(config), config, log=make_log(quiet, None), console=quiet, **more)


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def test_files_are_decoded_once_until_one_changes(root, quiet, decoded, cache):
    config = config_for(root)
    assert checked(config, quiet) == [] and sorted(decoded) == sorted(case.id for case in build_dataset(config).cases)
    assert [path.suffix for path in (cache / "checked_images").iterdir()] == [".json"]
    for _ in range(2):
        decoded.clear()
        assert checked(config, quiet) == [] and decoded == []
    os.utime(root / "圆" / "000.png", ns=(1, 1))
    assert checked(config, quiet) == [] and len(decoded) == 12
    decoded.clear()
    for path in (cache / "checked_images").iterdir():
        path.write_bytes(path.read_bytes().replace(b"12", b"13"))
    assert checked(config, quiet) == [] and len(decoded) == 12, "a damaged record is not believed"


def test_all_damaged_images_are_named_and_nothing_is_remembered(root, quiet, cache):
    cut(root / "圆" / "001.png"), cut(root / "方块" / "002.png")
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 of 12 images cannot be read: 圆/001.png, 方块/002.png\. .*check_data") as found:
            checked(config_for(root), quiet)
    assert str(found.value).startswith(f"{root / '圆' / '001.png'}: the image cannot be decoded") and not cache.exists()
    assert checked(config_for(root, check_images=False), quiet) == []


def test_doubtful_images_are_one_remark_of_each_kind(root, quiet, decoded):
    for number in range(3):
        Image.open(root / "圆" / "000.png").convert("CMYK").resize((40, 40 + number)).save(root / "圆" / f"print{number}.jpg")
    Image.new("I;16", (20, 20), 3000).save(root / "条纹" / "deep.png")
    whole = (root / "圆" / "000.png").read_bytes()
    (root / "圆" / "000.png").write_bytes(whole[:-12])  # without IEND
    for _ in range(2):  # also where the files are known
        first, second, third = checked(config_for(root), quiet)
        assert first.startswith("1 of 16 images lack their last bytes") and "圆/000.png" in first and "check_data" in first
        assert second.startswith("3 of 16 images are CMYK") and "圆/print0.jpg, 圆/print1.jpg, 圆/print2.jpg" in second
        assert third.startswith("1 of 16 images have more than 8 bits") and "条纹/deep.png" in third
    assert len(decoded) == 16


def test_a_damaged_test_image_stops_training_and_dry_run_before_anything_is_written(root, quiet, tmp_path):
    validation = CrossValidation(config_for(root), tmp_path / "run", console=quiet)
    cut(root / validation.folds.splits[0].test[0])
    for start in (lambda: validation.train(), lambda: dry_run(validation)):
        with pytest.raises(DataError, match="cannot be decoded"):
            start()
    assert not (tmp_path / "run").exists()


def test_remarks_are_in_the_log_and_in_a_dry_run(root, quiet, tmp_path, cache):
    Image.open(root / "圆" / "000.png").convert("CMYK").resize((40, 40)).save(root / "圆" / "print.jpg")
    lines = dry_run(CrossValidation(config_for(root), tmp_path / "run", console=quiet))
    assert lines[0].startswith("warning: 1 of 13 images are CMYK") and not cache.exists() and not (tmp_path / "run").exists()
    CrossValidation(config_for(root), tmp_path / "run", console=quiet).train(fold=1)
    assert "warning: 1 of 13 images are CMYK" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8") and cache.exists()


def test_a_dry_run_refuses_the_work_dirs_that_training_refuses(root, quiet, tmp_path):
    def starts(config, folder):
        validation = CrossValidation(config, folder, console=quiet)
        return (lambda: dry_run(validation), lambda: validation.train(fold=1))

    CrossValidation(config_for(root), tmp_path / "run", console=quiet).train(fold=1)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.docx").touch()
    (tmp_path / "file").touch()
    cases = (
        (config_for(root, batch_size=4), "run", CheckpointError, "made with another config"),
        (config_for(root), "foreign", CheckpointError, "not empty"),
        (config_for(root), "file/run", DataError, "file is not a folder|not writable"),
    )
    for config, folder, kind, message in cases:
        for start in starts(config, tmp_path / folder):
            with pytest.raises(kind, match=message):
                start()
    assert dry_run(CrossValidation(config_for(root), tmp_path / "run", console=quiet))[-1] == "dry run: nothing was written"
    (tmp_path / "run" / "fold_1" / "predictions.csv").write_text("edited")
    for start in starts(config_for(root), tmp_path / "run"):
        with pytest.raises(CheckpointError, match="predictions.csv"):
            start()


def test_a_dry_run_steps_the_chosen_fold(root, quiet, tmp_path, monkeypatch):
    made = []
    original = dry_run_module.Runner
    monkeypatch.setattr(dry_run_module, "Runner", lambda *given, **named: made.append(given[2].name) or original(*given, **named))
    dry_run(CrossValidation(config_for(root), tmp_path / "run", console=quiet), 2)
    assert made == ["fold_2"]
    with pytest.raises(ConfigError, match="--fold: there is no fold 99; folds are numbered 1 … 2"):
        dry_run(CrossValidation(config_for(root), tmp_path / "run", console=quiet), 99)


def test_the_cache_folder_may_be_missing_or_read_only(root, quiet, decoded, monkeypatch, cache):
    cache.write_bytes(b"")  # a file, in which no folder can be made
    assert checked(config_for(root), quiet) == [] and checked(config_for(root), quiet) == [] and len(decoded) == 24
    monkeypatch.setattr(remembered, "cache_folder", lambda: None)
    assert checked(config_for(root), quiet) == [] and len(decoded) == 36


def test_other_processes_wait_for_one_turn_at_a_time(root, quiet, monkeypatch):
    turns = []
    monkeypatch.setattr(distributed, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(remembered, "cache_folder", lambda: None)
    monkeypatch.setattr(distributed, "from_main", lambda make: turns.append(make()) or turns[-1])
    assert checked(config_for(root), quiet) == []
    assert [turn for turn in turns if isinstance(turn, tuple)][:-1] == [(False, None)] * 2, "8 and 4 images"


def test_pairs_and_several_images_per_case_are_checked_too(tmp_path, root, quiet):
    pairs = write_pairs(tmp_path / "pairs", num_images=6)
    config = config_for(root, dataset={"type": "PairsDataset", "path": str(pairs)})
    assert checked(config, quiet) == []
    cut(pairs / "images" / "003.png")
    with pytest.raises(DataError, match=r"003.png: the image cannot be decoded"):
        checked(config, quiet)
    for path in root.glob("*/*.png"):
        path.rename(path.with_name(f"{path.parent.name}{int(path.stem) // 2}_{path.name}"))
    views = config_for(root, views="group", dataset={"type": "ImageFolderDataset", "root": str(root), "group_pattern": "^(.+)_"})
    data = build_dataset(views)
    assert len(data) == 6 and checked(views, quiet) == []
    second = data.single_images.cases[data.image_rows(0)[1]].id
    cut(root / second)
    with pytest.raises(DataError, match=rf"{second}: the image cannot be decoded"):
        checked(views, quiet)
