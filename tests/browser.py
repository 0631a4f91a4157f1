"""Real Chromium for tests of pages: what a page logs and requests, its faults for readers (axe-core), its looks.

A test takes the fixture ``browser`` (tests/conftest.py) and is slow; without Chromium or the packages it is skipped::

    @pytest.mark.slow
    @pytest.mark.parametrize("dark", [False, True])
    def test_page_in_chromium(browser, tmp_path, dark):
        visit = browser.open(tmp_path / "report.html", width=480, dark=dark)  # or "http://127.0.0.1:8000/"
        assert visit.console == [] and visit.requests == []
        assert visit.violations() == []
        assert not visit.scrolls_sideways()
        visit.screenshot(tmp_path / "narrow.png")
        visit.page.keyboard.press("Tab")  # visit.page is Playwright's Page: click, fill, set_input_files, inner_text

It needs the packages ``playwright`` and ``axe-playwright-python`` (requirements/tests.txt) and an installed Chromium, such as Debian's
``chromium``, or the program that ``CLIPZOO_CHROMIUM`` names. Playwright's own download of a browser is not used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import playwright.sync_api as playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LONGEST_S = 30
_LONGEST_HTML = 200


@dataclass
class Visit:
    """A page in a window.

    Attributes:
        page: Playwright's page, still open.
        console: What the page logged as errors and warnings, and its uncaught exceptions.
        requests: Addresses that the page requested, without its own and ``data:`` and ``blob:`` addresses.
    """

    page: playwright.Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def violations(self, **options: object) -> list[str]:
        """Faults that axe-core finds: its rule, its impact, and the start of the HTML of every element concerned.

        Args:
            **options: Options of ``axe.run``, such as ``rules={'region': {'enabled': False}}``.
        """
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(_axe().read_text(encoding="utf-8"))
        found = self.page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"], **options})
        return [
            f"{fault['id']} ({fault['impact']}): {node['html'][:_LONGEST_HTML]}" for fault in found["violations"] for node in fault["nodes"]
        ]

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

    def focused_by_tab(self, most: int = 200) -> list[str]:
        """The elements that Tab reaches, in order: tag name, id and the start of the text."""
        here = "(e => e === document.body ? '' : `${e.tagName.toLowerCase()}#${e.id} ${e.innerText.slice(0, 40)}`)(document.activeElement)"
        reached: list[str] = []
        for _ in range(most):
            self.page.keyboard.press("Tab")
            name = self.page.evaluate(here)
            if not name or reached[:1] == [name]:
                break
            reached.append(name)
        return reached

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """A PNG of the whole page, or of the window only."""
        self.page.screenshot(path=path, full_page=whole)
        return path

    def pdf(self, path: Path) -> Path:
        """The page as it is printed on A4."""
        self.page.pdf(path=path, format="A4")
        return path


class Browser:
    """Chromium without a window on the screen; every visit has its own cookies and storage."""

    def __init__(self, chromium: playwright.Browser):
        self._chromium = chromium

    def open(self, address: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False, language: str = "en-US") -> Visit:
        """Load a file or an address.

        Args:
            address: A path, or a URL.
            width: Width of the window in CSS pixels.
            height: Height of the window in CSS pixels.
            dark: Whether the reader prefers dark colours.
            language: The reader's language, such as ``zh-CN``.
        """
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        context = self._chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale=language
        )
        context.set_default_timeout(1000 * _LONGEST_S)
        visit = Visit(context.new_page())
        visit.page.on("console", lambda message: visit.console.append(message.text) if message.type in ("error", "warning") else None)
        visit.page.on("pageerror", lambda error: visit.console.append(str(error)))
        visit.page.on("request", lambda request: _note(visit, request.url, url))
        visit.page.goto(url, wait_until="load")
        return visit


def _note(visit: Visit, requested: str, own: str) -> None:
    if requested != own and not requested.startswith(("data:", "blob:")):
        visit.requests.append(requested)


def _axe() -> Path:
    package = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    return Path(package.__file__).parent / "axe.min.js"


def chromium_program() -> str | None:
    """The installed Chromium; ``None`` if there is none."""
    return os.environ.get("CLIPZOO_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that is closed afterwards; skips the test without Chromium or Playwright."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = chromium_program()
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program)
        try:
            yield Browser(started)
        finally:
            started.close()
