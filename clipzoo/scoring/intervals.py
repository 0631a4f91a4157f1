"""Confidence intervals of the metrics of a table, as plain values for records."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from clipzoo.records.tables import FindingsTable, RetrievalTable, Table
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.findings import FindingCases
from clipzoo.statistics.scores import GRADED
from clipzoo.statistics.uncertainty.estimates import Interval
from clipzoo.statistics.uncertainty.finding_intervals import finding_intervals
from clipzoo.statistics.uncertainty.influence import Key
from clipzoo.statistics.uncertainty.intervals import MetricIntervals, classification_intervals, retrieval_intervals

LEVEL = 0.95
Thresholds = Mapping[str, Mapping[str, float | None]]
# Names in the class table, and those of the statistics.
CLASS_COLUMNS = {"recall": "sensitivity", **{name: name for name in ("precision", "specificity", "npv", "f1", "auroc")}}


def intervals_of(
    table: Table,
    metrics: Collection[str] = (),
    *,
    level: float = LEVEL,
    widening: Mapping[Key, float] | None = None,
    thresholds: Thresholds | None = None,
) -> MetricIntervals:
    """Intervals of all metrics of ``table`` over its groups; see ``clipzoo.statistics.uncertainty.intervals``.

    Args:
        table: Predictions, findings or ranks.
        metrics: Names of the wanted metrics: those with an order of classes are included on request only.
        level: Confidence level.
        widening: Factors of standard errors, for classification only.
        thresholds: Lowest probabilities that are called present, by fold and finding; ``None`` for none.
    """
    if isinstance(table, FindingsTable):
        return finding_intervals(FindingCases.from_table(table, thresholds), level=level)
    if isinstance(table, RetrievalTable):
        return retrieval_intervals(Queries.from_table(table), level=level)
    return classification_intervals(Cases.from_table(table), level=level, widening=widening, graded=GRADED in metrics)


def plain(interval: Interval, widening: float | None = None) -> dict[str, float | str]:
    """The interval as a record stores it: ``low``, ``high``, ``method`` and ``note``; ``widening`` if its standard error has a factor."""
    numbers = {"low": interval.low, "high": interval.high, "method": interval.method, "note": interval.note}
    return numbers if widening is None else {**numbers, "widening": widening}


def class_intervals(found: MetricIntervals, row: int) -> dict[str, list[float]]:
    """``[low, high]`` of each column of the class table for the class in ``row``; undefined ones are left out."""
    rows = {column: found.per_class[name][row] for column, name in CLASS_COLUMNS.items() if name in found.per_class}
    return {column: [interval.low, interval.high] for column, interval in rows.items() if not math.isnan(interval.low)}
