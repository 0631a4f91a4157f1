"""The cache folder, for what can be recomputed: features of towers, and indexes of folders that are not writable."""

from __future__ import annotations

from clipzoo.files import cache_folder
from clipzoo.files import expanded_if_known as expanded

__all__ = ["NO_HOME", "cache_folder", "expanded"]

NO_HOME = "there is no home folder for the cache. Set CLIPZOO_CACHE to a folder"
