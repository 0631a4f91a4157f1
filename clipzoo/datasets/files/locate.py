"""Location of files that a table or list names: however their names are spelt, and below which folder."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from clipzoo.errors import DataError
from clipzoo.files import check_regular
from clipzoo.text import clean_name, clean_path, differences


class Folders:
    """Finds files whose names are spelt differently on disk: other slashes, other Unicode normalisation, surrounding blanks."""

    def __init__(self) -> None:
        self._inside: dict[str, dict[str, list[str]]] = {}
        self._folded: dict[str, dict[str, list[str]]] = {}

    def locate(self, root: str, written: str) -> tuple[str, int] | None:
        """Actual path and size of a file; ``None`` if none exists.

        Raises:
            DataError: The entry is neither a regular file nor a folder, or the name is ambiguous.
        """
        for name in (written, written.replace("\\", "/")):
            path = os.path.normpath(os.path.join(root, name))
            found = _size(path)
            if found is not None:
                return path, found
        path = self._respelt(root, written)
        found = None if path is None else _size(path)
        return None if found is None else (path, found)

    def without_ending(self, root: str, written: str, endings: tuple[str, ...]) -> tuple[str, int] | None:
        """Actual path and size of the only file whose name is ``written`` and one of ``endings``; ``None`` if none exists.

        Raises:
            DataError: There are several such files; or see ``locate``.
        """
        folder, name = os.path.split(os.path.normpath(os.path.join(root, clean_path(written))))
        if folder not in self._folded:
            self._folded[folder] = defaultdict(list)
            for actual in sorted(actual for same in self._names(folder).values() for actual in same):
                self._folded[folder][clean_name(actual).casefold()].append(actual)
        found = [actual for ending in endings for actual in self._folded[folder].get(f"{name}{ending}".casefold(), ())]
        if len(found) > 1:
            raise DataError(f"'{written}' may be {' or '.join(found)}. Write the ending")
        return self.locate(folder, found[0]) if found else None

    def _respelt(self, root: str, written: str) -> str | None:
        """The path below ``root`` with the same clean name, part by part."""
        path = os.path.normpath(root)
        parts = os.path.normpath(clean_path(written)).split("/")
        if parts[0] in ("", ".."):
            return None
        for part in parts:
            names = self._names(path).get(part, [])
            if len(names) > 1:
                raise DataError(f"{path}: {differences(*names[:2])}; '{written}' matches both. Rename one of them")
            if not names:
                return None
            path = os.path.join(path, names[0])
        return path

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._inside:
            found: dict[str, list[str]] = {}
            with contextlib.suppress(OSError):
                for name in sorted(os.listdir(folder)):
                    found.setdefault(clean_name(name), []).append(name)
            self._inside[folder] = found
        return self._inside[folder]


def _size(path: str) -> int | None:
    """Size of a file; ``None`` if there is nothing, or a folder.

    Raises:
        DataError: The entry is something else, or a broken link.
    """
    try:
        if os.path.isdir(path) or not os.path.lexists(path):
            return None
    except ValueError:  # a NUL in the name
        return None
    return check_regular(path).st_size


def top_folder(roots: Sequence[str], paths: Iterable[str]) -> str:
    """The prefix that ids omit from paths: the deepest folder containing all roots, or all images if one lies elsewhere; with its slash."""
    first, last = min(paths), max(paths)  # all paths between these two share their common prefix
    try:
        top = os.path.join(os.path.commonpath(roots), "")
        if not (first.startswith(top) and last.startswith(top)):
            top = os.path.join(os.path.commonpath([os.path.dirname(first), os.path.dirname(last)]), "")
    except ValueError:  # two drives
        top = ""
    return top
