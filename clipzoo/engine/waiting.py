"""How a run waits for batches, and how a signal ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipzoo.engine.state import Run

_GRACE = 10.0  # seconds to wait for a batch after a signal, if other processes wait for this one


class Interrupted(Exception):
    """A signal ended the run between two steps, or in an evaluation.

    Attributes:
        signal: The signal's number; the exit status is 128 more.
        agreed: Whether all processes stopped at the same place, so that a checkpoint can be written.
    """

    def __init__(self, signal: int, agreed: bool = True):
        super().__init__(f"signal {signal}")
        self.signal, self.agreed = signal, agreed


class Waiting:
    """The ``Watch`` of a run's loaders, called while they wait for a batch.

    A single process stops before the next batch after a signal. Several agree after a step; one leaves alone only if no batch arrives.

    Args:
        run: Run that provides the interrupt, and the log for notes.
    """

    def __init__(self, run: Run):
        self.run = run
        self.noted = run.dataset.single_images.noted

    def waits(self, seconds: float) -> None:
        """See ``Watch.waits``.

        Raises:
            Interrupted: A signal was received.
        """
        number, alone = self.run.interrupt.signal, self.run.world_size == 1
        if number is not None and (alone or seconds > _GRACE):
            raise Interrupted(number, agreed=alone)

    def note(self, line: str) -> None:
        """Log ``line`` once for all runs on the data."""
        if line not in self.noted:
            self.noted.add(line)
            self.run.log.info(line)
