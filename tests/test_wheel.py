"""A wheel and an sdist of this checkout, installed alone: what is in them, and what works from an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from clipzoo import __version__
from clipzoo.cli import COMMANDS
from clipzoo.config import shipped

pytestmark = pytest.mark.slow
PARTS = ("clipzoo", "configs", "requirements", "tests", "tools")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
NAME = "clip/r18_bertzh_digits_5fold"


def python(*arguments: object, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run Python in ``folder`` without the checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PYTHONIOENCODING": "utf-8", **variables}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)


def pip(*arguments: object, folder: Path) -> None:
    done = python("-m", "pip", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(repo, tmp_path_factory) -> tuple[Path, Path]:
    """The sdist of a copy of the checkout, and the wheel made from that sdist."""
    if python("-c", "import setuptools.command.bdist_wheel, pip", folder=tmp_path_factory.getbasetemp()).returncode:
        pytest.skip("building a wheel offline needs pip and setuptools 70.1 or newer in this environment")
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for name in PARTS:
        shutil.copytree(repo / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(repo / name, source / name)
    done = python("setup.py", "--quiet", "sdist", "--dist-dir", folder, folder=source)
    assert done.returncode == 0, done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist, folder=folder)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A folder with nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("installed") / "site"
    pip("install", "--no-deps", "--target", target, built[1], folder=target.parent)
    return target


@pytest.fixture
def clipzoo(installed, tmp_path):
    """``clipzoo('train', …)``: the console script in an empty folder, with the installed wheel as the only clipzoo."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return python(installed / "bin" / "clipzoo", *arguments, folder=tmp_path, PYTHONPATH=str(installed), HF_HUB_OFFLINE="1")

    return run


def files_below(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder.parent).as_posix() for path in folder.rglob(pattern) if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_the_configs(built, repo):
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    configs = {f"clipzoo/{name}" for name in files_below(repo / "configs", "*.py")}
    package = files_below(repo / "clipzoo", "*.py") | files_below(repo / "clipzoo", "*.jinja")
    assert names == package | configs | {"clipzoo/py.typed", "clipzoo/configs/README.md"}


def test_the_sdist_holds_what_the_wheel_is_built_from(built, repo):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = files_below(repo / "configs", "*.py") | files_below(repo / "requirements", "*.txt")
    wanted |= files_below(repo / "clipzoo", "*.py") | files_below(repo / "clipzoo", "*.jinja")
    assert wanted | {"clipzoo/py.typed", "configs/README.md", *FILES} <= names
    assert not [name for name in names if re.match(r"tests|tools|build|.*__pycache__", name)]


def test_version_and_help(clipzoo, installed):
    assert clipzoo("--version").stdout == f"clipzoo {__version__}\n"
    shown = clipzoo("--help").stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    where = python("-c", "import clipzoo; print(clipzoo.__file__)", folder=installed.parent, PYTHONPATH=str(installed))
    assert where.stdout.strip() == str(installed / "clipzoo" / "__init__.py")


@pytest.mark.parametrize("name", [*COMMANDS, "fewshot train", "fewshot predict", "fewshot evaluate"])
def test_usage_names_the_console_script(clipzoo, name):
    done = clipzoo(*name.split(), "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: clipzoo {name} ")
    assert "tools/" not in done.stdout and not re.search(rf"\b{name}\.py\b", done.stdout)


def test_every_shipped_config_is_found(installed, tmp_path):
    program = "import sys; from clipzoo.config import Config, shipped; [Config.load(n) for n in shipped.names()]; print(*shipped.names())"
    done = python("-c", program, folder=tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.split() == shipped.names(), done.stderr


def test_the_demo_in_an_empty_folder(clipzoo, tmp_path):
    missing = clipzoo("train", NAME)
    assert missing.returncode == 2 and not list(tmp_path.iterdir())
    command = missing.stderr.strip().rpartition("To make this sample data: ")[2]
    assert command == "clipzoo make_sample_data digits"
    made = clipzoo(*command.split()[1:], "--num-samples", "60")
    assert made.returncode == 0 and (tmp_path / "data/digits/images").is_dir()
    small = ["--cfg-options", "data.batch_size=16", "runtime.device=cpu", "runtime.threads=1"]
    tried = clipzoo("train", NAME, "--dry-run", *small)
    assert tried.returncode == 0, tried.stderr
    assert not (tmp_path / "work_dirs").exists()
