"""The parent as a child process sees it: see ``child.py`` for what is said."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any

from clipzoo.errors import ClipzooError
from clipzoo.runtime.jobs import memory
from clipzoo.runtime.log import PipedConsole
from clipzoo.signals import Stopped, stopping

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Parent:
    """The parent process, which shows messages and may end this one.

    Args:
        pipe: File descriptor of the pipe to it.

    Attributes:
        order: What this process is to do.
        console: Console whose messages and bars the parent shows.
    """

    def __init__(self, pipe: int):
        self._pipe, self._lock = pipe, threading.Lock()
        self._tasks: SimpleQueue[str | None] = SimpleQueue()
        self._works = False
        self.order: Any = pickle.load(sys.stdin.buffer)
        self.console = PipedConsole(self.send)

    def send(self, kind: str, content: object = None) -> None:
        """Tell the parent something; without one, nothing happens, as this process still has a checkpoint to write."""
        line = json.dumps([kind, content]).encode("ascii") + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._pipe, line) :]
            except OSError:
                pass

    def tasks(self) -> Iterator[str]:
        """Say that this process is ready, and yield the names of its tasks as they come; one is done when the next is asked for.

        While this process works, the end of the parent ends it too.
        """
        self.send("ready", memory.used())
        threading.Thread(target=self._read, daemon=True).start()
        while (task := self._tasks.get()) is not None:
            self._works = True
            yield task
            self._works = False
            self.send("done")

    def _read(self) -> None:
        """Wait for tasks until the parent ends, however it ends; then end this process too, with a checkpoint if it works."""
        line = b""
        while part := os.read(_STDIN, 1):  # not the buffered file: its lock would disturb the end of the interpreter
            line += part
            if part == b"\n":
                self._tasks.put(line.decode().strip())
                line = b""
        self._tasks.put(None)
        if self._works:
            os.kill(os.getpid(), signal.SIGTERM)

    def tell_memory(self) -> None:
        """Say how much memory this process has needed so far, and how much of its GPU is free now."""
        self.send("memory", asdict(memory.Taken.now()))


@contextmanager
def to_the_parent() -> Iterator[Parent]:
    """Inside the block, this process is a child: its standard output goes to standard error, and its errors to the parent.

    Exits with status 2 after an error that the user can fix, and with 128 + signal after a signal.
    """
    pipe = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)  # whatever a library prints is no message
    parent = Parent(pipe)
    try:
        with stopping():
            yield parent
    except ClipzooError as error:
        parent.send("error", [type(error).__name__, str(error)])
        sys.exit(2)
    except Stopped as stop:
        parent.send("stopped", stop.signal)
        sys.exit(128 + stop.signal)
