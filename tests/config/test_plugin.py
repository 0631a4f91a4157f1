"""Modules from outside the tree: found by entry point or by name, trained with by name, reported in one line when broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.config.plugins import import_plugins
from clipzoo.errors import ConfigError

TOWER = '''
"""An installed package that announces itself: an image tower."""
from torch import nn

from clipzoo.models.backbones.base import Backbone
from clipzoo.registries import BACKBONES
from clipzoo.structures import Preprocessing


@BACKBONES.register_module()
class AcmeNet(Backbone):
    """Two convolutions.

    Args:
        width: Features.
    """

    def __init__(self, width: int = 16, image_size: int = 32, freeze: str = "none"):
        super().__init__(freeze)
        self.name, self.num_features = "AcmeNet", width
        self.preprocessing = Preprocessing(size=image_size)
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.apply_freeze()

    def forward(self, images):
        return self.net(images)

    def depth_groups(self):
        return [[name for name, _ in self.named_parameters()]]
'''

PARTS = '''
"""A file beside the config: a loss and a hook."""
from clipzoo.hooks.base import Hook
from clipzoo.models.losses.base import Loss
from clipzoo.registries import HOOKS, LOSSES


@LOSSES.register_module()
class AcmeLoss(Loss):
    """Pulls every image to its caption.

    Args:
        weight: Factor.
    """

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def compute(self, image_BD, text_UD, logit_scale, batch):
        logits = logit_scale * image_BD @ text_UD.T
        return self.weight * -logits.log_softmax(1).gather(1, batch.caption[:, None]).mean()


@HOOKS.register_module()
class AcmeHook(Hook):
    """Writes down the losses."""

    def after_epoch(self, run):
        with open(run.folder / "acme.txt", "a", encoding="utf-8") as file:
            print(run.epoch_losses["loss"], file=file)
'''


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder as pip leaves it: a package and its metadata; and a working directory with a single file."""
    site = tmp_path / "site"
    (site / "acme_clip").mkdir(parents=True)
    (site / "acme_clip" / "__init__.py").write_text(TOWER, encoding="utf-8")
    info = site / "acme_clip-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-clip\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[clipzoo.plugins]\nacme = acme_clip\n", encoding="utf-8")
    here = tmp_path / "here"
    here.mkdir()
    (here / "acme_parts.py").write_text(PARTS, encoding="utf-8")
    return site


def clipzoo(site: Path, repo: Path, *arguments: object) -> subprocess.CompletedProcess:
    """A command in a fresh Python that finds ``site``, as a user of the package would start it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo), str(site)]), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "clipzoo.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=site.parent / "here", env=environment, capture_output=True, text=True, encoding="utf-8")


def config(path: Path, root: Path, **sections) -> Path:
    """The tiny config with the plugin's parts, as a file."""
    values = tiny_config(root, plugins=["acme_parts"], hooks=["HistoryHook", "AcmeHook"], train={"epochs": 1}, **sections)
    values["model"] |= {"image_encoder": {"type": "AcmeNet", "width": 8}, "loss": {"type": "AcmeLoss", "weight": 0.5}}
    path.write_text(Config.from_dict(values).dump(), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_plugin_trains_by_name(site, repo, tmp_path, class_folders):
    done = clipzoo(site, repo, "train", config(tmp_path / "acme.py", class_folders), "--fold", 1)
    assert done.returncode == 0, done.stderr
    fold = tmp_path / "here" / "work_dirs" / "acme" / "fold_1"
    (epoch,) = json.loads((fold / "history.json").read_text(encoding="utf-8"))
    assert float((fold / "acme.txt").read_text(encoding="utf-8")) == pytest.approx(epoch["loss"])
    assert (fold / "result.json").exists() and "AcmeNet" in done.stderr and "AcmeLoss" in done.stderr


@pytest.mark.slow
def test_a_plugin_is_checked_like_everything_else(site, repo, tmp_path, class_folders):
    mistaken = config(tmp_path / "acme.py", class_folders)
    mistaken.write_text(mistaken.read_text(encoding="utf-8").replace("'width': 8", "'widht': 8"), encoding="utf-8")
    done = clipzoo(site, repo, "train", mistaken, "--fold", 1)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.image_encoder: AcmeNet has no argument 'widht'. Did you mean 'width'?")


@pytest.mark.slow
def test_a_plugin_is_listed(site, repo):
    shown = clipzoo(site, repo, "list_modules", "BACKBONES", "LOSSES", "--plugins", "acme_parts").stdout
    assert "AcmeNet(width: int = 16, image_size: int = 32, freeze: str = 'none')\n      Two convolutions.  [acme_clip]" in shown
    assert "AcmeLoss(weight: float = 1.0)" in shown


# --- plugins that are broken -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"plugins: 'broken_part': cannot be imported \(ModuleNotFoundError: No module named 'broken_part'\). Install the package"),
        ("import no_such_dependency", r"No module named 'no_such_dependency' at .*broken_part.py:1\). Fix"),
        ("x = 1\ny = 1 / 0", r"ZeroDivisionError: division by zero at .*broken_part.py:2\)"),
        ("def f(:", r"SyntaxError: .*broken_part.py, line 1"),
        (
            "from clipzoo.registries import LOSSES\n@LOSSES.register_module()\nclass ContrastiveLoss:\n    pass",
            r"RegistryError: loss 'ContrastiveLoss': registered twice, in clipzoo.*contrastive.* and broken_part",
        ),
        ("raise ValueError('first line\\nsecond line')", r"ValueError: first line at "),
    ],
)
def test_a_broken_plugin_is_one_clear_line(tmp_path, monkeypatch, text, message):
    from clipzoo.registries import LOSSES

    len(LOSSES)  # the project's own come first
    if text is not None:
        (tmp_path / "broken_part.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_part", raising=False)
    with pytest.raises(ConfigError, match=message) as caught:
        import_plugins(["broken_part"])
    assert "\n" not in str(caught.value)


def test_a_broken_installed_plugin_names_its_entry_point(site, monkeypatch):
    (site / "acme_clip" / "__init__.py").write_text("import no_such_dependency", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(ConfigError, match=r"entry point 'acme' \(clipzoo.plugins\): cannot be imported .*no_such_dependency"):
        import_plugins()


@pytest.mark.parametrize("names", ["acme_parts", [3], [""], 3])
def test_names_must_be_a_list(names):
    with pytest.raises(ConfigError, match="is not a list of module names. Write plugins"):
        import_plugins(names)
