"""The machine: when half precision is worth it on a CPU, generators, and which commit is the code's own."""

import random
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clipzoo.runtime import device as runtime
from clipzoo.runtime.environment import git_commit
from clipzoo.runtime.seeds import rng_state, set_rng_state


def net(size: int, groups: int = 1) -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=groups))
    model.preprocessing = SimpleNamespace(size=size)
    return model


@pytest.mark.parametrize("amx, size, groups, expected", [
    (True, 224, 1, torch.bfloat16),
    (False, 224, 1, None),  # emulated elsewhere
    (True, 32, 1, None),  # too small to pay for the casts
    (True, 224, 4, None),  # depthwise convolutions are many times slower in bf16
])  # fmt: skip
def test_auto_takes_bf16_on_a_cpu_only_where_it_gains(monkeypatch, amx, size, groups, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert runtime.choose_autocast("auto", torch.device("cpu"), net(size, groups)) is expected


def test_a_precision_that_is_named_is_taken():
    for name, dtype in {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        assert runtime.choose_autocast(name, torch.device("cpu"), net(32)) is dtype


def test_memory_that_is_freed_stays(monkeypatch):
    """Not more than that it can be called anywhere, twice, and where there is no glibc."""
    assert runtime.keep_freed_memory() is None
    monkeypatch.setattr(runtime.platform, "libc_ver", lambda: ("", ""))
    assert runtime.keep_freed_memory() is None


def test_generators_go_on_on_whatever_gpu_the_run_goes_on(monkeypatch):
    """Only the run's own device counts: how many others there are, and its number, may be others after a restart."""
    restored: list = []
    gpu = SimpleNamespace(get_rng_state=lambda: torch.tensor([7]), set_rng_state=restored.append)
    monkeypatch.setattr(torch, "get_device_module", lambda device: gpu)
    state = rng_state(torch.device("cuda", 1))
    drawn = torch.rand(3), np.random.rand(3), random.random()
    set_rng_state(state, torch.device("cuda", 0))
    again = torch.rand(3), np.random.rand(3), random.random()
    assert drawn[0].equal(again[0]) and (drawn[1] == again[1]).all() and drawn[2] == again[2] and restored == [torch.tensor([7])]
    set_rng_state(rng_state(torch.device("cpu")), torch.device("cuda", 0))
    assert len(restored) == 1, "a run that was on the CPU knows nothing of a GPU"


def git(folder: Path, *arguments: str) -> str:
    person = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *person, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def package_in(folder: Path) -> Path:
    package = folder / "clipzoo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    return package


@pytest.fixture
def checkout(tmp_path):
    """A repository that tracks a package at its top level, and another one deeper inside."""
    top = tmp_path / "checkout"
    package_in(top)
    package_in(top / "deeper")
    git(top, "init", "--quiet")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "first")
    return top


def test_the_commit_is_of_the_checkout_and_says_when_it_was_changed(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_commit(checkout / "clipzoo") == commit
    (checkout / "new.txt").write_text("not tracked")
    assert git_commit(checkout / "clipzoo") == commit
    (checkout / "deeper" / "clipzoo" / "__init__.py").write_text("changed = True")
    assert git_commit(checkout / "clipzoo") == f"{commit}+changes"


def test_an_installed_package_has_no_commit_of_the_repository_around_it(checkout, tmp_path):
    installed = package_in(checkout / ".venv" / "lib" / "site-packages")
    assert git_commit(installed) is None
    assert git_commit(checkout / "deeper" / "clipzoo") is None, "tracked, but somebody else's repository"
    other = package_in(tmp_path / "other")
    git(other.parent, "init", "--quiet")
    assert git_commit(other) is None, "not tracked"
    assert git_commit(package_in(tmp_path / "nowhere")) is None


def test_a_git_hook_does_not_change_whose_commit_it_is(checkout, tmp_path, monkeypatch):
    commit = git(checkout, "rev-parse", "HEAD")
    git(tmp_path, "init", "--quiet", "--bare", "another")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    assert git_commit(checkout / "clipzoo") == commit


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit(checkout / "clipzoo") is None
