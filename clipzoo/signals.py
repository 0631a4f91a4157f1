"""Handling of the signals that end a process: Ctrl-C, SIGTERM, and SIGHUP (a closed terminal or a lost connection)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end immediately; the exit status is 128 plus its number.

    Attributes:
        signal: Signal number.
    """

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.signal = number


@contextmanager
def handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` for every ending signal inside the block; outside the main thread nothing is caught.

    A SIGHUP that is already ignored stays ignored, as ``nohup`` requires.
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
    """Raise ending signals as ``Stopped`` inside the block, so that all cleanup on the way out runs."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with handled(stop):
        yield


class Interrupt:
    """Records that a signal asked the run to end; the loop checks ``signal`` after each step.

    A repeated signal ends the process immediately, and so does Ctrl-C after any other signal.
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
            Stopped: At the end of the block, if the signal arrived too late for the loop to see it.
        """
        with handled(self._handle):
            yield self
        if self.signal is not None:
            raise Stopped(self.signal)


@contextmanager
def unchanged() -> Iterator[None]:
    """Undo what the block does to the handlers of Ctrl-C and of uncaught errors: some packages install their own."""
    handler, hook = signal.getsignal(signal.SIGINT), sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def held() -> Iterator[None]:
    """Block the ending signals while child processes start; the children inherit the block until they call ``left_to_the_parent``."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def left_to_the_parent() -> None:
    """In a child process: ignore Ctrl-C and SIGHUP, since the parent ends its children; SIGTERM ends this process silently.

    The process leaves its process group, which torchrun and timeout(1) signal as a whole: a child that ended together with its parent
    would prevent the parent from saving.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def described(number: int) -> str:
    """The description of a signal.

    >>> described(9)
    'signal 9 (Killed)'
    """
    text = signal.strsignal(number) if number in signal.valid_signals() else None
    return f"signal {number}" + (f" ({text})" if text else "")


def _leave_lost_terminals(numbers: list[int]) -> None:
    """Discard output to a terminal that has gone: a write error would prevent the run from saving."""
    for number in numbers:
        if not os.isatty(number):
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
