"""What an evaluation of few-shot episodes leaves on disk beside its tables: which model, which images, and what was remarked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.records.json_records import read_record, write_record

CURVE_FILE, EPISODES_FILE, ABOUT_FILE = "fewshot_curve.csv", "episodes.csv", "fewshot.json"
CURVE_COLUMNS = ["method", "shot", "way", "episodes", "mean", "ci95_low", "ci95_high", "sd"]
EPISODES_COLUMNS = ["episode", "classes", "method", "shot", "accuracy"]


@dataclass(frozen=True)
class AboutEpisodes:
    """``fewshot.json``.

    Attributes:
        model: The model, as ``clipzoo.load`` describes it.
        data: Name of the folder of images.
        images: Number of images in it.
        groups: Number of groups; support and query of an episode share none.
        classes: Classes that the episodes choose from.
        query: Queries of each class in an episode.
        seed: Seed of the episodes.
        notes: Remarks on the data and on the methods.
        versions: Version of every library that decides.
    """

    model: str
    data: str
    images: int
    groups: int
    classes: list[str]
    query: int
    seed: int
    notes: list[str]
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write ``folder/fewshot.json``."""
        write_record(folder / ABOUT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> AboutEpisodes:
        """Read ``folder/fewshot.json``.

        Raises:
            DataError: The file is missing or damaged.
        """
        return read_record(cls, folder / ABOUT_FILE, "Run fewshot evaluate --out again", DataError)
