"""The records of a finished run that a report is made from; no model and no image is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from clipzoo.engine.fingerprint import FILE as FINGERPRINT_FILE
from clipzoo.engine.fingerprint import Fingerprint
from clipzoo.engine.work_dir import Experiment, is_experiment, read_experiment
from clipzoo.errors import CheckpointError, DataError
from clipzoo.files import read_json
from clipzoo.hooks.history import HISTORY_FILE
from clipzoo.records.folds import Folds
from clipzoo.records.results import OUT_OF_FOLD_FILE, RESULT_FILE, SUMMARY_FILE, VAL_PREDICTIONS_FILE, FoldResult, Summary
from clipzoo.records.tables import FindingsTable, PredictionTable, Table, read_table
from clipzoo.scoring.units import Unit
from clipzoo.scoring.work_dirs import deciding_metric

Kind = Literal["classification", "findings", "retrieval"]


@dataclass(frozen=True)
class RunRecords:
    """What is on record about a finished run.

    Attributes:
        folder: Work dir, or the folder of a baseline.
        name: Name in the report.
        summary: Its summary.
        table: Out-of-fold table with a row per case.
        metric: Metric that decides.
        folds: Its folds; ``None`` for a baseline.
        experiment: Content of ``config.json``; ``None`` for a baseline.
    """

    folder: Path
    name: str
    summary: Summary
    table: Table
    metric: str
    folds: Folds | None = None
    experiment: Experiment | None = None

    @classmethod
    def read(cls, folder: Path, name: str) -> RunRecords:
        """Read a finished work dir, or a baseline in it.

        Raises:
            CheckpointError: A file is missing, damaged, or does not match another.
            DataError: ``folds.json`` or a table is damaged.
        """
        from clipzoo.scoring.runs import require_finished

        require_finished(folder)
        summary = Summary.read(folder)
        table, metric = read_table(folder / OUT_OF_FOLD_FILE), deciding_metric(folder, summary)
        if not is_experiment(folder):
            return cls(folder, name, summary, table, metric)
        folds = Folds.read(folder / "folds.json")
        if folds.digest != summary.folds_digest:
            raise CheckpointError(f"{folder / 'folds.json'}: not the folds of {SUMMARY_FILE}. Restore the file")
        return cls(folder, name, summary, table, metric, folds, read_experiment(folder))

    @property
    def kind(self) -> Kind:
        """What was scored."""
        if isinstance(self.table, PredictionTable):
            return "classification"
        return "findings" if isinstance(self.table, FindingsTable) else "retrieval"

    @cached_property
    def scored(self) -> Table:
        """The table in the unit of the summary: a row per case, or per group."""
        return self.unit.of(self.table)

    @property
    def unit(self) -> Unit:
        """What counts once."""
        return Unit(self.summary.unit, self.summary.join)

    @cached_property
    def results(self) -> dict[str, FoldResult]:
        """Results of the folds that exist, by name."""
        names = [fold["fold"] for fold in self.summary.folds]
        return {name: FoldResult.read(self.folder / name) for name in names if (self.folder / name / RESULT_FILE).exists()}

    @cached_property
    def val(self) -> dict[str, PredictionTable | FindingsTable]:
        """Val predictions by fold, of the folds that have them, with a row per case."""
        paths = {name: self.folder / name / VAL_PREDICTIONS_FILE for name in self.results}
        return {name: read_table(path) for name, path in paths.items() if path.exists()}

    @cached_property
    def histories(self) -> dict[str, list[dict]]:
        """``history.json`` by fold; a missing or damaged one is left out, as it holds no result."""
        found = {}
        for fold in self.summary.folds:
            path = self.folder / fold["fold"] / HISTORY_FILE
            try:
                rows = read_json(path) if path.exists() else []
            except DataError:
                continue
            if isinstance(rows, list) and rows and all(isinstance(row, dict) and "epoch" in row for row in rows):
                found[fold["fold"]] = rows
        return found

    @cached_property
    def fingerprint(self) -> Fingerprint | None:
        """Fingerprint of the data; ``None`` without one."""
        return Fingerprint.read(self.folder) if (self.folder / FINGERPRINT_FILE).exists() else None
