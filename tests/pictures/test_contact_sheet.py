"""The picture of what a search found."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets.files.images import read_image
from clipzoo.pictures import contact_sheet
from clipzoo.pictures.contact_sheet import GAP, THUMBNAIL, TITLE_SIZE, Row
from clipzoo.pictures.fonts import Font, Lettering, lettering

sheet_of = partial(contact_sheet.contact_sheet, read=read_image)


@pytest.fixture
def pictures(tmp_path):
    """Red and wide, green and tall, blue and square."""
    for name, colour, size in (("red.png", (255, 0, 0), (40, 20)), ("green.png", (0, 255, 0), (20, 40)), ("blue.png", (0, 0, 255), (9, 9))):
        Image.new("RGB", size, colour).save(tmp_path / name)
    return [tmp_path / name for name in ("red.png", "green.png", "blue.png")]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_every_thumbnail_is_whole_in_its_place(pictures):
    rows = [Row("colours", [(path.name, path, 0.9 - i / 10) for i, path in enumerate(pictures)])]
    sheet = pixels(sheet_of(rows))
    top = GAP + TITLE_SIZE + GAP
    for column, (colour, size) in enumerate([((255, 0, 0), (200, 100)), ((0, 255, 0), (100, 200)), ((0, 0, 255), (200, 200))]):
        left = GAP + column * (THUMBNAIL + GAP)
        cell = sheet[top : top + THUMBNAIL, left : left + THUMBNAIL]
        assert (cell == colour).all(axis=2).sum() == size[0] * size[1], "proportions are kept"
        assert tuple(cell[THUMBNAIL // 2, THUMBNAIL // 2]) == colour
        below = sheet[top + THUMBNAIL + 2 : top + THUMBNAIL + 45, left : left + THUMBNAIL]
        assert (below < 128).any(), "rank, similarity and name"
    assert sheet_of(rows) == sheet_of(rows)


def test_blocks_stand_below_each_other_and_the_query_image_comes_first(pictures):
    many = [(f"{i}.png", pictures[i % 3], 0.5) for i in range(7)]
    one = pixels(sheet_of([Row("a", many)]))
    both = pixels(sheet_of([Row("a", many), Row("b", [many[1]], query=pictures[0])]))
    assert both.shape[1] == one.shape[1] == GAP + 5 * (THUMBNAIL + GAP) and both.shape[0] > one.shape[0] + THUMBNAIL
    second = both[one.shape[0] :]
    red, green = ((second == colour).all(axis=2) for colour in ((255, 0, 0), (0, 255, 0)))
    assert red.any() and green.any() and np.flatnonzero(red.any(axis=0)).max() < np.flatnonzero(green.any(axis=0)).min()


def test_an_image_that_is_gone_leaves_its_place(pictures, tmp_path):
    sheet = sheet_of([Row("a", [("x.png", tmp_path / "x.png", 0.5), ("red.png", pictures[0], 0.4)])])
    assert ((pixels(sheet) == (255, 0, 0)).all(axis=2)).sum() == 200 * 100


def test_what_no_font_has_is_no_box(pictures):
    unassigned = "\U000e1234"
    rows = [Row(f"a{unassigned}b", [("red.png", pictures[0], 0.5)])]
    assert contact_sheet.lacking(rows) == unassigned and contact_sheet.lacking([Row("abc é", rows[0].found)]) == ""
    assert sheet_of(rows) == sheet_of([Row("a…b", rows[0].found)])
    nothing = [Row("a", rows[0].found), Row(f"{unassigned} {unassigned}", rows[0].found)]
    assert sheet_of(nothing) == sheet_of([nothing[0], Row("query 2", rows[0].found)])


def test_what_cannot_be_seen_in_a_name_is_drawn_escaped(pictures):
    found, plain = ([Row(name, [(name, pictures[0], 0.5)])] for name in ("a\x1b[31m\n\udcbb", r"a\x1b[31m\n\xbb"))
    assert sheet_of(found) == sheet_of(plain) and contact_sheet.lacking(found) == ""


def test_long_names_lose_their_middle():
    pen = contact_sheet._Pen(lettering(["…"]), 15)
    long = "a_very_long_name_of_an_image_file_that_does_not_fit_0042.png"
    shown = pen.fitting(long, 200)
    assert pen.length(shown) <= 200 < pen.length(long) and shown.endswith("0042.png") and "…" in shown
    assert pen.fitting("short.png", 200) == "short.png"


def test_every_character_is_drawn_in_a_font_that_has_it(monkeypatch):
    """As on a machine whose only font with some characters lacks the others."""
    mono = Font("DejaVu Sans Mono", lambda c: c in "xyz")
    monkeypatch.setattr(contact_sheet, "installed", lambda: (Font("DejaVu Sans", lambda c: c in "abc …"), mono))
    pen = contact_sheet._Pen(Lettering(("DejaVu Sans", "DejaVu Sans Mono"), frozenset("é")), 15)
    assert [(font.getname()[0], run) for font, run in pen._runs(pen.fitting("ab éxyc", 500))] == [
        ("DejaVu Sans", "ab …"),
        ("DejaVu Sans Mono", "xy"),
        ("DejaVu Sans", "c"),
    ]
