"""Messages name a command as the user can type it."""

from __future__ import annotations

import re
import sys

import pytest

from clipzoo.cli import COMMANDS
from clipzoo.commands import typed, typed_launch
from clipzoo.config import Config, shipped
from clipzoo.datasets.samples.missing import how_to_make


@pytest.fixture
def started(monkeypatch):
    """``started(program)``: as if ``program`` had been typed."""
    return lambda program: monkeypatch.setattr(sys, "argv", [str(program), "x"])


@pytest.mark.parametrize("program", ["/usr/bin/clipzoo", "/lib/clipzoo/cli/__main__.py", "/other/tools/train.py", "-c", ""])
def test_the_console_script_is_named(started, program):
    started(program)
    assert typed("train") == "clipzoo train" and typed("fewshot predict") == "clipzoo fewshot predict"
    assert typed_launch("pytorch").startswith("torchrun") and typed_launch("slurm").startswith("srun")


def test_a_script_of_the_clone_is_named_as_it_was_typed(started, repo, monkeypatch):
    monkeypatch.chdir(repo)
    started("tools/train.py")
    assert typed("make_folds") == "python tools/make_folds.py" and typed("fewshot predict") == "python tools/fewshot.py predict"
    assert typed_launch("pytorch") == "bash tools/dist_train.sh CONFIG NUM_PROCESSES"
    assert typed_launch("slurm") == "bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR"
    monkeypatch.chdir(repo / "tools")
    started("train.py")
    assert typed("test") == "python test.py"
    started(repo / "tools" / "train.py")
    assert typed("test") == f"python {repo}/tools/test.py"


def test_no_interpreter_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", [])  # embedded in another program
    assert typed("train") == "clipzoo train"


def test_what_is_named_exists(repo):
    """Every command and script that a message names."""
    sources = {path: path.read_text(encoding="utf-8") for path in (repo / "clipzoo").rglob("*.py")}
    named = {name for text in sources.values() for name in re.findall(r"typed\(f?['\"](\w+)", text)}
    assert len(named) > 6 and named <= COMMANDS.keys()
    assert all((repo / "tools" / f"{name}.py").is_file() for name in COMMANDS)


@pytest.mark.slow
def test_no_message_goes_round_it(repo):
    """Outside docstrings and comments, which readers of the code see, nothing names a script of ``tools/``."""
    import ast

    for path in (repo / "clipzoo").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docstrings = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, documented) and isinstance(n.body[0], ast.Expr)}
        texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings]
        wrong = [f"{path}:{n.lineno}" for n in texts if re.search(r"tools/\w+\.(py|sh)|\b(train|test|grid|summary)\.py\b", n.value)]
        assert not wrong


def test_missing_sample_data_name_the_command():
    """Wherever a shipped config looks for them."""
    roots = set()
    for name in shipped.names():
        dataset = Config.load(name).data.dataset
        roots.add(dataset.get("root") or dataset.get("path"))
    told = {root: sentence.rpartition(" ")[2] for root in roots if (sentence := how_to_make(root))}
    assert told == {"data/digits/images": "digits", "data/hip/images": "hip", "data/pairs": "pairs"}
    assert how_to_make("data/digits/images") == "To make this sample data: clipzoo make_sample_data digits"
    assert how_to_make("data/mine/images") == how_to_make("/elsewhere/digits/images") == ""
