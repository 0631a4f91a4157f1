"""The live view of several runs: a bar for each, and one for all of them. Where there is no terminal, the log's lines are the view."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from rich.console import Console

from clipzoo.runtime.progress import Bars, bars_on

_ALL = "all runs"


@dataclass
class FoldView:
    """What is shown while runs are trained side by side.

    Attributes:
        bars: Bars; ``None`` without a terminal.
        total: Number of runs.
        jobs: Number of runs at a time.
    """

    bars: Bars | None
    total: int
    jobs: int
    left: dict[str, float] = field(default_factory=dict)  # seconds, of each running one
    seconds: list[float] = field(default_factory=list)  # of each that has ended

    @classmethod
    def on(cls, console: Console, total: int, jobs: int) -> FoldView:
        """The view on this console."""
        view = cls(bars_on(console), total, jobs)
        view.show_all()
        return view

    @property
    def has_bars(self) -> bool:
        """Whether bars are shown."""
        return self.bars is not None

    def show(self, run: str, bar: dict) -> None:
        """Draw the bar that a run sent."""
        if self.bars is not None:
            self.bars.show(**bar)
            if bar["name"] == run and bar["left"] is not None:
                self.left[run] = bar["left"]
            self.show_all()

    def hide(self, name: str) -> None:
        """Remove a bar."""
        if self.bars is not None:
            self.bars.hide(name)

    def ended(self, run: str, seconds: float) -> None:
        """A run has ended; its bar goes."""
        self.left.pop(run, None)
        self.seconds.append(seconds)
        self.hide(run)
        self.show_all()

    def show_all(self) -> None:
        """Draw the bar of all runs."""
        if self.bars is not None:
            waiting = self.total - len(self.seconds) - len(self.left)
            note = f"{self.jobs} at a time" + (f", {waiting} waiting" if waiting else "")
            self.bars.show(_ALL, _ALL, len(self.seconds), self.total, note, self.seconds_left())

    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of all runs; ``None`` before anything is known."""
        if self.seconds:
            each = statistics.fmean(self.seconds)
        elif self.left:
            each = max(self.left.values())  # the rest of a run that has just begun
        else:
            return None
        waiting = self.total - len(self.seconds) - len(self.left)
        return max(max(self.left.values(), default=0.0), (sum(self.left.values()) + waiting * each) / self.jobs)

    def close(self) -> None:
        """Remove all bars."""
        if self.bars is not None:
            self.bars.close()
