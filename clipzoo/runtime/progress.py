"""Progress of work that goes image by image: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clipzoo.text import visible


@contextmanager
def shown(
    what: str, total: int, console: Console, log: logging.Logger, seconds: float = 10.0, unit: str = "images"
) -> Iterator[Callable[[int], None]]:
    """A context manager whose value is a function to call with the number of items done.

    Args:
        what: Description of the work.
        total: Number of items.
        console: Console that shows the bar.
        log: Logger for plain lines, if ``console`` is not a terminal.
        seconds: Shortest time between two lines.
        unit: Name of the items, in the plural.
    """
    if console.is_terminal and not console.quiet:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(visible(what), total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    started = last = time.monotonic()

    def line(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            rate = done / (last - started)
            log.info(f"{what}: {done}/{total}  " + (f"{rate:.0f} {unit}/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.0f} s each"))

    yield line
