"""Paths of the command line: ``~`` is the home folder, whatever the argument."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from clipzoo.cli import command_line


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def test_the_home_folder_is_expanded(home):
    assert command_line.path("~/runs/a") == home / "runs" / "a" and command_line.path_text("~") == str(home)
    assert command_line.path("runs/~a") == Path("runs/~a") and command_line.path_text("clip:ViT-B/32") == "clip:ViT-B/32"


@pytest.mark.parametrize(
    ("text", "words"),
    [("~nobody-of-this-name/a", "the home folder for '~nobody-of-this-name' is unknown"), ("x" * 5000, "is too long for a path")],
)
def test_what_is_no_path_is_one_line(text, words):
    with pytest.raises(argparse.ArgumentTypeError, match=words) as caught:
        command_line.path(text)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_every_path_of_every_command_is_expanded():
    """No command reads a path by ``type=Path``; those that are text are listed in the door's own words."""
    for source in Path(command_line.__file__).parent.glob("*.py"):
        assert "type=Path" not in source.read_text(encoding="utf-8"), source.name


def test_no_folder_is_called_after_the_home_folder(home, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = command("make_sample_data", "digits", "--out", "~/digits", "--num-samples", "10")
    assert ended.status == 0 and (home / "digits").is_dir() and not os.path.exists("~")
    ended = command("make_sample_data", "digits", "--out", "~nobody-of-this-name/digits")
    assert ended.status == 2 and ended.err.count("\n") == 1 and not os.path.exists("~nobody-of-this-name")
