"""A child process as its parent sees it. What it is to do goes in through a pipe, and what it has to say comes back through another.

    parent                                child (``reporting.py``)
    sys.path, then the order (pickled) →
                                        ← one JSON list per line, [kind, content]: ready
    the name of a task                →
                                        ← log, bar, hide, memory; then done, or error or stopped, after which the child ends
    the name of another task          →
    end of file: the parent has gone, →   ends, and with a checkpoint if it is working, as after SIGTERM
    or has no more tasks

The child is a new interpreter, not a fork: the thread pools of torch do not survive a fork, and CUDA cannot be used after one. As it takes
seconds to start, it does one task after the other.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any

_START = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from {module} import main; main()"
_DRAIN = 2.0  # seconds for the last messages of a process that has ended; its own children may keep the pipe open


class Child:
    """A process of ``module``'s ``main``, which uses ``reporting.to_the_parent``.

    Args:
        module: Module with the function ``main``.
        order: What holds for all tasks of the child, picklable.
        title: Words for the process list, such as the work dir.
        environment: Variables on top of this process's.
        messages: Receives ``(child, kind, content)`` of every message; a line that the child writes to its standard output or standard
            error is of the kind ``'line'``.

    Attributes:
        task: Name of its task, or of the last one.
        memory: Bytes that it took before its first task; ``None`` before it was ready.
        has_begun: Whether it was told to begin with its task.
        is_done: Whether it has done it.
    """

    def __init__(self, module: str, order: object, *, title: Sequence[str], environment: Mapping[str, str], messages: SimpleQueue):
        self.task, self.memory, self.has_begun, self.is_done = "", None, False, True
        self.environment, self.messages = environment, messages
        command = [sys.executable, "-c", _START.format(module=module), *title]
        around = {**os.environ, **environment, "PYTHONIOENCODING": "utf-8"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # In a session of its own: otherwise Ctrl-C would reach it twice, and the second one would end it without a checkpoint.
        self.process = subprocess.Popen(command, env=around, start_new_session=True, **pipes)
        read = ((self.process.stdout, self._hear), (self.process.stderr, self._hear_line))
        self.readers = [threading.Thread(target=_each_line, args=pair, daemon=True) for pair in read]
        for reader in self.readers:
            reader.start()
        self._write(pickle.dumps(sys.path) + pickle.dumps(order))

    def _write(self, content: bytes) -> None:
        with suppress(BrokenPipeError):  # it has died: its status says so
            self.process.stdin.write(content)
            self.process.stdin.flush()

    def _hear(self, line: str) -> None:
        kind, content = json.loads(line)
        self.messages.put((self, kind, content))

    def _hear_line(self, line: str) -> None:
        self.messages.put((self, "line", line))

    @property
    def is_free(self) -> bool:
        """Whether it can take another task."""
        return self.is_done and self.process.poll() is None

    def take(self, task: str) -> None:
        """Give it a task, which it does not begin yet."""
        self.task, self.has_begun, self.is_done = task, False, False

    def begin(self) -> None:
        """Let it begin with its task; it must have said that it is ready."""
        self.has_begun = True
        self._write(f"{self.task}\n".encode())

    def dismiss(self) -> None:
        """Let it end, as there is nothing more to do."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def poll(self) -> int | None:
        """0 if the task is done, the exit status once the process has ended and all its messages are in, ``None`` otherwise."""
        if self.is_done:
            return 0
        status = self.process.poll()
        if status is not None:
            for reader in self.readers:
                reader.join(_DRAIN)
        return status

    def terminate(self) -> None:
        """Ask it to write its checkpoint and end."""
        self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        return self.process.wait(timeout)


def _each_line(stream: IO[bytes], hear: Any) -> None:
    """Pass on every whole line of a child; bytes that are not UTF-8 are shown escaped."""
    with stream:
        for line in stream:
            text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
            if text:
                hear(text)
