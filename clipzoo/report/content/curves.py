"""The numbers of a report's charts of decisions: ROC, precision–recall, reliability, and of retrieval the ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clipzoo.records.tables import DIRECTIONS, FindingsTable, PredictionTable, RetrievalTable
from clipzoo.report.content.answer import chance_recalls
from clipzoo.report.content.records import RunRecords
from clipzoo.statistics.cases import group_codes
from clipzoo.statistics.decisions.calibration import reliability_curve, top_label
from clipzoo.statistics.decisions.curves import ScoreCurve, precision_recall_curve, roc_curve
from clipzoo.statistics.decisions.temperature import apply_temperature, fit_temperature
from clipzoo.statistics.retrieval_scores import hit_probabilities
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset

MOST_CURVES = 12  # of as many classes, those with the lowest AUROC
_RESAMPLES, _MOST_WEIGHTS = 500, 5_000_000
_MOST_POINTS = 200  # of a curve in the report
_RANKS = (1, 2, 3, 5, 10, 20, 50, 100)


def score_curves(run: RunRecords) -> dict[str, list[dict[str, Any]]]:
    """ROC and precision–recall curves of the classes or findings, each against all others; empty for retrieval.

    Bands are pointwise percentiles over resamples of whole groups, with the models as trained.
    """
    found: dict[str, list[dict[str, Any]]] = {"roc": [], "precision_recall": []}
    table = run.scored
    if isinstance(table, RetrievalTable):
        return found
    for c, row in _hardest(run):
        scores, positive, groups = _one_class(table, c)
        if not positive.any() or positive.all():
            continue
        count = max(min(_RESAMPLES, _MOST_WEIGHTS // len(scores)), 20)
        weights = bootstrap_weights(groups, positive.astype(np.int64), num_resamples=count, seed=0)
        name, share = table.classes[c], float(positive.mean())
        areas = {key: row.get(key) for key in ("auroc", "average_precision") if key in row}
        limits = {f"{key}_interval": row.get("intervals", {}).get(key) for key in areas}
        for kind, curve in (("roc", roc_curve), ("precision_recall", precision_recall_curve)):
            drawn = curve(scores, positive, weights=weights, level=run.summary.level)
            if kind == "precision_recall" and "average_precision" not in areas:
                areas["average_precision"] = float((np.diff(drawn.x) * drawn.y[1:]).sum())
            found[kind].append({"class": name, "prevalence": share, **areas, **limits, **_plain_curve(drawn)})
    return found


def _hardest(run: RunRecords) -> list[tuple[int, dict]]:
    """Index and row of every class, or of the ones with the lowest AUROC, in the order of the classes."""
    rows = run.summary.findings or run.summary.per_class
    ranked = sorted(range(len(rows)), key=lambda c: (rows[c].get("auroc") is None, rows[c].get("auroc") or 0.0))
    return [(c, rows[c]) for c in sorted(ranked[:MOST_CURVES])]


def _one_class(table: PredictionTable | FindingsTable, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, outcomes and group codes of the cases for which class ``c`` is known and the model's output finite."""
    known = (table.findings[:, c] >= 0) if isinstance(table, FindingsTable) else table.labels >= 0
    known &= np.isfinite(table.probabilities[:, c])
    positive = (table.findings[:, c] == 1) if isinstance(table, FindingsTable) else table.labels == c
    rows = np.flatnonzero(known)
    return table.probabilities[rows, c].astype(np.float64), positive[rows], group_codes([table.groups[row] for row in rows])


def _plain_curve(curve: ScoreCurve) -> dict[str, list[float]]:
    rows = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), _MOST_POINTS)).round().astype(int)) if len(curve.x) else []
    arrays = {"x": curve.x[rows], "y": curve.y[rows]} if len(curve.x) else {"x": curve.x, "y": curve.y}
    band = {"points": curve.points, "low": curve.low, "high": curve.high} if len(curve.low) else {"points": [], "low": [], "high": []}
    return {name: np.round(np.asarray(values, dtype=np.float64), 6).tolist() for name, values in {**arrays, **band}.items()}


