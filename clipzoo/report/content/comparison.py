"""Comparisons in a report: a trained model with its baselines, or several runs with each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from clipzoo.errors import ClipzooError, DataError
from clipzoo.records.tables import PredictionTable
from clipzoo.report.content.records import RunRecords
from clipzoo.scoring.baselines import Comparison, compare_with_trained
from clipzoo.scoring.runs import SIGNIFICANT, FinishedRun, RunComparison, compare
from clipzoo.statistics.cases import first_of_groups
from clipzoo.statistics.directions import greater_is_better

MOST_PAIRS = 10  # runs of which every pair is compared; of more, each with the best
MOST_DISAGREEMENTS = 12


def with_baselines(run: RunRecords) -> dict[str, Any] | None:
    """The trained model beside its baselines; ``None`` without baselines, or with ``problem`` if they do not fit."""
    try:
        found = Comparison.read(run.folder)
        compared = compare_with_trained(run.folder, write=False) if found is not None else None
    except ClipzooError as error:
        return {"problem": str(error), "runs": [], "pairs": []}
    return None if compared is None or found is None else {"tower": found.record.image_encoder, **plain(compared)}


def of_runs(runs: Sequence[RunRecords], metric: str | None = None) -> dict[str, Any]:
    """Every pair of runs on the same cases, the better one first, or each with the best if there are many.

    Raises:
        DataError: The runs are not of the same cases, or of findings.
        ConfigError: A run does not have the metric.
    """
    finished = [FinishedRun(run.name, run.summary, run.scored) for run in runs]
    metric = metric or runs[0].metric
    values = [run.summary.pooled.get(metric, math.nan) for run in runs]
    if len(runs) > MOST_PAIRS and all(map(math.isnan, values)):
        raise DataError(f"report: {metric} is undefined for every run, so that there is no best one to compare with")
    sign = -1 if greater_is_better(metric) else 1
    order = sorted(range(len(runs)), key=lambda run: (math.isnan(values[run]), sign * values[run]))
    pairs = combinations(order, 2) if len(runs) <= MOST_PAIRS else ((order[0], other) for other in order[1:])
    return plain(compare(finished, list(pairs), metric))


def plain(found: RunComparison) -> dict[str, Any]:
    """The comparison as the report stores it: ``comparison.json``, and per pair a ``verdict`` on the deciding metric."""
    content = asdict(found)
    content["pairs"] = [{**pair, "verdict": verdict(pair, found.metric, found.greater_is_better)} for pair in content["pairs"]]
    content["best"] = found.best()
    content["sentences"] = found.verdicts()
    return content


def verdict(pair: dict[str, Any], metric: str, greater_is_better: bool) -> str:
    """``'better'``, ``'worse'``, ``'not shown'``, ``'identical'`` or ``'no test'``: the first run of a pair against the second."""
    if pair["identical"]:
        return "identical"
    found = pair["metrics"].get(metric)
    if found is None or math.isnan(found["difference"]):
        return "no test"
    if not found["adjusted_p_value"] <= SIGNIFICANT:
        return "not shown"
    return "better" if (found["difference"] > 0) == greater_is_better else "worse"


def disagreements(runs: Sequence[RunRecords]) -> dict[str, Any]:
    """Cases that the runs classify differently, and in how many cases each is right; empty for retrieval.

    Sorted by how evenly the runs are split between right and wrong, then by how certain they are. One case of each group is shown.

    Raises:
        DataError: The runs are not of the same cases.
    """
    tables = [run.scored for run in runs]
    if not all(isinstance(table, PredictionTable) for table in tables):
        return {}
    first = tables[0]
    if any(table.case_ids != first.case_ids or table.classes != first.classes for table in tables):
        raise DataError("report: the runs are of different cases or classes. Compare runs on the same data")
    predicted = np.stack([table.probabilities.argmax(axis=1) for table in tables])  # [R, N]
    certain = np.stack([table.probabilities.max(axis=1) for table in tables])
    known = (first.labels >= 0) & np.isfinite(certain).all(axis=0)
    right = predicted == first.labels
    split = known & (predicted != predicted[0]).any(axis=0)
    even = np.minimum(right.sum(axis=0), (~right).sum(axis=0))
    order = np.lexsort((-certain.mean(axis=0), -even))
    order = order[split[order]]
    shown = [(order[i], others) for i, others in first_of_groups(first.groups, order)[:MOST_DISAGREEMENTS]]
    return {
        "cases": int(known.sum()),
        "differ": int(split.sum()),
        "all_right": int((known & right.all(axis=0)).sum()),
        "all_wrong": int((known & ~right.any(axis=0)).sum()),
        "only": {run.name: int((known & right[i] & (right.sum(axis=0) == 1)).sum()) for i, run in enumerate(runs)},
        "shown": [
            {
                "case_id": first.case_ids[row],
                "group": first.groups[row],
                "others": others,
                "fold": first.folds[row],
                "label": first.classes[int(first.labels[row])],
                "predictions": [
                    {
                        "run": run.name,
                        "prediction": first.classes[int(predicted[i, row])],
                        "p": float(certain[i, row]),
                        "right": bool(right[i, row]),
                    }
                    for i, run in enumerate(runs)
                ],
            }
            for row, others in shown
        ],
    }
