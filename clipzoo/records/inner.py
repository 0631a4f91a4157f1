"""What an inner run leaves on disk, and the epoch that several of them choose."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.records.json_records import NAN_INSIDE, read_record, write_record

INNER_RESULT_FILE = "inner_result.json"


@dataclass(frozen=True)
class InnerResult:
    """``inner_result.json``: marks an inner run as done. Nothing in it depends on a test part.

    Attributes:
        fold: Name of the inner split.
        metric: The selecting metric.
        epochs: The evaluated epochs, from 1.
        scores: The selecting metric after each of them.
        provenance: Provenance of the run's files; see ``Provenance``.
        seconds: Wall time of training since the last restart.
    """

    fold: str
    metric: str
    epochs: list[int]
    scores: list[float] = field(metadata=NAN_INSIDE)
    provenance: dict[str, str]
    seconds: float

    def write(self, folder: Path) -> None:
        """Write ``folder/inner_result.json``."""
        write_record(folder / INNER_RESULT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> InnerResult:
        """Read ``folder/inner_result.json``.

        Raises:
            CheckpointError: The file is damaged or has another format.
        """
        return read_record(cls, folder / INNER_RESULT_FILE, f"Delete {folder} to train that inner fold again")


@dataclass(frozen=True)
class EpochChoice:
    """The epoch that inner folds chose.

    Attributes:
        epoch: Number of epochs to train, from 1.
        metric: The selecting metric.
        value: Its mean over the inner folds after that epoch.
        num_folds: Number of inner folds.
    """

    epoch: int
    metric: str
    value: float
    num_folds: int

    def __str__(self) -> str:
        """How the scored epoch was selected; the same for all folds of an experiment."""
        return f"best {self.metric} over {self.num_folds} inner folds"
