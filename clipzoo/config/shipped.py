"""The configs that come with clipzoo, and the one place where a config is found by what the user typed.

In a clone they lie in the top-level ``configs/``; setup.py puts them into the package, ``clipzoo/configs/``.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path, PurePosixPath

from clipzoo.errors import ConfigError, did_you_mean
from clipzoo.files import expanded

_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """The folder of the shipped configs."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """What can be typed for the shipped configs, such as ``clip/r18_bertzh_digits_5fold``; their bases left out."""
    found = (path.relative_to(folder()).with_suffix("").as_posix() for path in folder().rglob("*.py"))
    return sorted(name for name in found if not name.startswith("_base_/"))


def find(name: str | os.PathLike) -> Path:
    """The config file that is meant by ``name``.

    An existing path comes first; then the shipped configs, where ``configs/`` in front and ``.py`` at the end may be omitted.

    Raises:
        ConfigError: There is no such config.
    """
    path = Path(expanded(name))
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError):  # too long, or with a NUL: whoever opens it reports that
        return path
    else:
        return path
    wanted = PurePosixPath(path.as_posix())
    if not wanted.is_absolute() and ".." not in wanted.parts:
        inside = wanted.relative_to("configs") if wanted.parts[:1] == ("configs",) else wanted
        for candidate in (folder() / inside, folder() / f"{inside}.py"):
            if candidate.is_file():
                return candidate
    raise ConfigError(f"{path}: no such config file.{_suggestion(path)}")


def _suggestion(path: Path) -> str:
    """What was probably meant: a file beside the one that was typed, or a shipped config; an example where nothing is close."""
    beside = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = did_you_mean(path.name, beside)
    if near:
        return near
    known = names()
    wanted = path.as_posix().removeprefix("configs/").removesuffix(".py")
    by_stem = {PurePosixPath(name).name: name for name in known}
    stems = difflib.get_close_matches(PurePosixPath(wanted).name, by_stem, n=1, cutoff=0.6)
    example = f" Pass a config file, or the name of a shipped config such as {known[0]}" if known else " Pass a config file"
    return did_you_mean(wanted, known) or (did_you_mean(by_stem[stems[0]], known) if stems else example)
