"""The page needs no other file, runs no script, and shows hostile names as text."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from clipzoo.doctor import page as module
from clipzoo.doctor.page import page

HOSTILE = [
    "<script>alert(1)<",
    "a\u202egnp.evil",
    "=cmd|' /C calc'!A0",
    '" onerror="x',
    "{{ 7*7 }}{% x %}",
    "长" * 60,
    "w" * 240,
    "&amp;<b>",
]


class Tags(HTMLParser):
    """All tags with their attributes, and the text between them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile(checked, folder, pictures):
    """A report in which every hostile name is that of a class, of an image without pixels, and of a pair."""
    for number, name in enumerate(HOSTILE):
        name = name.replace("/", "∕")
        (folder / name).mkdir()
        (folder / name / f"{name}.png").write_bytes(b"")
        pictures(50 + number).save(folder / name / f"{name}2.png")
        pictures(50 + number).save(folder / name / f"{name}3.jpg", quality=90)
    return checked()


def test_names_are_text(hostile):
    shown = Tags(page(hostile))
    assert {tag for tag, _ in shown.tags} <= set(
        "html head meta title style body main h1 h2 p table tr td th section span small div figure figcaption img".split()
    )
    assert all(
        name in ("class", "src", "alt", "lang", "charset", "name", "content", "http-equiv") for _, found in shown.tags for name in found
    )
    for name in HOSTILE:
        assert name.replace("/", "∕").replace("\u202e", "\\u202e") in shown.text
    assert "\u202e" not in shown.text and "49" not in [word for word in shown.text.split() if word == "49"]


def test_nothing_is_loaded_from_elsewhere(hostile):
    text = page(hostile)
    sources = [found["src"] for tag, found in Tags(text).tags if tag == "img"]
    assert len(sources) > 10 and all(source.startswith("data:image/") for source in sources)
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text and "prefers-color-scheme: dark" in text


def test_pairs_are_side_by_side_and_small(checked, folder, pictures):
    big = pictures(0).resize((900, 450))
    big.save(folder / "a" / "big.png")
    big.save(folder / "b" / "big.jpg", quality=70)
    report = checked()
    assert "near_conflict" in {finding.check for finding in report.findings}
    images = [found["src"] for tag, found in Tags(page(report)).tags if tag == "img"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size for source in images]
    assert sizes.count((160, 80)) >= 2 and max(max(size) for size in sizes) <= 160


def test_the_budget_of_pictures(hostile, monkeypatch):
    monkeypatch.setattr(module, "MOST_PICTURES", 3)
    shown = {found["src"] for tag, found in Tags(page(hostile)).tags if tag == "img"}
    assert len([source for source in shown if source.startswith("data:image/jpeg")]) == 3, "besides the mean borders"


def test_an_image_that_vanished_since(hostile, folder):
    for path in folder.rglob("*2.png"):
        path.unlink()
    assert "cases" in page(hostile)


@pytest.mark.slow
def test_page_in_chromium(hostile, browser, tmp_path):
    path = tmp_path / "data_report.html"
    path.write_text(page(hostile), encoding="utf-8")
    for width, dark in ((400, True), (400, False), (1280, True), (1280, False)):
        visit = browser.open(path, width=width, dark=dark)
        assert visit.console == [] and visit.requests == []
        faults = visit.violations()
        assert faults == [], "\n".join(faults)
        assert not visit.scrolls_sideways()
        visit.screenshot(tmp_path / f"{width}{'dark' if dark else 'light'}.png")
