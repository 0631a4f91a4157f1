"""The console, and a log for each run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from clipzoo.errors import DataError
from clipzoo.text import visible


def make_console(quiet: bool = False) -> Console:
    """The console for messages: standard error, so that standard output stays free for results."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


class PipedConsole(Console):
    """The console of a child process: what a log writes to it, and its bars, are shown by the parent, beside those of other children.

    Args:
        send: Sends ``(kind, content)`` to the parent, with content for JSON.

    Attributes:
        has_bars: Whether the parent shows bars; it does so on a terminal.
    """

    def __init__(self, send: Callable[[str, object], None], *, has_bars: bool = False):
        super().__init__(stderr=True, quiet=True)
        self.send, self.has_bars = send, has_bars


class _Sent(logging.Handler):
    """Sends records to the parent, whose log writes them."""

    def __init__(self, console: PipedConsole):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.send("log", [record.levelno, record.getMessage()])


def make_log(console: Console, file: Path | None) -> logging.Logger:
    """A separate logger for one run, which writes to the console and, with times, to ``file``.

    Raises:
        DataError: ``file`` cannot be written.
    """
    log = logging.Logger("clipzoo", level=logging.INFO)
    log.addHandler(_console_handler(console))
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{file}: cannot be written ({error.strerror or error}). Choose another folder with --work-dir") from error
        handler.setFormatter(_OneLine("%(asctime)s %(levelname).1s %(message)s"))
        log.addHandler(handler)
    return log


class _OneLine(logging.Formatter):
    """Keeps a record on one line, whatever the names in it contain: none can act on a terminal or look like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))


def _console_handler(console: Console) -> logging.Handler:
    if isinstance(console, PipedConsole):
        return _Sent(console)
    if console.quiet:
        return logging.NullHandler()
    if console.is_terminal:  # prints above the progress bar
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False, markup=False, highlighter=None)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    return handler


def close_log(log: logging.Logger) -> None:
    """Close the files of ``make_log``."""
    for handler in list(log.handlers):
        handler.close()
        log.removeHandler(handler)
