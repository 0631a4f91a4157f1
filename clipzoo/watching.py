"""Long work in a module that knows no console, such as indexing shards, as whoever calls it wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

# From a description, the number of items and their name in the plural to a context manager, whose value is called with the number done.
Show = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
_shows: ContextVar[Show | None] = ContextVar("shows", default=None)


@contextmanager
def shown_by(show: Show | None) -> Iterator[None]:
    """Inside the block, long work is shown by this function; by nothing if it is ``None``."""
    before = _shows.set(show)
    try:
        yield
    finally:
        _shows.reset(before)


def working(what: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
    """A context manager around long work, whose value is called with the number of items done; nothing is shown if there are none."""
    show = _shows.get()
    return nullcontext(lambda done: None) if show is None or not total else show(what, total, unit)
