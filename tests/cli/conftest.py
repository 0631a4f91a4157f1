"""Commands are run in this process, as ``clipzoo COMMAND …`` would be: status, standard output, standard error."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny import tiny_config


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Callable[..., Ended]:
    """``command('train', config, '--fold', 3)``: run it in an empty working directory."""
    from clipzoo.cli import main

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return Ended(status, *capsys.readouterr())

    return run


@pytest.fixture
def write_config(tmp_path, class_folders) -> Callable[..., Path]:
    """``write_config(train={'epochs': 1})``: the tiny config with changed sections as a file."""
    from clipzoo.config import Config

    def make(root: Path | None = None, name: str = "tiny.py", text: str = "", **sections) -> Path:
        path = tmp_path / name
        path.write_text(Config.from_dict(tiny_config(root or class_folders, **sections)).dump() + text, encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory, class_folders) -> Path:
    """The work dir of the tiny config, trained to its end; read only."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation

    folder = tmp_path_factory.mktemp("finished") / "tiny"
    CrossValidation(Config.from_dict(tiny_config(class_folders), "tiny"), folder, console=Console(quiet=True)).train()
    return folder


@pytest.fixture
def copy_of_finished(finished, tmp_path) -> Path:
    """A copy of ``finished`` to damage."""
    return Path(shutil.copytree(finished, tmp_path / "work"))


@pytest.fixture
def snapshot() -> Callable[..., dict[str, str]]:
    """``snapshot(folder, …)``: every folder and file below, with the digest of its bytes."""

    def take(*folders: Path) -> dict[str, str]:
        found = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        return found

    return take
