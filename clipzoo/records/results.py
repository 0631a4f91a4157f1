"""Results on disk besides weights and predictions: one result per fold, one summary per experiment, and its tables.

Does not import torch, so that summaries print immediately.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from clipzoo.commands import typed
from clipzoo.errors import CheckpointError
from clipzoo.files import file_sha256
from clipzoo.records.json_records import NAN_INSIDE, read_record, write_record
from clipzoo.text_tables import MANY_METRICS, aligned, groups_text, limits, number, p_text, rows_or_columns, value_with_limits

RESULT_FILE = "result.json"
SUMMARY_FILE = "cv_summary.json"
PREDICTIONS_FILE = "predictions.csv"
VAL_PREDICTIONS_FILE = "val_predictions.csv"
OUT_OF_FOLD_FILE = "oof_predictions.csv"


@dataclass(frozen=True)
class FoldResult:
    """``result.json``: written last, so that its presence marks the fold as finished.

    Attributes:
        fold: Name of the fold.
        selection: Which checkpoint was scored, and why.
        checkpoint: File name of the scored checkpoint.
        epoch: Epoch of the scored checkpoint, groups_text from 1, as recorded in it.
        epochs_trained: Number of epochs trained.
        metrics: Test metrics by name; NaN if undefined.
        counts: Number of cases per part.
        provenance: Provenance of the result; see ``Provenance``.
        seconds: Wall time of training and scoring since the last restart.
        device: Device used for training.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        processes: Number of training processes.
        step: Optimizer steps of the scored checkpoint.
        checkpoint_digest: Digest of the scored checkpoint's file; empty if none exists.
        predictions_digest: Digest of ``predictions.csv`` in the same folder.
        rounding: Values of all config keys that only change rounding.
        notes: Remarks on the training.
        val_predictions_digest: Digest of ``val_predictions.csv`` in the same folder; empty without classes or a labelled val part, or in a
            result of an earlier version.
        calibration: With ``evaluation.calibrate``: ``temperature``, ``num_cases`` of the val part, its ``log_loss_before`` and
            ``log_loss_after``, those of the test part with the prefix ``test_``, and a ``note``; empty without.
        interpolation: With ``evaluation.wise_ft``: ``alpha``, the share of the trained weights, by the tried ``alphas`` the ``scores`` on
            val, and the ``metrics`` on val of the mean; empty without.
        thresholds: For several labels per case, the lowest probability of each finding that is called present, fitted on val; ``None``
            where there is none.
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
    val_predictions_digest: str = ""
    calibration: dict[str, float | int | str | None] = field(default_factory=dict)
    interpolation: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float | None] = field(default_factory=dict)

    @property
    def folds_digest(self) -> str:
        """Digest of the ``folds.json`` used for training this fold."""
        return self.provenance.get("folds", "")

    def write(self, folder: Path) -> None:
        """Write ``folder/result.json``."""
        write_record(folder / RESULT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> FoldResult:
        """Read ``folder/result.json``.

        Raises:
            CheckpointError: The file has another format or is damaged.
        """
        return read_record(cls, folder / RESULT_FILE, f"Delete {folder} to train that fold again")


@dataclass(frozen=True)
class Summary:
    """``cv_summary.json``: every number can be recomputed from ``oof_predictions.csv`` and the folds' results.

    Attributes:
        name: The config's name.
        folds: One dict per fold: name, epoch, selection, metrics.
        mean: Mean of each metric over the folds where it is defined.
        sd: Standard deviation over folds (ddof 1); it describes the spread of the folds and is not a confidence interval.
        pooled: Each metric over all out-of-fold predictions at once; the primary result.
        per_class: One dict per class over the pooled predictions, with ``intervals`` (``[low, high]`` by metric).
        confusion: Confusion matrix; ``confusion[i][j]`` is the number of pooled cases of class i predicted as class j.
        classes: Class names.
        selection: How the scored epoch was chosen.
        optimistic: Whether the reported cases also chose the epoch (``select_on_test``).
        folds_digest: Digest of ``folds.json``.
        notes: Remarks on the splits.
        seconds: Sum of the folds' ``seconds``.
        predictions_digest: Digest of ``oof_predictions.csv`` in the same folder.
        intervals: Confidence interval of each pooled metric that has one: ``low``, ``high``, ``method``, a ``note`` if it is doubtful, and
            ``widening``, a factor of the standard error, if it also allows for learning from other cases.
        level: Confidence level of all intervals.
        num_groups: Number of groups (patients) that the intervals are over; 0 in a summary of an earlier version.
        subgroups: One dict per attribute and value: counts, and ``[value, low, high]`` by metric.
        subgroup_differences: One dict per pair of values of an attribute, in the deciding metric.
        operating_points: One dict per class with thresholds fitted on val: ``thresholds`` by fold, pooled counts and shares on test, and
            ``intervals``; empty without ``evaluation.operating_point``. This and the next three are ``None`` where undefined.
        decision_curve: One dict per class: net benefit on test (``model``, with ``low`` and ``high``, and ``treat_all``) by ``thresholds``.
        conformal: Prediction sets fitted on val for a coverage of 1 - ``alpha``: ``coverage`` on test, and ``mean_size``.
        calibration: ``ece`` (debiased) with ``interval``, ``ece_plug_in``, ``brier``, and the fitted ``temperatures`` by fold.
        unit: What counts once in every number: a case, or a group of cases whose probabilities are joined.
        join: How they are joined.
        findings: For several labels per case, one dict per finding over the pooled predictions: ``cases`` of which it is known,
            ``positives``, ``thresholds`` by fold and their ``criterion``, metrics (``None`` if undefined), and ``intervals`` (``[low,
            high]`` by metric).
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
    intervals: dict[str, dict] = field(default_factory=dict, metadata=NAN_INSIDE)
    level: float = 0.95
    num_groups: int = 0
    subgroups: list[dict] = field(default_factory=list, metadata=NAN_INSIDE)
    subgroup_differences: list[dict] = field(default_factory=list, metadata=NAN_INSIDE)
    operating_points: list[dict] = field(default_factory=list)
    decision_curve: list[dict] = field(default_factory=list)
    conformal: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    unit: Literal["case", "group"] = "case"
    join: Literal["mean", "max"] = "mean"
    findings: list[dict] = field(default_factory=list)

    def write(self, work_dir: Path) -> None:
        """Write ``work_dir/cv_summary.json``."""
        write_record(work_dir / SUMMARY_FILE, asdict(self))

    @classmethod
    def read(cls, work_dir: str | Path) -> Summary:
        """Read ``work_dir/cv_summary.json``.

        Raises:
            CheckpointError: The file is missing (not all folds are finished) or damaged, or ``oof_predictions.csv`` does not match it.
        """
        work_dir = Path(work_dir)
        again = f"Delete {work_dir / SUMMARY_FILE} and run {typed('train')}, which recreates it from the folds"
        if work_dir.parent.name == "baselines":
            again = f"Delete the folder {work_dir} and run {typed('baselines')}, which computes it again"
        summary = read_record(cls, work_dir / SUMMARY_FILE, again)
        table = work_dir / OUT_OF_FOLD_FILE
        if summary.predictions_digest and table.exists() and file_sha256(table) != summary.predictions_digest:
            raise CheckpointError(f"{table}: damaged or edited: does not match the summary. {again}")
        return summary

    def tables(self) -> str:
        """The fold table, the class table and the confusion matrix as aligned text."""
        mark = "  (OPTIMISTIC: the test part chose the epoch)" if self.optimistic else ""
        parts = [f"{self.name}: {self.selection}{mark}", self.metric_table()]
        parts += self.class_tables() if self.per_class else self.finding_tables() if self.findings else []
        parts += self.subgroup_tables()
        parts += self.decision_tables()
        if self.num_groups:
            learnt = any("widening" in interval for interval in self.intervals.values())
            parts.append(
                f"[low, high]: {100 * self.level:g} % confidence interval over {groups_text(self.num_groups)}, whose cases count together; "
                f"for new cases{', and for learning from other cases' if learnt else ' scored by the models as trained'}"
            )
        parts.extend(f"note: {note}" for note in [*self.notes, *self.doubts()])
        return "\n\n".join(parts)

    def subgroup_tables(self) -> list[str]:
        """A table for each attribute, and its differences that are shown after Holm's correction."""
        parts = []
        for attribute in dict.fromkeys(row["attribute"] for row in self.subgroups):
            own = [row for row in self.subgroups if row["attribute"] == attribute]
            metrics = list(dict.fromkeys(metric for row in own for metric in row["values"]))
            rows = [
                [
                    row["value"] or "unknown",
                    str(row["cases"]),
                    str(row["groups"]),
                    *(value_with_limits(row["values"].get(m)) for m in metrics),
                ]
                if not row["too_few"] or not row["value"]
                else [row["value"], str(row["cases"]), str(row["groups"]), *["too few"] * len(metrics)]
                for row in own
            ]
            parts.append(aligned([attribute, "cases", "groups", *metrics], rows))
            doubtful = [row["value"] for row in own if row.get("notes")]
            if doubtful:
                parts.append(f"note: intervals of {attribute} {', '.join(doubtful)}: few groups, or few of a class; they may be too narrow")
            parts += _difference_lines(attribute, [pair for pair in self.subgroup_differences if pair["attribute"] == attribute])
        return parts

    def doubts(self) -> list[str]:
        """Reasons to doubt intervals, each with the metrics that it concerns."""
        metrics_of: dict[tuple[str, str], list[str]] = {}
        for metric, interval in self.intervals.items():
            if interval["note"] and not math.isnan(self.pooled[metric]):
                start = "no interval" if math.isnan(interval["low"]) else "interval"
                metrics_of.setdefault((start, interval["note"]), []).append(metric)
        every = {metric for metric in self.intervals if not math.isnan(self.pooled[metric])}
        named = {note: "all metrics" if set(metrics) == every else ", ".join(metrics) for note, metrics in metrics_of.items()}
        narrow = {key: "" if key[0] == "no interval" or "too narrow" in key[1] else "; it may be too narrow" for key in named}
        return [f"{start} of {metrics}: {note}{narrow[start, note]}" for (start, note), metrics in named.items()]

    def metric_table(self) -> str:
        """Metrics of every fold, mean ± sd, and the pooled values: one row per fold, or one column if there are many metrics."""
        columns: dict[str, dict[str, str]] = {}
        for fold in self.folds:
            columns[fold["fold"]] = {"epoch": str(fold["epoch"]), **{n: number(fold["metrics"].get(n)) for n in self.pooled}}
        if len(self.folds) == 1 and len(self.pooled) > MANY_METRICS and not self.intervals:
            return rows_or_columns("fold", columns, num_totals=0)
        columns["mean ± sd"] = {n: f"{number(self.mean[n])} ± {number(self.sd[n])}" for n in self.pooled}
        columns["pooled"] = {n: number(self.pooled[n]) for n in self.pooled}
        if self.intervals:
            columns[f"{100 * self.level:g} % interval"] = {n: self.interval_text(n) for n in self.pooled}
        return rows_or_columns("fold", columns, num_totals=3 if self.intervals else 2)

    def interval_text(self, metric: str) -> str:
        """``[low, high]`` of a pooled metric, or a dash."""
        interval = self.intervals.get(metric)
        return limits(None if interval is None else (interval["low"], interval["high"]))

    def class_tables(self) -> list[str]:
        """Per-class precision and related metrics, and the confusion matrix if it fits a terminal."""
        keys = ["precision", "recall", "f1", "auroc"]
        rows = self.per_class
        counts = ["cases", *(["groups"] if all("groups" in c for c in rows) and any(c["groups"] != c["cases"] for c in rows) else [])]
        rows = [[c["class"], *(str(c[k]) for k in counts), *(_with_limits(c, k) for k in keys)] for c in self.per_class]
        parts = [aligned(["class (pooled)", *counts, *keys], rows)]
        if len(self.classes) <= 20:
            rows = [[name, *map(str, row)] for name, row in zip(self.classes, self.confusion, strict=True)]
            parts.append(aligned(["true \\ predicted", *self.classes], rows))
        return parts

    def finding_tables(self) -> list[str]:
        """One row per finding with its areas, and one with its thresholds and what they achieve."""
        areas = [
            [row["finding"], str(row["cases"]), str(row["positives"]), *(_with_limits(row, key) for key in ("auroc", "average_precision"))]
            for row in self.findings
        ]
        keys = ["sensitivity", "specificity", "ppv", "npv", "f1"]
        decided = [
            [row["finding"], " ".join(number(value) for value in row["thresholds"].values()), *(_with_limits(row, key) for key in keys)]
            for row in self.findings
        ]
        chosen = f"thresholds of the folds, from val ({self.findings[0]['criterion']})"
        return [
            aligned(["finding (pooled)", "cases", "positives", "auroc", "average precision"], areas),
            aligned(["finding", chosen, *keys], decided),
        ]

    def decision_tables(self) -> list[str]:
        """Operating points, and one line each on calibration and prediction sets."""
        keys, parts = ["sensitivity", "specificity", "ppv", "npv"], []
        if self.operating_points:
            rows = []
            for point in self.operating_points:
                thresholds = " ".join(number(value) for value in point["thresholds"].values())
                rows.append([f"{point['class']} ({point['criterion']})", thresholds, *(_with_limits(point, key) for key in keys)])
            parts.append(aligned(["operating point", "thresholds of the folds, from val", *keys], rows))
        found = self.calibration
        if found and found["ece"] is not None:
            lines = f"calibration error (debiased) {found['ece']:.3f} {limits(found['interval'])}, Brier score {number(found['brier'])}"
            if found["temperatures"]:
                values = ", ".join(f"{fold} {value:.2f}" for fold, value in found["temperatures"].items())
                before, after = number(found["log_loss_before"]), number(found["log_loss_after"])
                lines += f"; temperatures from val: {values}; log loss {before} before, {after} after"
            parts.append(lines)
        found = self.conformal
        if found and found["coverage"] is not None:
            parts.append(
                f"prediction sets for {100 * (1 - found['alpha']):g} %: contain the true class in {100 * found['coverage']:.1f} % "
                f"{limits(found['interval'])}, {found['mean_size']:.2f} classes on average"
            )
        return parts


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) of the defined values; NaN if there are too few.

    >>> mean_and_sd([1.0, 3.0, math.nan])
    (2.0, 1.4142135623730951)
    """
    values = [v for v in values if v is not None and not math.isnan(v)]
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _with_limits(row: dict, key: str) -> str:
    interval = row.get("intervals", {}).get(key)
    return number(row.get(key)) + ("" if interval is None else f" {limits(interval)}")


def _difference_lines(attribute: str, pairs: Sequence[dict]) -> list[str]:
    """The pairs of subgroups that differ after Holm's correction, and how many others there are; one paragraph, or none."""
    if not pairs:
        return []
    lines = [f"{attribute}: {_difference(pair)}" for pair in pairs if pair["adjusted_p_value"] <= 0.05]
    others = [pair for pair in pairs if not pair["adjusted_p_value"] <= 0.05]
    if len(others) == 1:
        lines.append(f"{attribute}: no difference shown, {_difference(others[0])}")
    elif others:
        lines.append(f"{attribute}: no difference shown in {'the other ' if lines else 'any of '}{len(others)} pairs")
    return ["\n".join(lines)]


def _difference(pair: dict) -> str:
    """A difference between two subgroups in words."""
    numbers = f"{pair['difference']:+.4f} {limits((pair['low'], pair['high']))} {pair['metric']}, {p_text(pair['adjusted_p_value'])} (Holm)"
    shared = f"; {groups_text(pair['shared_groups'])} in both" if pair["shared_groups"] else ""
    return f"{pair['first']} − {pair['second']}: {numbers}{shared}"
