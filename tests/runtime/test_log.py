"""The log and the bars: a record is one line, and no name in it acts on a terminal."""

import io
import logging
import re

import pytest
from rich.console import Console

from clipzoo.runtime import progress
from clipzoo.runtime.log import close_log, make_console, make_log

NAME = "a\x1b[31m[red]b[/red]\r\n2026-01-01 00:00:00,000 I fold_1: done\udcbb\u202e :smile:"
SHOWN = r"a\x1b[31m[red]b[/red]\r\n2026-01-01 00:00:00,000 I fold_1: done\xbb\u202e :smile:"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_record_is_one_line_on_the_screen_and_in_the_file(tmp_path, monkeypatch, encoding):
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="", write_through=True)
    monkeypatch.setattr("sys.stderr", screen)
    log = make_log(make_console(), tmp_path / "train.log")
    log.info(f"case {NAME}: 髋")
    log.warning("case %s", NAME)
    close_log(log)
    lines = screen.buffer.getvalue().decode(encoding).splitlines()
    assert [line.partition(SHOWN)[::2] for line in lines] == [("case ", ": 髋" if encoding == "utf-8" else r": \u9acb"), ("case ", "")]
    lines = (tmp_path / "train.log").read_bytes().decode("utf-8").splitlines()
    assert [re.sub(r"^\S+ \S+ ", "", line) for line in lines] == [f"I case {SHOWN}: 髋", f"W case {SHOWN}"]


def test_a_record_beside_a_bar_is_one_line(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=400, soft_wrap=True, highlight=False, color_system=None)
    log = make_log(console, None)
    log.info(f"case {NAME}")
    assert screen.getvalue().strip() == f"case {SHOWN}"


def test_the_name_of_a_bar_is_no_markup():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=400, color_system=None)
    with progress.shown(NAME, 3, console, logging.getLogger("test")) as through:
        through(3)
    assert SHOWN in screen.getvalue() and "\x1b[31m" not in screen.getvalue() and "\u202e" not in screen.getvalue()
