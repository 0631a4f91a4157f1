"""Comparison of a trained model with the baselines that ``tools/baselines.py`` wrote to its work dir.

Does not import torch, so that results print immediately.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.records.json_records import read_record, write_record
from clipzoo.records.results import SUMMARY_FILE, Summary
from clipzoo.text_tables import rows_or_columns

FOLDER = "baselines"
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

    def text(self, trained: Summary | None = None) -> str:
        """The table of all methods, the verdict on a trained model, and the notes."""
        record = self.record
        if trained is not None and trained.folds_digest != record.folds_digest:
            return f"baselines: not compared, their folds differ from the training's. Delete the folder {FOLDER} to compute them again"
        parts = [f"baselines on the same folds, frozen image tower {record.image_encoder}", self.table(trained)]
        if trained is not None:
            parts.append("\n".join(self.verdict(trained)))
        notes = [*record.notes, *(f"{name}: {note}" for name, summary in self.summaries.items() for note in summary.notes)]
        return "\n\n".join([*parts, *(f"note: {note}" for note in dict.fromkeys(notes))])

    def table(self, trained: Summary | None = None) -> str:
        """One row per method and one for the trained model, with each metric pooled over all tested cases; for the deciding metric also
        mean and standard deviation over the folds, if there are several.
        """
        select = self.record.select
        rows = {**self.summaries, **({} if trained is None else {"trained model": trained})}
        columns = {name: {metric: _number(value) for metric, value in summary.pooled.items()} for name, summary in rows.items()}
        for name, summary in rows.items():
            if len(summary.folds) > 1:
                columns[name][f"{select} mean ± sd"] = f"{_number(summary.mean.get(select))} ± {_number(summary.sd.get(select))}"
        return rows_or_columns("pooled", columns, num_totals=0 if trained is None else 1)

    def verdict(self, trained: Summary) -> list[str]:
        """The baselines that beat the trained model in the deciding metric, pooled; or a line that none exist."""
        select, up = self.record.select, self.record.greater_is_better
        own = trained.pooled.get(select, math.nan)
        values = {name: summary.pooled.get(select, math.nan) for name, summary in self.summaries.items()}
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        if math.isnan(own) or not known:
            return [f"{select} is not defined, so the trained model cannot be compared with the baselines"]
        mark = " (whose own score is optimistic)" if trained.optimistic else ""
        best_first = sorted(known, key=known.__getitem__, reverse=up)
        lost = [name for name in best_first if (known[name] > own if up else known[name] < own)]
        equal = [name for name in best_first if known[name] == own]
        sign = ">" if up else "<"
        lines = [f"{_describe(name)} is better than the trained model{mark}: {select} {known[name]:.4f} {sign} {own:.4f}" for name in lost]
        lines += [f"{_describe(name)} is as good as the trained model{mark}: {select} {known[name]:.4f} = {own:.4f}" for name in equal]
        if not lines:
            best = best_first[0]
            whose = f"{_describe(best)}, the best of them"
            lines = [f"the trained model is better than every baseline: {select} {own:.4f} {sign} {known[best]:.4f} of {whose}"]
        return lines


def folder_of(work_dir: str | Path, method: str) -> Path:
    """Folder with the results of a method."""
    return Path(work_dir) / FOLDER / method


def _describe(method: str) -> str:
    return DESCRIPTIONS.get(method, f"the baseline '{method}'")


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
