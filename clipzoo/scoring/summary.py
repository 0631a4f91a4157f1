"""The summary of an experiment: every number of ``cv_summary.json``, from the folds' results and the out-of-fold table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipzoo import metrics as metric_tables
from clipzoo.records.folds import Folds
from clipzoo.records.results import FoldResult, Summary, mean_and_sd
from clipzoo.records.tables import FindingsTable, PredictionTable, Table
from clipzoo.scoring.decisions import Choice, decide
from clipzoo.scoring.findings import finding_rows, thresholds_of
from clipzoo.scoring.intervals import CLASS_COLUMNS, LEVEL, class_intervals, intervals_of, plain
from clipzoo.scoring.subgroups import subgroup_rows
from clipzoo.scoring.units import Unit
from clipzoo.statistics.uncertainty.influence import Key
from clipzoo.statistics.uncertainty.intervals import MetricIntervals

if TYPE_CHECKING:
    from clipzoo.metrics.base import Metric


def score(metrics: Sequence[Metric], table: Table) -> dict[str, float]:
    """The value of every metric over a whole table, by name; cases without a label are ignored."""
    given = (table.labels, table.probabilities) if isinstance(table, PredictionTable) else (table,)
    return {metric.name: float(metric.compute(*given)) for metric in metrics}


def make_summary(
    name: str,
    metrics: Sequence[Metric],
    folds: Folds,
    results: Sequence[FoldResult],
    table: Table,
    *,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    select: str = "",
    val: Mapping[str, PredictionTable | FindingsTable] | None = None,
    choice: Choice | None = None,
    widening: Mapping[Key, float] | None = None,
    unit: Unit | None = None,
) -> Summary:
    """Compute the summary.

    Args:
        name: Name of the experiment.
        metrics: Metrics in table order.
        folds: All folds.
        results: Result of every fold.
        table: The out-of-fold table, with a row per case.
        attributes: Values by attribute name and case id, for subgroups.
        select: Metric that decides, in which subgroups are compared.
        val: Val predictions by fold, of the folds that have them.
        choice: Operating points to report.
        widening: Factors of standard errors; ``None`` for none.
        unit: What counts once; ``None`` for every case.
    """
    unit = unit or Unit()
    if isinstance(table, PredictionTable):
        attributes = unit.attributes(table, attributes or {})
    table, val = unit.of(table), {fold: unit.of(found) for fold, found in (val or {}).items()}
    pooled = score(metrics, table)
    intervals = intervals_of(table, pooled, widening=widening, thresholds=thresholds_of(results))
    details = _details(table, results, val, choice or Choice(), intervals)
    selections = list(dict.fromkeys(r.selection for r in results))
    spread = {metric: mean_and_sd([r.metrics[metric] for r in results]) for metric in pooled}
    ordered = [select, *(metric for metric in pooled if metric != select)] if select in pooled else list(pooled)
    subgroups, differences = subgroup_rows(table, attributes or {}, ordered)
    keys = ("fold", "epoch", "epochs_trained", "metrics", "counts", "seconds")
    return Summary(
        name=name,
        folds=[{key: getattr(r, key) for key in keys} for r in results],
        mean={metric: mean for metric, (mean, _) in spread.items()},
        sd={metric: sd for metric, (_, sd) in spread.items()},
        pooled=pooled,
        per_class=details.pop("per_class", []),
        confusion=details.pop("confusion", []),
        classes=list(folds.classes),
        selection="; ".join(selections),
        optimistic=any("optimistic" in selection for selection in selections),
        folds_digest=folds.digest,
        notes=[
            *folds.notes,
            *unlike(results),
            *(f"{r.fold}: {note}" for r in results for note in r.notes),
            *details.pop("notes", []),
            *filter(None, [unit.note]),
        ],
        seconds=round(sum(r.seconds for r in results), 2),
        intervals={m: plain(intervals.overall[m], (widening or {}).get((m, None))) for m in pooled if m in intervals.overall},
        level=LEVEL,
        num_groups=intervals.num_groups,
        subgroups=subgroups,
        subgroup_differences=differences,
        unit=unit.name,
        join=unit.join,
        **details,
    )


def _details(
    table: Table,
    results: Sequence[FoldResult],
    val: Mapping[str, PredictionTable | FindingsTable],
    choice: Choice,
    intervals: MetricIntervals,
) -> dict[str, Any]:
    """The fields of ``Summary`` that only tables of one kind have, and ``notes``."""
    if isinstance(table, FindingsTable):
        rows, notes = finding_rows(table, intervals, results, choice)
        return {"findings": rows, "notes": notes}
    if isinstance(table, PredictionTable):
        confusion = metric_tables.confusion_matrix(table.labels, table.probabilities).tolist()
        return {"per_class": class_rows(table, intervals), "confusion": confusion, **vars(decide(table, results, val, choice))}
    return {}


def class_rows(table: PredictionTable, intervals: MetricIntervals) -> list[dict[str, Any]]:
    """One dict per class: ``metrics.per_class``, the numbers of groups, specificity and NPV (``None`` if undefined), and the intervals."""
    rows = metric_tables.per_class(table.labels, table.probabilities, table.classes)
    group_of = np.array([group or case_id for case_id, group in zip(table.case_ids, table.groups, strict=True)], dtype=object)
    for index, row in enumerate(rows):
        row["groups"] = len(set(group_of[table.labels == index]))
        for column in ("specificity", "npv"):
            value = intervals.per_class[CLASS_COLUMNS[column]][index].value
            row[column] = None if math.isnan(value) else value
        row["intervals"] = class_intervals(intervals, index)
    return rows


def unlike(results: Sequence[FoldResult]) -> list[str]:
    """Notes on folds that were trained differently: with another precision or number of processes, which changes the recipe, or with
    another setting that affects the last digits.
    """
    notes = []
    for what in ("precision", "processes"):
        found = sorted({str(getattr(result, what)) for result in results})
        if len(found) > 1:
            notes.append(f"the folds were trained with different {what}: {', '.join(found)}")
    for key in dict.fromkeys(key for result in results for key in result.rounding):
        found = list(dict.fromkeys(str(result.rounding.get(key)) for result in results))
        if len(found) > 1:
            notes.append(f"the folds were trained with different {key} ({', '.join(found)}), which changes the last digits")
    return notes
