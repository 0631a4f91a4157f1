"""Sample data that a config needs and that are not there: the command that makes them.

They are never made on the way: a training that does not find its images must not train on drawn ones instead.
"""

from __future__ import annotations

import shlex
from pathlib import PurePath

from clipzoo.commands import typed

KINDS = ("digits", "hip", "pairs")


def how_to_make(path: str) -> str:
    """The sentence for a missing ``path`` of our sample data, such as ``data/digits/images``; empty for other data."""
    folder = PurePath(path)
    folder = folder.parent if folder.name in ("images", "class_texts.json", "groups.csv", "captions.json") else folder
    kind = folder.name
    if kind not in KINDS:
        return ""
    out = "" if folder == PurePath("data") / kind else f" --out {shlex.quote(str(folder))}"
    return f"To make this sample data: {typed(f'make_sample_data {kind}{out}')}"
