"""The console, and a log for each run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from clipzoo.errors import DataError
from clipzoo.text import visible


def make_console(quiet: bool = False) -> Console:
    """The console for messages: standard error, so that standard output stays free for results."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


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
