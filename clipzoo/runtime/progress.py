"""Progress of work that goes image by image: a moving bar on a terminal, plain lines elsewhere."""

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
    """A function that is told how many of ``total`` are through.

    Args:
        what: Is being done.
        total: How many there are.
        console: Where the bar goes.
        log: Where lines go, if ``console`` is no terminal.
        seconds: Shortest time between two lines.
        unit: Of what is counted.
    """
    if console.is_terminal and not console.quiet:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(visible(what), total=total)
            yield lambda through: bar.update(task, completed=through)
        return
    started = last = time.monotonic()

    def line(through: int) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            log.info(f"{what}: {through}/{total}  {through / (last - started):.0f} {unit}/s")

    yield line
