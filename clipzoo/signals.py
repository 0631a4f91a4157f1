"""The signals that ask a process to end: Ctrl-C, SIGTERM, and SIGHUP, which comes when a terminal closes or a connection breaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end at once; the exit status is 128 more than its number.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.signal = number


@contextmanager
def handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Inside the block ``handle`` is told of every ending signal; outside the main thread nothing is caught.

    A SIGHUP that is ignored already stays ignored: that is what ``nohup`` asks for.
    """
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def caught(number: int, frame: FrameType | None) -> None:
        _leave_lost_terminals(terminals)
        handle(number)

    previous = {}
    try:
        for number in ENDING:
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, caught)
    except ValueError:  # only the main thread may catch signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stopping() -> Iterator[None]:
    """Inside the block an ending signal is raised as ``Stopped``, so that everything that must be put in order on the way out is."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with handled(stop):
        yield


class Interrupt:
    """Remembers that a signal asked the run to end; the loop looks at ``signal`` after each step.

    The same signal again ends at once, and so does Ctrl-C after any other.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def _handle(self, number: int) -> None:
        if self.signal is not None and number in (self.signal, signal.SIGINT):
            raise Stopped(number)
        self.signal = self.signal or number

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        """Catch the ending signals inside the block; outside the main thread nothing is caught.

        Raises:
            Stopped: At the end of the block, where a signal came too late for the loop to see it.
        """
        with handled(self._handle):
            yield self
        if self.signal is not None:
            raise Stopped(self.signal)


@contextmanager
def held() -> Iterator[None]:
    """Hold the ending signals back while child processes start, which hold them back too until they call ``left_to_the_parent``."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def left_to_the_parent() -> None:
    """In a child process: leave Ctrl-C and SIGHUP to the parent, which ends its children; SIGTERM ends this process without a word.

    The process leaves its group, to all of which torchrun and timeout(1) send their signals: a child that ended with its parent would keep
    it from saving.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def described(number: int) -> str:
    """A signal in words.

    >>> described(9)
    'signal 9 (Killed)'
    """
    text = signal.strsignal(number) if number in signal.valid_signals() else None
    return f"signal {number}" + (f" ({text})" if text else "")


def _leave_lost_terminals(numbers: list[int]) -> None:
    """Let what is written to a terminal that has gone be lost: an error in place of a line would keep the run from saving."""
    for number in numbers:
        if not os.isatty(number):
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
