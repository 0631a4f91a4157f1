"""Progress of a run or of other work: bars on a terminal, plain lines elsewhere; a child process sends its bars to its parent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from clipzoo.runtime.log import PipedConsole, close_log, make_log
from clipzoo.text import visible

_PAUSE = 0.1  # seconds between two messages about the same bar


class Bars(Protocol):
    """Bars below the log, one line each."""

    def show(self, name: str, what: str, done: int, total: int, note: str = "", left: float | None = None) -> None:
        """Draw or redraw a bar.

        Args:
            name: Name of the bar; another call with it moves the same bar.
            what: Description at its left.
            done: Number of items done.
            total: Number of items.
            note: Text at its right.
            left: Seconds to the end of the work, of which this bar may be a part.
        """

    def hide(self, name: str) -> None:
        """Remove a bar."""

    def close(self) -> None:
        """Remove all bars."""


class TerminalBars:
    """Bars on a terminal; a line that is too long for it is cut, so that each bar stays one line."""

    def __init__(self, console: Console):
        def text(field: str, **options: object) -> TextColumn:
            return TextColumn(f"{{task.{field}}}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", **options))

        columns = (text("description"), BarColumn(bar_width=20), MofNCompleteColumn(), text("fields[left]"), text("fields[note]", ratio=1))
        self.progress = Progress(*columns, console=console, transient=True, expand=True)
        self.tasks: dict = {}
        self.progress.start()

    def show(self, name: str, what: str, done: int, total: int, note: str = "", left: float | None = None) -> None:
        """See ``Bars.show``."""
        state = {"description": visible(what), "completed": done, "total": total, "note": visible(note)}
        state["left"] = "" if left is None else f"{clock(left)} left"
        if name in self.tasks:
            self.progress.update(self.tasks[name], **state)
        else:
            self.tasks[name] = self.progress.add_task(**state)

    def hide(self, name: str) -> None:
        """See ``Bars.hide``."""
        if name in self.tasks:
            self.progress.remove_task(self.tasks.pop(name))

    def close(self) -> None:
        """See ``Bars.close``."""
        self.progress.stop()


class SentBars:
    """The bars of a child process, which its parent draws; what changes quickly is not sent each time."""

    def __init__(self, console: PipedConsole):
        self.send = console.send
        self.last: dict[str, float] = {}

    def show(self, name: str, what: str, done: int, total: int, note: str = "", left: float | None = None) -> None:
        """See ``Bars.show``."""
        if done >= total or time.monotonic() - self.last.get(name, 0.0) >= _PAUSE:
            self.last[name] = time.monotonic()
            self.send("bar", {"name": name, "what": what, "done": done, "total": total, "note": note, "left": left})

    def hide(self, name: str) -> None:
        """See ``Bars.hide``."""
        self.send("hide", name)

    def close(self) -> None:
        """See ``Bars.close``."""
        for name in self.last:
            self.hide(name)


def bars_on(console: Console) -> Bars | None:
    """The bars of this console; ``None`` where plain lines have to do."""
    if isinstance(console, PipedConsole):
        return SentBars(console) if console.has_bars else None
    return TerminalBars(console) if console.is_terminal and not console.quiet else None


@contextmanager
def shown(
    what: str, total: int, console: Console, log: logging.Logger, seconds: float = 10.0, unit: str = "images"
) -> Iterator[Callable[[int], None]]:
    """A context manager whose value is a function to call with the number of items done.

    Args:
        what: Description of the work.
        total: Number of items.
        console: Console that shows the bar.
        log: Logger for plain lines, if ``console`` shows no bars.
        seconds: Shortest time between two lines.
        unit: Name of the items, in the plural.
    """
    started = last = time.monotonic()
    bars = bars_on(console)

    def bar(done: int) -> None:
        left = (time.monotonic() - started) / done * (total - done) if done else None
        bars.show(what, what, done, total, left=left)

    def line(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            rate = done / (last - started)
            log.info(f"{what}: {done}/{total}  " + (f"{rate:.0f} {unit}/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.0f} s each"))

    if bars is None:
        yield line
        return
    try:
        bar(0)
        yield bar
    finally:
        bars.close()


@contextmanager
def shown_alone(what: str, total: int, unit: str = "images", *, console: Console) -> Iterator[Callable[[int], None]]:
    """``shown``, for work before there is a log."""
    log = make_log(console, None)
    try:
        with shown(what, total, console, log, unit=unit) as done:
            yield done
    finally:
        close_log(log)


def clock(seconds: float) -> str:
    """A duration for people.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
