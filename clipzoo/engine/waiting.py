"""What a run does while it waits for a batch, and how a signal ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipzoo.engine.state import Run

_GRACE = 10.0  # seconds in which a batch may still come after a signal, where other processes wait for this one


class Interrupted(Exception):
    """A signal ended the run between two steps, or in an evaluation.

    Attributes:
        signal: The signal's number; the exit status is 128 more.
        agreed: All processes of the run stand at the same place, so that a checkpoint can be written.
    """

    def __init__(self, signal: int, agreed: bool = True):
        super().__init__(f"signal {signal}")
        self.signal, self.agreed = signal, agreed


class Waiting:
    """Waits for the batches of one run: a ``Watch`` of its loaders.

    One process ends before the next batch when a signal asks for it. Several agree after a step; only where no batch comes does one leave.

    Args:
        run: Whose interrupt says whether there was a signal, and whose log gets notes.
    """

    def __init__(self, run: Run):
        self.run = run
        self.noted: set[str] = set()

    def waits(self, seconds: float) -> None:
        """See ``Watch.waits``.

        Raises:
            Interrupted: A signal asked to end.
        """
        number, alone = self.run.interrupt.signal, self.run.world_size == 1
        if number is not None and (alone or seconds > _GRACE):
            raise Interrupted(number, agreed=alone)

    def note(self, line: str) -> None:
        """Log ``line`` once."""
        if line not in self.noted:
            self.noted.add(line)
            self.run.log.info(line)
