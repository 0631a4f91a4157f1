"""What a hyper-parameter search leaves on disk: the val score of each fold of a trial, and where a tuned run comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipzoo.records.json_records import read_record, write_record

VAL_RESULT_FILE, TUNED_FILE, SEARCH_FILE = "val_result.json", "tuned.json", "tune.json"


@dataclass(frozen=True)
class ValResult:
    """``val_result.json``: marks a fold of a trial as done. Nothing in it depends on the test part.

    Attributes:
        fold: Name of the fold.
        metric: The selecting metric.
        value: Its value on the val part at the chosen epoch.
        epoch: The chosen epoch, from 1.
        provenance: Provenance of the fold's files; see ``Provenance``.
        seconds: Wall time of training since the last restart.
    """

    fold: str
    metric: str
    value: float
    epoch: int
    provenance: dict[str, str]
    seconds: float

    def write(self, folder: Path) -> None:
        """Write ``folder/val_result.json``."""
        write_record(folder / VAL_RESULT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> ValResult:
        """Read ``folder/val_result.json``.

        Raises:
            CheckpointError: The file is damaged or has another format.
        """
        return read_record(cls, folder / VAL_RESULT_FILE, f"Delete {folder} to train that fold again")


@dataclass(frozen=True)
class Search:
    """``tune.json``: what must be the same for a search to go on.

    Attributes:
        config: The decisive part of the base config.
        space: The dimensions, as text.
        seed: Seed of the sampler.
        prunes: Whether trials that are worse than the median are stopped.
    """

    config: dict[str, Any]
    space: list[str]
    seed: int
    prunes: bool


@dataclass(frozen=True)
class Tuned:
    """``tuned.json`` in a work dir: the search that chose its config, which the summary must mention.

    Attributes:
        trial: Number of the chosen trial, from 1.
        num_trials: Number of trials that were started.
        num_pruned: Those that were stopped after some of the folds.
        num_failed: Those that ended with an error.
        metric: Metric whose mean over the val parts chose the trial.
        value: That mean.
        parameters: Key -> chosen value.
        num_shared: Number of cases that are in a val part and in the test part of another fold.
    """

    trial: int
    num_trials: int
    num_pruned: int
    num_failed: int
    metric: str
    value: float
    parameters: dict[str, Any]
    num_shared: int = 0

    @property
    def notes(self) -> list[str]:
        """What readers of the summary must know."""
        parts = [f"{count} {what}" for count, what in ((self.num_pruned, "pruned"), (self.num_failed, "failed")) if count]
        trials = f"{self.num_trials} trial{'s' if self.num_trials > 1 else ''}" + (f" ({', '.join(parts)})" if parts else "")
        chosen = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        notes = [f"hyper-parameters chosen among {trials} by {self.metric}, on val parts only: {chosen}"]
        if self.num_shared:
            notes.append(
                f"the search saw {self.num_shared} cases in val parts that are test cases of another fold: the test values may be "
                "slightly optimistic. With splits.type='Holdout' or a given test part there is no such overlap"
            )
        return notes

    def write(self, work_dir: Path) -> None:
        """Write ``work_dir/tuned.json``."""
        write_record(work_dir / TUNED_FILE, asdict(self))

    @classmethod
    def read(cls, work_dir: Path) -> Tuned | None:
        """Read ``work_dir/tuned.json``; ``None`` for a run that no search chose.

        Raises:
            CheckpointError: The file is damaged or has another format.
        """
        path = work_dir / TUNED_FILE
        return read_record(cls, path, "Run the search again, which writes it") if path.exists() else None
