"""The completion scripts, run in the shells that are installed."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clipzoo.cli import COMMANDS, compare, completion, main
from clipzoo.config import shipped
from clipzoo.registries import OPTIMIZERS

# The words of a line, split at "=" as bash does, the last being completed.
CASES = [
    (["learning"], {"learning_curve"}),
    (["train", "--wo"], {"--work-dir"}),
    (["train", "clip/r18_bertzh_digits_5f"], {"clip/r18_bertzh_digits_5fold"}),
    (["fewshot", "pre"], {"predict"}),
    (["list_modules", "OPT"], {"OPTIMIZERS"}),
    (["train", "x", "--launcher", "s"], {"slurm"}),
    (["train", "x", "--cfg-options", "splits.num_f"], {"splits.num_folds="}),
    (["train", "x", "--cfg-options", "optimizer.type", "=", "Ad"], {name for name in OPTIMIZERS if name.startswith("Ad")}),
    (["train", "x", "--cfg-options", "train.epochs", "=", "3", "runtime.precision", "=", "f"], {"fp32", "fp16"}),
    (["train", "x", "--cfg-options", "train.epochs", "=", "3", "train.grad_c"], {"train.grad_cache="}),
    (["train", "x", "--cfg-options", "train.grad_cache", "=", "T"], {"True"}),
    (["train", "x", "--cfg-options", "optimizer.lr", "=", "1"], set()),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """A folder with the three scripts, as the command prints them."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in completion.SHELLS:
        with open(folder / shell, "w", encoding="utf-8") as file, pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr(sys, "stdout", file)
            main(["completion", shell])
        assert not end.value.code
    return folder


def run(shell: str, code: str, *arguments: object) -> list[str]:
    """The lines that a shell prints."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-c", code, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8")
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("words", "offered"), CASES, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bash(scripts, words, offered):
    code = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_TYPE=9; _clipzoo_complete; printf "%s\\n" "${COMPREPLY[@]}"'
    assert {line for line in run("bash", code, scripts / "bash", "clipzoo", *words) if line} == offered


def test_bash_that_does_not_split_at_the_equals_sign(scripts):
    code = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=4; _clipzoo_complete; printf "%s\\n" "${COMPREPLY[@]}"'
    found = run("bash", code, scripts / "bash", "clipzoo", "train", "x", "--cfg-options", "runtime.precision=b")
    assert found == ["runtime.precision=bf16"]


@pytest.mark.parametrize(("words", "offered"), CASES, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_fish(scripts, words, offered):
    line = " ".join(words).replace(" = ", "=")
    found = run("fish", f"source {scripts / 'fish'}; complete -C 'clipzoo {line}'")
    start = line.rpartition(" ")[2].partition("=")[0] + "=" if "=" in line.rpartition(" ")[2] else ""
    assert {row.partition("\t")[0] for row in found} == {start + value for value in offered}


def test_zsh(scripts):
    """Its syntax, and what the function for keys offers; the completion system around it is zsh's."""
    assert not run("zsh", f"setopt no_exec; source {scripts / 'zsh'}")
    text = (scripts / "zsh").read_text(encoding="utf-8")
    start, end = text.index("_clipzoo_configs="), text.index("# End Custom Preamble")
    code = text[start:end] + "\ncompset() { :; }; compadd() { print -l -- $@; }; PREFIX=$0; _clipzoo_keys"
    assert {"-S", "=", "optimizer.lr", "train.epochs"} <= set(run("zsh", code, "optim"))
    assert run("zsh", code, "runtime.precision=b") == ["--", "auto", "fp32", "bf16", "fp16"]
    assert ":*-*:KEY=VALUE:_clipzoo_keys" in text, "not only the first word after --cfg-options"


def test_every_command_and_config_is_in_every_script(scripts):
    for shell in completion.SHELLS:
        text = (scripts / shell).read_text(encoding="utf-8")
        assert all(name in text for name in [*COMMANDS, *shipped.names()]) and "\\x" not in text.replace("\\x1b", "")


def test_a_missing_package_is_one_line(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    ended = command("completion", "bash")
    assert (ended.status, ended.out, ended.err) == (2, "", "error: completion: requires the package shtab. Run pip install shtab\n")
    assert command("completion", "csh").err.startswith("error: SHELL: invalid choice: 'csh'")


def test_the_parser_of_a_command_is_had_without_running_it():
    made = completion.command_line.parser_of(compare.main)
    assert isinstance(made, argparse.ArgumentParser) and any(action.dest == "metric" for action in made._actions)
    with pytest.raises(SystemExit):
        compare.main(["--nonsense"])  # parses again afterwards
