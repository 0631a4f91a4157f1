"""The cache folder, for what can be recomputed: features of towers, and indexes of folders that are not writable."""

from __future__ import annotations

import os
from pathlib import Path

NO_HOME = "there is no home folder for the cache. Set CLIPZOO_CACHE to a folder"


def cache_folder() -> Path | None:
    """``$CLIPZOO_CACHE``, or else ``clipzoo`` in the user's cache (``$XDG_CACHE_HOME``, ``~/.cache``); ``None`` without a home folder.

    A user unknown to the machine, such as a numeric user id in a container, has no home folder.
    """
    own = os.environ.get("CLIPZOO_CACHE")
    if own:
        return expanded(own)
    user = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    base = Path(user) if user and os.path.isabs(user) else expanded("~/.cache")  # the XDG standard ignores relative paths
    return None if base is None else base / "clipzoo"


def expanded(path: str | os.PathLike) -> Path | None:
    """``path`` with ``~`` replaced by the home folder; ``None`` without one, so that no folder is ever called ``~``."""
    found = os.path.expanduser(path)
    return None if found.startswith("~") else Path(found)
