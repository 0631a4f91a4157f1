"""How often something is done that a run does not wait for: pictures, and files that are rewritten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """Allows work to take a share of the time.

    Args:
        seconds: Least time between the end of one piece of work and the beginning of the next.
        share: Largest share of the time for the work.
        clock: Seconds that never go back.
    """

    def __init__(self, seconds: float = 0.0, share: float = 0.02, clock: Callable[[], float] = time.monotonic):
        self._seconds, self._share, self._clock = seconds, share, clock
        self.start()

    def start(self) -> None:
        """Begin to count the time."""
        self._ended, self._took = self._clock(), 0.0

    def is_due(self) -> bool:
        """Whether enough time has passed since the last time."""
        return self._clock() - self._ended >= max(self._seconds, self._took / self._share)

    @contextmanager
    def working(self) -> Iterator[None]:
        """The work."""
        begun = self._clock()
        try:
            yield
        finally:
            self._ended = self._clock()
            self._took = self._ended - begun
