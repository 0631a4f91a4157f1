"""What an evaluation of few-shot episodes leaves on disk beside its tables: which model, which images, and what was remarked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.files import file_sha256
from clipzoo.records.json_records import read_record, write_record

CURVE_FILE, EPISODES_FILE, ABOUT_FILE = "fewshot_curve.csv", "episodes.csv", "fewshot.json"
CURVE_COLUMNS = ["method", "shot", "way", "episodes", "mean", "ci95_low", "ci95_high", "sd"]
EPISODES_COLUMNS = ["episode", "classes", "method", "shot", "accuracy"]

_ADVICE = "Run fewshot evaluate --out again"


@dataclass(frozen=True)
class AboutEpisodes:
    """``fewshot.json``.

    Attributes:
        model: The model, as ``clipzoo.load`` describes it.
        data: Name of the folder of images.
        images: Number of images of the classes below.
        groups: Number of their groups; support and query of an episode share none.
        classes: Classes that the episodes choose from; others have too few images.
        query: Queries of each class in an episode.
        seed: Seed of the episodes.
        notes: Remarks on the data and on the methods.
        texts: Sentences of each class, for methods that read them; empty if none does.
        versions: Version of clipzoo and of every library that decides.
        files: SHA-256 of each table.
        trained_classes: Those of ``classes`` that are also names of classes that the model was trained on.
    """

    model: str
    data: str
    images: int
    groups: int
    classes: list[str]
    query: int
    seed: int
    notes: list[str]
    texts: dict[str, list[str]]
    versions: dict[str, str]
    files: dict[str, str]
    trained_classes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``folder/fewshot.json``."""
        write_record(folder / ABOUT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> AboutEpisodes:
        """Read ``folder/fewshot.json``.

        Raises:
            DataError: The file is missing or damaged, or a table is not the one that it is about.
        """
        found = read_record(cls, folder / ABOUT_FILE, _ADVICE, DataError)
        for name, digest in found.files.items():
            if file_sha256(folder / name) != digest:
                raise DataError(f"{folder / name}: not the table that {ABOUT_FILE} is about. {_ADVICE}")
        return found
