"""Where things are kept that can be computed again: features of towers, and indexes of folders that cannot be written to."""

from __future__ import annotations

import os
from pathlib import Path

NO_HOME = "there is no home folder to keep anything in. Name a folder with CLIPZOO_CACHE"


def cache_folder() -> Path | None:
    """``$CLIPZOO_CACHE``, or else ``clipzoo`` in the user's cache (``$XDG_CACHE_HOME``, ``~/.cache``); ``None`` without a home folder.

    A user that the machine does not know, as in a container that is started for a number, has none.
    """
    own = os.environ.get("CLIPZOO_CACHE")
    if own:
        return expanded(own)
    user = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    base = Path(user) if user and os.path.isabs(user) else expanded("~/.cache")  # the standard ignores relative ones
    return None if base is None else base / "clipzoo"


def expanded(path: str | os.PathLike) -> Path | None:
    """``path`` with the home folder in the place of ``~``; ``None`` where there is none: no folder is ever called ``~``."""
    found = os.path.expanduser(path)
    return None if found.startswith("~") else Path(found)
