"""One place for what can be computed again; a user without a home folder has none, and loses nothing else."""

import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_files import saved
from few_shot_files import write_tasks

from clipzoo.cli import fewshot, search
from clipzoo.features.cache_folder import cache_folder, expanded
from clipzoo.features.store import FeatureStore
from clipzoo.inference import index


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """``docker run --user 12345``: no HOME, and no entry in the table of users."""
    import pwd

    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "CLIPZOO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError):
        Path.home()
    yield tmp_path
    assert not (tmp_path / "~").exists()


def test_one_function_says_where_caches_are(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own" and FeatureStore.of("auto").folder == tmp_path / "own" / "features"
    place, _ = index._in_cache(tmp_path, "d")
    assert place.is_relative_to(tmp_path / "own" / "index")
    monkeypatch.delenv("CLIPZOO_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "clipzoo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "clipzoo" and expanded("~/x") == tmp_path / "x"
    monkeypatch.setenv("CLIPZOO_CACHE", "~/here")
    assert cache_folder() == tmp_path / "here"


def test_without_a_home_folder_there_is_no_cache(homeless, monkeypatch):
    assert cache_folder() is None and expanded("~/x") is None and expanded("/x") == Path("/x")
    assert FeatureStore.of("auto").folder is None and "CLIPZOO_CACHE" in FeatureStore.of("~/x").why
    assert FeatureStore.of(None).why == ""
    place, (note,) = index._in_cache(homeless, "d")
    assert place is None and "its index is not kept: there is no home folder" in note
    monkeypatch.setenv("CLIPZOO_CACHE", "~/x")
    assert cache_folder() is None
    monkeypatch.setenv("CLIPZOO_CACHE", "/x")
    assert cache_folder() == Path("/x")


def ended(command, arguments, capsys):
    with pytest.raises(SystemExit) as found:
        command.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return found.value.code, shown.out, shown.err


def test_commands_work_without_a_home_folder(homeless, config_of, class_folders, capsys):
    saved(homeless / "x.pth", config_of())
    folder = shutil.copytree(class_folders / "圆", homeless / "images")
    (folder / ".clipzoo-index").write_text("in the way", encoding="utf-8")
    code, out, err = ended(search, ["x.pth", folder, "圆", "--device", "cpu"], capsys)
    assert code == 0 and "12 encoded" in err and err.count("no home folder") == 1 and "Traceback" not in err
    write_tasks(homeless / "testB", class_folders)
    code, out, err = ended(fewshot, ["predict", "x.pth", homeless, "result.csv", "--device", "cpu"], capsys)
    assert code == 0 and err.count("note: features are not kept: there is no home folder") == 1


def test_training_on_frozen_features_without_a_home_folder(homeless, config_of):
    import logging

    from rich.console import Console

    from clipzoo.engine import build, inputs

    config = config_of(model={"image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "freeze": "all"}})
    data = build.dataset(config)
    net = build.model(config, torch.device("cpu"), num_classes=3)
    net.image_encoder.weights = "of somewhere"
    log, lines = logging.Logger("x"), []
    log.addHandler(type("Lines", (logging.Handler,), {"emit": lambda _, record: lines.append(record.getMessage())})())
    split = build.folds(config, data).splits[0]
    found = inputs.frozen_features(net, data, split, config, device=net.logit_scale.device, log=log, console=Console(quiet=True))
    assert found is not None and sum("they are not kept: there is no home folder" in line for line in lines) == 1