def reliability(run: RunRecords) -> list[dict[str, Any]]:
    """Reliability of the largest probability: without temperature, and with the temperatures that the val parts of the folds give.

    ``scored`` marks the one whose probabilities are in the table. Only for one class per case.
    """
    table = run.table
    if not isinstance(table, PredictionTable) or not (table.labels >= 0).any():
        return []
    used = {name: result.calibration["temperature"] for name, result in run.results.items() if result.calibration}
    fitted = used or {name: fit_temperature(val.labels, val.probabilities).value for name, val in run.val.items() if len(val.labels)}
    # A temperature belongs to the outputs of the model, one for each case; cases are joined afterwards.
    found = []
    for kind in ("before", "after"):
        if kind == "after" and set(fitted) != set(table.folds):
            continue
        probabilities = table.probabilities.astype(np.float64)
        for fold in dict.fromkeys(table.folds):
            rows = np.array(table.folds) == fold
            temperature = {"before": 1 / used.get(fold, 1.0), "after": 1.0 if used else fitted.get(fold, 1.0)}[kind]
            if temperature != 1:
                probabilities[rows] = apply_temperature(probabilities[rows], temperature)
        scored = (kind == "after") == bool(used)
        calibrated = run.unit.of(replace(table, probabilities=probabilities))
        found.append({"kind": kind, "scored": scored, "temperatures": fitted, **_diagram(run, calibrated)})
    return found


def _diagram(run: RunRecords, table: PredictionTable) -> dict[str, list[float]]:
    probabilities = table.probabilities.astype(np.float64)
    rows = np.flatnonzero((table.labels >= 0) & np.isfinite(probabilities).all(axis=1))
    scores, outcomes = top_label(table.labels[rows], probabilities[rows])
    curve = reliability_curve(scores, outcomes, group_codes([table.groups[row] for row in rows]), level=run.summary.level)
    return {name: np.round(getattr(curve, name), 6).tolist() for name in ("scores", "shares", "low", "high", "counts")}


def retrieval_curves(run: RunRecords, data: Dataset | None) -> list[dict[str, Any]]:
    """Per direction: recalls beside chance, and the expected number of queries with their first match at each rank; empty for other runs.

    Args:
        run: Records of the run.
        data: Its dataset, which knows how many captions an image has; ``None``: chance is NaN.
    """
    table = run.table
    if not isinstance(table, RetrievalTable):
        return []
    found = []
    for short, direction in zip(("i2t", "t2i"), DIRECTIONS, strict=True):
        own = table.take(table.direction == direction)
        depths = [int(name[5:]) for name in run.summary.pooled if name.startswith(f"{short}_r") and name[5:].isdigit()]
        largest = int(own.gallery.max(initial=1))
        edges = [*(rank for rank in _RANKS if rank < largest), largest]
        up_to = [float(hit_probabilities(own, rank).sum()) for rank in edges]
        at_chance = chance_recalls(table, data, direction, depths)
        found.append(
            {
                "direction": direction,
                "queries": len(own),
                "gallery": sorted({int(size) for size in own.gallery}),
                "recalls": [_recall(run, f"{short}_r{depth}", depth, at_chance[depth]) for depth in depths],
                "ranks": [
                    {"from": low + 1, "to": high, "queries": round(n, 6)}
                    for low, high, n in zip([0, *edges], edges, np.diff([0.0, *up_to]).tolist(), strict=False)
                ],
            }
        )
    return found


def _recall(run: RunRecords, name: str, depth: int, at_chance: float) -> dict[str, Any]:
    limits = run.summary.intervals.get(name, {})
    return {"depth": depth, "value": run.summary.pooled[name], "low": limits.get("low"), "high": limits.get("high"), "chance": at_chance}
