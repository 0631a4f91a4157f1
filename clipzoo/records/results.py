"""What a run leaves on disk besides weights and predictions: one result per fold, one summary per experiment, and its tables.

Needs no torch, so that a summary is printed at once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.commands import typed
from clipzoo.errors import CheckpointError
from clipzoo.files import file_sha256
from clipzoo.records.json_records import read_record, write_record
from clipzoo.text_tables import MANY_METRICS, aligned, rows_or_columns

RESULT_FILE = "result.json"
SUMMARY_FILE = "cv_summary.json"
PREDICTIONS_FILE = "predictions.csv"
OUT_OF_FOLD_FILE = "oof_predictions.csv"


@dataclass(frozen=True)
class FoldResult:
    """``result.json``: written last, so that its presence says that the fold is done.

    Attributes:
        fold: Name of the fold.
        selection: Which checkpoint was scored, and why.
        checkpoint: Its file name.
        epoch: Its epoch, counted from 1; as it says itself.
        epochs_trained: How many epochs ran.
        metrics: Test metrics by name; NaN where one is not defined.
        counts: Cases per part.
        provenance: What it was made from; see ``Provenance``.
        seconds: Wall time of training and scoring, since the last restart.
        device: Where it was trained.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        processes: How many trained together.
        step: Optimizer steps of the scored checkpoint.
        checkpoint_digest: Of the scored checkpoint's file; empty where there is none.
        predictions_digest: Of ``predictions.csv`` beside it.
        rounding: The value of every key that changes the last digits only.
        notes: What a reader should know of how it was trained.
    """

    fold: str
    selection: str
    checkpoint: str
    epoch: int
    epochs_trained: int
    metrics: dict[str, float]
    counts: dict[str, int]
    provenance: dict[str, str]
    seconds: float
    device: str
    precision: str
    processes: int
    step: int = 0
    checkpoint_digest: str = ""
    predictions_digest: str = ""
    rounding: dict[str, str | int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def folds_digest(self) -> str:
        """Digest of the ``folds.json`` that this fold was trained with."""
        return self.provenance.get("folds", "")

    def write(self, folder: Path) -> None:
        """Write ``folder/result.json``."""
        write_record(folder / RESULT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> FoldResult:
        """Read ``folder/result.json``.

        Raises:
            CheckpointError: It is not such a file, or is damaged.
        """
        return read_record(cls, folder / RESULT_FILE, f"Delete {folder} to train that fold again")


@dataclass(frozen=True)
class Summary:
    """``cv_summary.json``: every number can be computed again from ``oof_predictions.csv`` and the folds' results.

    Attributes:
        name: The config's name.
        folds: One dict per fold: name, epoch, selection, metrics.
        mean: Mean over folds of each metric; folds where it is not defined are left out.
        sd: Standard deviation over folds (ddof 1); it describes the spread of the folds and is no confidence interval.
        pooled: Each metric over all out-of-fold predictions at once. The primary figure.
        per_class: One dict per class over the pooled predictions.
        confusion: ``confusion[i][j]``: pooled cases of class i predicted as class j.
        classes: Class names.
        selection: How the scored epoch was chosen.
        optimistic: The reported cases also chose the epoch (``select_on_test``).
        folds_digest: Digest of ``folds.json``.
        notes: What a reader should know about the splits.
        seconds: Sum of the folds' ``seconds``.
        predictions_digest: Of ``oof_predictions.csv`` beside it.
    """

    name: str
    folds: list[dict]
    mean: dict[str, float]
    sd: dict[str, float]
    pooled: dict[str, float]
    per_class: list[dict]
    confusion: list[list[int]]
    classes: list[str]
    selection: str
    optimistic: bool
    folds_digest: str
    notes: list[str]
    seconds: float
    predictions_digest: str = ""

    def write(self, work_dir: Path) -> None:
        """Write ``work_dir/cv_summary.json``."""
        write_record(work_dir / SUMMARY_FILE, asdict(self))

    @classmethod
    def read(cls, work_dir: str | Path) -> Summary:
        """Read ``work_dir/cv_summary.json``.

        Raises:
            CheckpointError: The file is missing (not all folds are done) or damaged, or ``oof_predictions.csv`` beside it is another table.
        """
        work_dir = Path(work_dir)
        again = f"Delete {work_dir / SUMMARY_FILE} and run {typed('train')}, which makes it again from the folds"
        summary = read_record(cls, work_dir / SUMMARY_FILE, again)
        table = work_dir / OUT_OF_FOLD_FILE
        if summary.predictions_digest and table.exists() and file_sha256(table) != summary.predictions_digest:
            raise CheckpointError(f"{table}: damaged or edited: the summary is of another table. {again}")
        return summary

    def tables(self) -> str:
        """The folds' table, the classes' table and the confusion matrix as aligned text."""
        mark = "  (OPTIMISTIC: the test part chose the epoch)" if self.optimistic else ""
        parts = [f"{self.name}: {self.selection}{mark}", self.metric_table()]
        parts += self.class_tables() if self.classes else []
        parts.extend(f"note: {note}" for note in self.notes)
        return "\n\n".join(parts)

    def metric_table(self) -> str:
        """Metrics of every fold, their mean and spread, and pooled: a row per fold, or, where there are many metrics, a column."""
        columns: dict[str, dict[str, str]] = {}
        for fold in self.folds:
            columns[fold["fold"]] = {"epoch": str(fold["epoch"]), **{n: _number(fold["metrics"].get(n)) for n in self.pooled}}
        if len(self.folds) == 1 and len(self.pooled) > MANY_METRICS:
            return rows_or_columns("fold", columns, num_totals=0)
        columns["mean ± sd"] = {n: f"{_number(self.mean[n])} ± {_number(self.sd[n])}" for n in self.pooled}
        columns["pooled"] = {n: _number(self.pooled[n]) for n in self.pooled}
        return rows_or_columns("fold", columns, num_totals=2)

    def class_tables(self) -> list[str]:
        """Precision and the like of every class, and the confusion matrix where it fits a terminal."""
        keys = ["precision", "recall", "f1", "auroc"]
        rows = [[c["class"], str(c["cases"]), *(_number(c.get(k)) for k in keys)] for c in self.per_class]
        parts = [aligned(["class (pooled)", "cases", *keys], rows)]
        if len(self.classes) <= 20:
            rows = [[name, *map(str, row)] for name, row in zip(self.classes, self.confusion, strict=True)]
            parts.append(aligned(["true \\ predicted", *self.classes], rows))
        return parts


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) of the defined values; NaN where there are too few.

    >>> mean_and_sd([1.0, 3.0, math.nan])
    (2.0, 1.4142135623730951)
    """
    values = [v for v in values if v is not None and not math.isnan(v)]
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
