"""Comparison of a trained model with the baselines that ``tools/baselines.py`` wrote to its work dir.

Does not import torch, so that results print immediately; nor numpy, if the comparison is already stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.commands import typed
from clipzoo.errors import ClipzooError
from clipzoo.records.json_records import read_record, write_record
from clipzoo.records.results import SUMMARY_FILE, Summary
from clipzoo.scoring.runs import FILE, FinishedRun, RunComparison, compare
from clipzoo.text_tables import number, rows_or_columns

FOLDER = "baselines"
TRAINED = "the trained model"
RECORD_FILE = "summary.json"

# In table order; methods from plugins follow.
DESCRIPTIONS = {
    "majority": "always predicting the most frequent class",
    "zero_shot": "zero-shot classification with the class texts",
    "prototype": "the nearest class prototype on frozen features",
    "knn": "kNN on frozen features",
    "linear": "the linear probe on frozen features",
    "tip": "Tip-Adapter on frozen features",
}


@dataclass
class Record:
    """``baselines/summary.json``: the inputs of the baselines.

    Attributes:
        folds_digest: Digest of ``folds.json``.
        select: Metric that decides the comparison.
        greater_is_better: Whether larger values of ``select`` are better.
        image_encoder: Description of the image tower.
        image_digest: Digest of the tower with its weights, its preprocessing, and the libraries that computed its features.
        methods: Finished methods, each with ``seconds``, ``chosen_by`` (metric that chose its hyper-parameters), ``balanced`` (whether all
            classes counted equally in the fit), and ``text_encoder``, ``text_digest`` and ``templates`` if it uses texts.
        notes: Remarks for the reader.
        data_digest: Digest of the data's contents.
    """

    folds_digest: str
    select: str
    greater_is_better: bool
    image_encoder: str
    image_digest: str
    methods: dict[str, dict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    data_digest: str = ""

    def write(self, work_dir: Path) -> None:
        """Write the file below ``work_dir``."""
        write_record(work_dir / FOLDER / RECORD_FILE, asdict(self))

    @classmethod
    def read(cls, work_dir: str | Path) -> Record | None:
        """Read the file; ``None`` if there are no baselines.

        Raises:
            CheckpointError: The file has another format or is damaged.
        """
        path = Path(work_dir) / FOLDER / RECORD_FILE
        if not path.exists():
            return None
        return read_record(cls, path, f"Delete the folder {path.parent} to compute the baselines again")


@dataclass(frozen=True)
class Comparison:
    """The baselines of a work dir.

    Attributes:
        record: Inputs of the baselines.
        summaries: Results by method, in table order.
    """

    record: Record
    summaries: Mapping[str, Summary]

    @classmethod
    def read(cls, work_dir: str | Path) -> Comparison | None:
        """Read all finished baselines; ``None`` if none exist.

        Raises:
            CheckpointError: A file is damaged.
        """
        record = Record.read(work_dir)
        if record is None:
            return None
        order = [*(name for name in DESCRIPTIONS if name in record.methods), *sorted(set(record.methods) - set(DESCRIPTIONS))]
        found = {name: folder_of(work_dir, name) for name in order}
        summaries = {name: Summary.read(folder) for name, folder in found.items() if (folder / SUMMARY_FILE).exists()}
        return cls(record, summaries) if summaries else None

    def text(self, trained: Summary | None = None, compared: RunComparison | None = None) -> str:
        """The table of all methods, the verdicts on a trained model, and the notes.

        Args:
            trained: Summary of the trained model; ``None`` before training.
            compared: Result of ``compare_with_trained``; ``None`` if the folds differ.
        """
        record = self.record
        if trained is not None and trained.folds_digest != record.folds_digest:
            return f"baselines: not compared, their folds differ from the training's. Delete the folder {FOLDER} to compute them again"
        parts = [f"baselines on the same folds, frozen image tower {record.image_encoder}", self.table(trained)]
        if trained is not None and compared is not None:
            mark = "the trained model's own score is optimistic, as the test part chose the epoch\n" if trained.optimistic else ""
            parts.append(mark + "\n".join(compared.verdicts()))
        old = [name for name in self.summaries if record.methods.get(name, {}).get("chosen_by") != record.select]
        outdated = (
            [f"{', '.join(old)}: fitted by an earlier version, not for {record.select}. Run {typed('baselines')} again"] if old else []
        )
        learnt = [name for name, summary in self.summaries.items() if "widening" in summary.intervals.get(record.select, {})]
        if learnt:
            trained_too = "" if trained is None else "; that of the trained model is for new cases only, and takes the model as given"
            parts.append(f"intervals of {', '.join(learnt)} are for new cases and for learning from other cases{trained_too}")
        notes = [*record.notes, *outdated, *(f"{name}: {note}" for name, summary in self.summaries.items() for note in summary.notes)]
        return "\n\n".join([*parts, *(f"note: {note}" for note in dict.fromkeys(notes))])

    def table(self, trained: Summary | None = None) -> str:
        """One row per method and one for the trained model, with each metric pooled over all tested cases; for the deciding metric also
        its interval and, if there are several folds, their mean and standard deviation.
        """
        select = self.record.select
        rows = {**self.summaries, **({} if trained is None else {"trained model": trained})}
        columns = {name: {metric: number(value) for metric, value in summary.pooled.items()} for name, summary in rows.items()}
        if any(select in summary.intervals for summary in rows.values()):
            for name, summary in rows.items():
                columns[name][f"{select} {100 * summary.level:g} %"] = summary.interval_text(select)
        for name, summary in rows.items():
            if len(summary.folds) > 1:
                columns[name][f"{select} mean ± sd"] = f"{number(summary.mean.get(select))} ± {number(summary.sd.get(select))}"
        return rows_or_columns("pooled", columns, num_totals=0 if trained is None else 1)


def compare_with_trained(work_dir: str | Path, *, write: bool) -> RunComparison | None:
    """Paired differences between the trained model of a work dir and each of its baselines, in all metrics.

    Args:
        work_dir: Work dir of a finished training.
        write: Whether to store the result in ``baselines/comparison.json``, so that it need not be computed again.

    Returns:
        ``None`` if there are no baselines, or they are of other folds.

    Raises:
        CheckpointError: A file is damaged.
        DataError: The tables are not of the same cases.
    """
    found, trained = Comparison.read(work_dir), Summary.read(work_dir)
    if found is None or found.record.folds_digest != trained.folds_digest:
        return None
    names = [TRAINED, *map(describe, found.summaries)]
    digests = [summary.predictions_digest for summary in (trained, *found.summaries.values())]
    folder = Path(work_dir) / FOLDER
    if (folder / FILE).exists():
        stored = RunComparison.read(folder)
        same = [(run["name"], run["predictions_digest"]) for run in stored.runs] == list(zip(names, digests, strict=True))
        if same and all(digests) and stored.metric == found.record.select:
            return stored
    folders = [Path(work_dir), *(folder_of(work_dir, method) for method in found.summaries)]
    runs = [FinishedRun.read(folder, name) for folder, name in zip(folders, names, strict=True)]
    pairs = [(0, index) for index in range(1, len(runs))]
    compared = compare(runs, pairs, found.record.select, greater_is_better=found.record.greater_is_better)
    if write:
        compared.write(folder)
    return compared


def folder_of(work_dir: str | Path, method: str) -> Path:
    """Folder with the results of a method."""
    return Path(work_dir) / FOLDER / method


def beside_baselines(work_dir: str | Path, trained: Summary, *, write: bool) -> str:
    """The text of the baselines beside a trained model; empty without baselines. A problem with them is part of the text, since it must
    not hide the result of the training.
    """
    try:
        found = Comparison.read(work_dir)
        return "" if found is None else found.text(trained, compare_with_trained(work_dir, write=write))
    except ClipzooError as error:
        return f"baselines: not compared: {error}"


def describe(method: str) -> str:
    """A method in words."""
    return DESCRIPTIONS.get(method, f"the baseline '{method}'")
