"""The browser of the tests tells what a page does: a page with one fault of every kind is reported as such."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

GOOD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Good</title></head>
<body><main><h1>Good</h1><a id="first" href="#end">to the end</a> <button id="second">press</button>
<p id="end">end</p></main></body></html>"""
BAD = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Bad</title><link rel="icon" href="data:,"></head>
<body><main><h1 style="color: #aaa; background: #fff">Bad</h1><img src="missing.png">
<div style="width: 3000px">wide</div><script>console.warn("warned"); missing()</script></main></body></html>"""


@pytest.fixture
def visit(browser, tmp_path):
    """``visit(html, dark=True)``: the page in a window."""

    def open_(html: str, **window):
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        return browser.open(path, **window)

    return open_


def test_good_page(visit, tmp_path):
    found = visit(GOOD, dark=True, width=500, language="zh-CN")
    assert found.console == [] and found.requests == [] and found.violations() == [] and not found.scrolls_sideways()
    assert [name.partition(" ")[0] for name in found.focused_by_tab()] == ["a#first", "button#second"]
    assert found.page.evaluate("[matchMedia('(prefers-color-scheme: dark)').matches, innerWidth, navigator.language]") == [
        True,
        500,
        "zh-CN",
    ]
    assert found.screenshot(tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG"
    assert found.pdf(tmp_path / "page.pdf").read_bytes()[:4] == b"%PDF"


def test_bad_page(visit):
    found = visit(BAD)
    assert any("warned" in line for line in found.console) and any("missing is not defined" in line for line in found.console)
    assert [address.rpartition("/")[2] for address in found.requests] == ["missing.png"]
    assert {fault.partition(" ")[0] for fault in found.violations()} == {"color-contrast", "html-has-lang", "image-alt"}
    assert found.scrolls_sideways() and not found.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
