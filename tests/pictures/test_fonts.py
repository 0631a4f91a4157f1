"""Fonts are chosen by the characters they have, among fonts that are made up and one that is made here."""

import io
import logging
import warnings

import numpy as np
import pytest

from clipzoo.pictures import fonts
from clipzoo.pictures.figures import class_figure, class_labels, confusion_figure
from clipzoo.pictures.fonts import BASE_FONT, Font, choose, drawing, lettering


def font(name: str, characters: str) -> Font:
    return Font(name, characters.__contains__)


LATIN = font(BASE_FONT, "abcé")


def test_what_the_base_font_has_needs_no_other():
    found = choose(frozenset("é"), [LATIN, font("Hei", "髋臼")])
    assert found.families == (BASE_FONT,) and not found.missing


def test_one_font_that_has_everything_is_taken_before_several():
    fonts_ = [LATIN, font("Half", "髋"), font("Other half", "臼"), font("Whole", "髋臼柄")]
    assert choose(frozenset("髋臼é"), fonts_).families == (BASE_FONT, "Whole")
    assert choose(frozenset("髋臼"), fonts_[:3]).families == (BASE_FONT, "Half", "Other half")


def test_what_no_font_has_is_said():
    found = choose(frozenset("髋☃"), [LATIN, font("Hei", "髋臼"), font("Useless", "xyz")])
    assert found.families == (BASE_FONT, "Hei") and found.missing == {"☃"}
    assert found.draws("髋 cup") and not found.draws("a ☃")
    assert choose(frozenset("髋"), [LATIN]).missing == {"髋"}


def test_the_installed_fonts_are_asked_for_glyphs_and_boxes_do_not_count():
    found = {one.name: one for one in fonts.installed()}
    assert next(iter(found)) == BASE_FONT
    assert found[BASE_FONT].draws("A") and found[BASE_FONT].draws("é") and not found[BASE_FONT].draws("髋")
    assert not any("last resort" in name.lower() for name in found), "it has a box for everything"


def test_what_cannot_be_seen_in_a_name_is_drawn_escaped():
    names = ["two\nlines", "\x1b[31m", "\x7f", "$5"]
    letters = lettering(names)
    assert all(map(letters.draws, names)) and class_labels(names, letters) == ["two\\nlines", "\\x1b[31m", "\\x7f", "$5"]
    with warnings.catch_warnings(), drawing(names) as letters:
        warnings.simplefilter("error")  # matplotlib warns of glyphs that a font does not have
        figure = class_figure("\x1b]0;t\x07", "", np.eye(4, dtype=np.int64), names, letters)
        figure.savefig(io.BytesIO(), format="png")


@pytest.fixture
def new_font(tmp_path, monkeypatch):
    """A font with two Chinese characters, installed after matplotlib made its list, on a machine with no other that has them."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    for corner, line in (((100, 0), [(100, 700), (800, 700), (800, 0)]),):
        pen.moveTo(corner)
        for point in line:
            pen.lineTo(point)
        pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", "hip", "cup"]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord("髋"): "hip", ord("臼"): "cup"})
    builder.setupGlyf({name: pen.glyph() for name in names} | {".notdef": TTGlyphPen(None).glyph()})
    builder.setupHorizontalMetrics({name: (900, 100) for name in names})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Characters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "two.ttf"
    builder.save(path)
    known = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith(("DejaVu", "Last"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path), str(tmp_path / "gone.ttf")])
    fonts._lettering.cache_clear()
    yield
    fonts._lettering.cache_clear()


NAMES = ("髋臼", "髋臼 cup", "股骨柄 $5")


def test_names_are_drawn_with_a_font_that_was_just_installed_and_without_boxes_otherwise(new_font, caplog, tmp_path):
    import numpy as np

    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.filterwarnings("error", message="Glyph")  # as matplotlib warns of a missing one
        with drawing(NAMES) as letters:
            figure = confusion_figure(np.eye(3, dtype=int), NAMES, letters)
            figure.savefig(tmp_path / "matrix.png")
    axes = figure.axes[0]
    assert letters.families == (BASE_FONT, "Two Characters") and "股" in letters.missing
    assert [t.get_text() for t in axes.get_xticklabels()] == ["髋臼", "髋臼 cup", "class 3"]
    assert "class k: the k-th class" in figure._supxlabel.get_text()
    assert not [record for record in caplog.records if record.name == "matplotlib.font_manager"]


def test_the_style_is_ours_inside_and_the_users_afterwards():
    import matplotlib

    with matplotlib.rc_context({"axes.facecolor": "black", "text.parse_math": True}):
        with drawing(["$5 to $10"]):
            assert matplotlib.rcParams["axes.facecolor"] == "white" and not matplotlib.rcParams["text.parse_math"]
        assert matplotlib.rcParams["axes.facecolor"] == "black" and matplotlib.rcParams["text.parse_math"]


def test_the_answer_is_kept(monkeypatch):
    lettering(["é"])
    monkeypatch.setattr(fonts, "installed", lambda: pytest.fail("asked again"))
    assert lettering(["éé", "abc"]).draws("é")
