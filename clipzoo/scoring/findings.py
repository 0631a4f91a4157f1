"""Several labels per case in a summary: thresholds fitted on val parts, and one row per finding with what they achieve on test parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipzoo.errors import shortened
from clipzoo.records.findings_table import FindingsTable
from clipzoo.records.results import FoldResult
from clipzoo.scoring.decisions import Choice
from clipzoo.statistics.decisions.thresholds import fit_threshold
from clipzoo.statistics.findings import PER_FINDING
from clipzoo.statistics.uncertainty.intervals import MetricIntervals

DEFAULT_CRITERION = "f1"


def fit_thresholds(table: FindingsTable, choice: Choice) -> dict[str, float | None]:
    """The threshold of each finding, from its known cases of a val part; ``None`` where there is none.

    Args:
        table: Predictions of the val part.
        choice: The criterion; by default the largest F1.
    """
    found = {}
    for c, name in enumerate(table.classes):
        known = table.findings[:, c] >= 0
        scores, present = table.probabilities[known, c].astype(np.float64), table.findings[known, c] == 1
        found[name] = fit_threshold(scores, present, criterion=choice.criterion or DEFAULT_CRITERION, wanted=choice.wanted).value
    return found


def finding_rows(
    table: FindingsTable, intervals: MetricIntervals, results: Sequence[FoldResult], choice: Choice
) -> tuple[list[dict[str, Any]], list[str]]:
    """One dict per finding for ``Summary.findings``, and notes.

    Args:
        table: The out-of-fold table.
        intervals: Intervals of all metrics, with the thresholds of ``results``.
        results: Result of every fold.
        choice: How the thresholds were chosen.
    """
    criterion = choice.criterion or DEFAULT_CRITERION
    rows = []
    for c, name in enumerate(table.classes):
        own = {metric: intervals.per_class[metric][c] for metric in PER_FINDING}
        present, known = table.findings[:, c] == 1, table.findings[:, c] >= 0
        rows.append(
            {
                "finding": name,
                "cases": int(known.sum()),
                "positives": int(present.sum()),
                "criterion": criterion if choice.wanted is None else f"{criterion} {choice.wanted:g}",
                "thresholds": {result.fold: result.thresholds.get(name) for result in results},
                **{metric: None if math.isnan(interval.value) else interval.value for metric, interval in own.items()},
                "intervals": {metric: [found.low, found.high] for metric, found in own.items() if not math.isnan(found.low)},
                "note": own["auroc"].note,
            }
        )
    return rows, _notes(rows, results)


def thresholds_of(results: Sequence[FoldResult]) -> Mapping[str, Mapping[str, float | None]]:
    """Thresholds by fold and finding."""
    return {result.fold: result.thresholds for result in results}


def _notes(rows: Sequence[Mapping[str, Any]], results: Sequence[FoldResult]) -> list[str]:
    notes = []
    without = [result.fold for result in results if not result.thresholds]
    if without:
        notes.append(f"no thresholds in {shortened(without, 3)}: there are no val predictions, so sensitivity and the like leave it out")
    for row in rows:
        missing = [fold for fold, value in row["thresholds"].items() if value is None and fold not in without]
        if missing:
            why = "val does not have it both present and absent, or no threshold is as good as calling every case present"
            notes.append(
                f"{row['finding']}: no threshold in {shortened(missing, 3)}, as {why}; its sensitivity and the like leave these out"
            )
        if row["auroc"] is None:
            what = "no known case" if not row["cases"] else "no positive case" if not row["positives"] else "no negative case"
            notes.append(f"{row['finding']}: {what}, so it has no AUROC and is left out of the means")
        elif row["note"]:
            notes.append(f"{row['note']}; its intervals may be too narrow")
    return notes
