"""A config is found by what the user types: a path, or the name of a config that comes with clipzoo."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipzoo.config import Config, shipped
from clipzoo.errors import ConfigError

NAME = "clip/r18_bertzh_digits_5fold"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("typed", [NAME, f"{NAME}.py", f"configs/{NAME}", f"configs/{NAME}.py", f"./configs/{NAME}.py"])
def test_a_shipped_config_is_found_by_name(here, repo, typed):
    config = Config.load(typed, ["train.epochs=2"])
    assert shipped.find(typed) == repo / f"configs/{NAME}.py"
    assert config.name == "r18_bertzh_digits_5fold" and config.train.epochs == 2
    assert config.origin("splits").startswith(str(repo / "configs")), "the bases were found too"


def test_an_existing_path_comes_first(here):
    for name in (f"configs/{NAME}.py", NAME):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("train = dict(epochs=77)")
        assert Config.load(name).train.epochs == 77


def test_the_names_are_those_of_the_leaves(repo):
    leaves = [path for path in (repo / "configs").rglob("*.py") if "_base_" not in path.parts]
    assert len(shipped.names()) == len(leaves) and NAME in shipped.names()
    assert all(shipped.find(name) in leaves for name in shipped.names())


def test_configs_inside_the_package_come_before_those_beside_it(tmp_path, monkeypatch):
    """In a wheel they are inside; what is beside the package there belongs to somebody else."""
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "clipzoo")
    (tmp_path / "configs").mkdir()
    assert shipped.folder() == tmp_path / "configs"
    (tmp_path / "clipzoo/configs").mkdir(parents=True)
    assert shipped.folder() == tmp_path / "clipzoo/configs"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("clip/r18_bertzh_digit_5fold", f"Did you mean '{NAME}'?"),
        ("configs/clip/r18_bertzh_digit_5fold.py", f"Did you mean '{NAME}'?"),
        ("r18_bertzh_digits_5fold", f"Did you mean '{NAME}'?"),
        ("mine.py", "Did you mean 'mine2.py'?"),
        ("zzz", "Pass a config file, or the name of a shipped config such as classification/"),
        ("../clip/r18_bertzh_digits_5fold", "Did you mean"),
        (f"/nowhere/{NAME}", "Did you mean"),
        ("clip", "no such config file"),
        ("", "not a config file"),
    ],
)
def test_a_wrong_name_is_one_line(here, typed, hint):
    (here / "mine2.py").touch()
    with pytest.raises(ConfigError) as caught:
        Config.load(typed)
    assert hint in str(caught.value) and "\n" not in str(caught.value)
