"""What a checkpoint may ask for: its model, and nothing that runs."""

import sys

import pytest
import torch
from checkpoint_files import saved
from tiny import write_class_folders

import clipzoo
from clipzoo.cli import export, fewshot, predict, search
from clipzoo.engine import checkpoint
from clipzoo.errors import CheckpointError, ConfigError
from clipzoo.inference import restore
from clipzoo.registries import BACKBONES

PLUGIN = """
import pathlib

from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.registries import BACKBONES

pathlib.Path("ran").touch()


@BACKBONES.register_module()
class TrapNet(TimmBackbone):
    pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module that leaves a trace when it is imported; and Python as it was, afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    (tmp_path / "trap.py").write_text(PLUGIN, encoding="utf-8")
    write_class_folders(tmp_path / "images", per_class=2)
    yield tmp_path
    sys.modules.pop("trap", None)
    BACKBONES._classes.pop("TrapNet", None)


def with_plugins(path, config, plugins, **changes):
    """A checkpoint whose config names plugins."""
    _, net = saved(path, config)
    content = checkpoint.read(path)
    content["config"]["plugins"] = plugins
    checkpoint.write(path, {**content, **changes})
    return net


def test_what_a_checkpoint_names_is_not_imported(here, config_of, capsys):
    """``clipzoo.load`` and every command; the model itself needs no plugin, so it loads."""
    with_plugins(here / "x.pth", config_of(), ["trap"])
    before = list(sys.path)
    assert clipzoo.load("x.pth", device="cpu").classes
    image = str(next((here / "images").rglob("*.png")))
    commands = {
        predict: ["x.pth", image, "--device", "cpu"],
        search: ["x.pth", "images", "圆", "--device", "cpu"],
        export: ["x.pth", "--format", "open_clip", "--out", "out"],
    }
    for command, arguments in commands.items():
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not (here / "ran").exists() and "trap" not in sys.modules and sys.path == before


def test_a_model_that_needs_a_plugin_is_refused_with_its_name_until_the_user_names_it(here, config_of, capsys):
    config = config_of()
    with_plugins(here / "plain.pth", config, ["trap"])
    content = checkpoint.read(here / "plain.pth")
    content["config"]["model"]["image_encoder"]["type"] = "TrapNet"
    checkpoint.write(here / "x.pth", content)
    message = r"x.pth: its model cannot be rebuilt \(unknown image encoder 'TrapNet'\). It was trained with the plugin trap, and a "
    with pytest.raises(CheckpointError, match=message + r"checkpoint imports nothing.*Pass plugins=\['trap'\] \(--plugins trap\) if you"):
        clipzoo.load("x.pth", device="cpu")
    image = str(next((here / "images").rglob("*.png")))
    commands = {
        predict: ["x.pth", image],
        search: ["x.pth", "images", "圆"],
        fewshot: ["evaluate", "x.pth", "images", "--way", "2", "--shot", "1", "--query", "1"],
    }
    for command, arguments in commands.items():
        with pytest.raises(SystemExit) as ended:
            command.main([*arguments, "--device", "cpu"])
        assert ended.value.code == 2 and "--plugins trap" in capsys.readouterr().err
    assert not (here / "ran").exists()
    assert clipzoo.load("x.pth", device="cpu", plugins=["trap"]).model.image_encoder.name == "test_resnet"
    assert (here / "ran").exists()
    with pytest.raises(SystemExit) as ended:
        predict.main(["x.pth", image, "--device", "cpu", "--plugins", "trap"])
    assert ended.value.code == 0


@pytest.mark.parametrize("plugins", ["trap", [3], ["../trap"], ["trap; import os"], ["a\x1b[31m"], {"trap": 1}, [["trap"]], None])
def test_plugins_that_are_no_names_are_refused(here, config_of, plugins):
    with_plugins(here / "x.pth", config_of(), plugins)
    with pytest.raises(CheckpointError, match="x.pth: its plugins are not module names") as caught:
        clipzoo.load("x.pth", device="cpu")
    assert "\x1b" not in str(caught.value) and not (here / "ran").exists()


def test_a_plugin_that_the_user_names_must_be_there(here, config_of):
    saved(here / "x.pth", config_of())
    with pytest.raises(ConfigError, match="plugins: 'no_such_plugin': cannot be imported"):
        clipzoo.load("x.pth", device="cpu", plugins=["no_such_plugin"])


def test_a_checkpoint_that_asks_for_weights_gets_none(here, config_of):
    """A blueprint that was left out, or that names a file, would have the constructor read it."""
    saved(here / "x.pth", config_of())
    content = checkpoint.read(here / "x.pth")
    content["towers"]["text_encoder"]["pretrained"] = "/etc/passwd"
    assert not restore.checkpoint_model(content, "cpu").training
    for towers in (None, {}, {"image_encoder": content["towers"]["image_encoder"]}):
        with pytest.raises(CheckpointError, match="does not say what it is made of"):
            restore.checkpoint_model({**content, "towers": towers}, "cpu")


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path, config_of, capsys):
    """It would call every image the first class, with a probability of nan."""
    path, net = saved(tmp_path / "x.pth", config_of())
    content = checkpoint.read(path)
    del content["digest"]
    name = next(iter(content["model"]))
    content["model"][name] = torch.full_like(content["model"][name], float("nan"))
    checkpoint.write(path, content)
    with pytest.raises(CheckpointError, match=f"numbers of {name} are NaN or infinite"):
        clipzoo.load(path, device="cpu")
    write_class_folders(tmp_path / "images", per_class=2)
    image = str(next((tmp_path / "images").rglob("*.png")))
    with pytest.raises(SystemExit, match="2"):
        predict.main([str(path), image, "--device", "cpu"])
    assert f"numbers of {name} are NaN or infinite" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x"])
def test_a_checkpoint_is_known_by_its_bytes(tmp_path, config_of, name):
    path, net = saved(tmp_path / name, config_of())
    found = clipzoo.load(path, device="cpu").model.state_dict()
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in found.items())
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match="neither a checkpoint of clipzoo nor weights of a CLIP"):
        clipzoo.load(tmp_path / "text.pth", device="cpu")
