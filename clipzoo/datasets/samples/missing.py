"""Sample data that a config needs and that are not there: the command that makes them.

They are never made on the way: a training that does not find its images must not train on drawn ones instead.
"""

from __future__ import annotations

from pathlib import PurePath

from clipzoo.commands import typed

_FOLDERS = {PurePath("data") / kind: kind for kind in ("digits", "hip", "pairs")}  # where the shipped configs look for them


def how_to_make(path: str) -> str:
    """The sentence for a missing ``path`` that the shipped configs name, such as ``data/digits/images``; empty for other data.

    >>> how_to_make("data/digits/images")
    'To make this sample data: clipzoo make_sample_data digits'
    """
    folder = PurePath(path)
    kind = _FOLDERS.get(folder.parent if folder.name == "images" else folder)
    return "" if kind is None else f"To make this sample data: {typed(f'make_sample_data {kind}')}"
