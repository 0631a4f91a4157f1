"""Reports in real Chromium: no message, no request, no fault for readers, at two widths and in both colour schemes; and on paper."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from report_pages import page_of

pytestmark = pytest.mark.slow


# Texts of charts that a reader's fonts draw beyond the edge of their chart.
_CUT_TEXTS = """() => [...document.querySelectorAll("svg.chart text")].filter(text => {
    const [own, chart] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()]
    return own.left < chart.left - 2 || own.right > chart.right + 2 || own.top < chart.top - 2 || own.bottom > chart.bottom + 2
}).map(text => text.textContent)"""


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ["plain", "hostile", "both"])
def test_pages(browser, contents, tmp_path, name, language):
    path = tmp_path / "report.html"
    path.write_text(page_of(contents[name], language), encoding="utf-8")
    for width in (1280, 420):
        for dark in (False, True):
            visit = browser.open(path, width=width, dark=dark)
            assert visit.console == [] and visit.requests == []
            assert visit.violations() == []
            assert not visit.scrolls_sideways()
            assert visit.page.evaluate(_CUT_TEXTS) == []
            reached = visit.focused_by_tab()
            assert reached[0].startswith("a#") and len(reached) > 3
    back = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == "rgb(22, 24, 27)"  # the dark one, of the last visit


def test_paper(browser, contents, tmp_path):
    """The text of a PDF is text, Chinese included; nothing is cut at the right."""
    fonts = shutil.which("fc-list") and subprocess.run(["fc-list", ":lang=zh"], capture_output=True, text=True).stdout
    if shutil.which("pdftotext") is None or not fonts:
        pytest.skip("pdftotext or a Chinese font is not installed")
    path = tmp_path / "report.html"
    path.write_text(page_of(contents["plain"], "zh"), encoding="utf-8")
    printed = browser.open(path).pdf(tmp_path / "report.pdf")
    text = subprocess.run(["pdftotext", "-layout", printed, "-"], capture_output=True, text=True, check=True).stdout
    assert "平衡准确率" in text and "骨水泥型" in text
    value = contents["plain"]["answer"]["value"]
    assert f"{value:.3f}" in text
