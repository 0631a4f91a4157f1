"""How much memory a training takes: known after its first step, and told once to whoever has asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from clipzoo.runtime.jobs import room

if TYPE_CHECKING:
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.engine.runner import Runner


class _Measured:
    """A ``Watch`` that calls ``tell`` once, after the first optimizer step of this process; a resumed run has made others before."""

    def __init__(self, runner: Runner, tell: Callable[[], None]):
        self.watch, self.run, self.tell = runner.loaders[0].watch, runner.run, tell
        self.first_step: int | None = None  # before it; known when the first batch is awaited
        self.told = False

    def waits(self, seconds: float) -> None:
        """See ``Watch.waits``."""
        self.watch.waits(seconds)
        step = self.run.state.step
        self.first_step = step if self.first_step is None else self.first_step
        if not self.told and step > self.first_step:
            self.told = True
            self.tell()

    def note(self, line: str) -> None:
        """See ``Watch.note``."""
        self.watch.note(line)


def watch_memory(runner: Runner, tell: Callable[[], None]) -> None:
    """Let a run call ``tell`` once its memory is known: weights, gradients, moments and activations are there then."""
    measured = _Measured(runner, tell)
    for loader in runner.loaders:
        loader.watch = measured


def tell_the_grid(validation: CrossValidation) -> None:
    """If this process is a job of a grid that asks for it, let its first training tell its memory."""
    if os.environ.get(room.FILE):
        validation.began = lambda runner: watch_memory(runner, room.tell)
