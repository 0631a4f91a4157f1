"""A record of the machine: versions, devices, and the commit of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from clipzoo import __version__


def environment() -> dict:
    """Versions, devices and commit, for ``config.json``."""
    packages = ["torch", "torchvision", "timm", "open_clip_torch", "transformers", "tokenizers", "numpy", "pillow", "scikit-learn"]
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "clipzoo": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.version.cuda if devices else None,
        "devices": devices,
        "packages": versions,
        "git_commit": git_commit(Path(__file__).resolve().parents[1]),
    }


def git_commit(package: Path) -> str | None:
    """The commit of the checkout whose top level holds and tracks ``package``, with ``+changes`` where tracked files differ from it.

    ``None`` for an installed package, even if its site-packages lie inside some other repository.
    """
    code = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    top = _git(package, "rev-parse", "--show-toplevel")
    if code is None or top is None or Path(top).resolve() != package.resolve().parent:
        return None
    commit = _git(package, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(package, "status", "--porcelain", "--untracked-files=no", ":/")
    return f"{commit}+changes" if commit and changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git, run in ``folder``; ``None`` if git is not installed or fails."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's would name another repository
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
