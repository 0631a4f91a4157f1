"""The answer of a report: the metric that decides with its interval, all others, and reasons for doubt first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipzoo.files import read_json
from clipzoo.pictures.figures import chance as recall_chance
from clipzoo.records.tables import DIRECTIONS, PredictionTable, RetrievalTable, Table
from clipzoo.report.content.records import RunRecords
from clipzoo.statistics.directions import greater_is_better

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset

FEW_GROUPS = 50  # below, an interval is wide whatever the method, and a single patient moves the result
_NEARLY_PERFECT = 0.995
_CHECKED = ("data_check", "data_report.json")  # where check_data writes by default


def answer(run: RunRecords, data: Dataset | None) -> dict[str, Any]:
    """The first part of ``report.json``: what was measured, on how much, and how the scored epoch was chosen."""
    summary = run.summary
    interval = summary.intervals.get(run.metric, {})
    return {
        "metric": run.metric,
        "value": summary.pooled[run.metric],
        "low": interval.get("low", math.nan),
        "high": interval.get("high", math.nan),
        "level": summary.level,
        "greater_is_better": greater_is_better(run.metric),
        "chance": chance_of(run, data),
        "cases": len(run.table.case_ids),
        "images": _num_images(run),
        "scored": _num_scored(run),
        "groups": summary.num_groups,
        "folds": len(summary.folds),
        "classes": len(summary.classes),
        "unit": summary.unit,
        "join": summary.join,
        "selection": summary.selection,
        "optimistic": summary.optimistic,
        "metrics": [_metric_row(run, name) for name in summary.pooled],
        "notes": [*summary.notes, *summary.doubts()],
    }


def _metric_row(run: RunRecords, name: str) -> dict[str, Any]:
    summary = run.summary
    interval = summary.intervals.get(name, {})
    return {
        "metric": name,
        "pooled": summary.pooled[name],
        "low": interval.get("low", math.nan),
        "high": interval.get("high", math.nan),
        "method": interval.get("method", ""),
        "note": interval.get("note", ""),
        "mean": summary.mean[name],
        "sd": summary.sd[name],
        "folds": {fold["fold"]: fold["metrics"].get(name, math.nan) for fold in summary.folds},
    }


def _num_images(run: RunRecords) -> int:
    """Images of the tested cases, of which a case of ``data.views`` has several."""
    fingerprint = run.fingerprint
    views = run.experiment is not None and run.experiment.config.get("data", {}).get("views") is not None
    if fingerprint is None or not views:
        return len(run.table.case_ids)
    tested = set(run.table.case_ids)
    assert run.folds is not None
    cases = {f"{case.group}\n{case.id}" for case in run.folds.cases if case.id in tested}  # as Views.image_groups marks their images
    return sum(mark.group in cases for mark in fingerprint.cases.values())


def _num_scored(run: RunRecords) -> int:
    """What the metrics count: labelled cases or groups, or image queries."""
    table = run.scored
    return int((table.labels >= 0).sum()) if isinstance(table, PredictionTable) else len(table.case_ids)


def chance_of(run: RunRecords, data: Dataset | None = None) -> float:
    """The deciding metric of a model that knows nothing; NaN if that is not a fixed number, or of retrieval without ``data``."""
    table, name = run.scored, run.metric
    if name in ("balanced_accuracy", "macro_recall") and isinstance(table, PredictionTable):
        present = len(set(table.labels[table.labels >= 0].tolist()))
        return 1 / len(table.classes) if present == len(table.classes) else math.nan
    if "auroc" in name:
        return 0.5
    if name == "rsum" and isinstance(table, RetrievalTable):
        return 100 * sum(sum(chance_recalls(table, data, direction, (1, 5, 10)).values()) for direction in DIRECTIONS)
    return math.nan


def chance_recalls(table: RetrievalTable, data: Dataset | None, direction: str, depths: Sequence[int]) -> dict[int, float]:
    """R@K of a random order, by K: the mean over queries of ``figures.chance``, with each fold's gallery; NaN without ``data``."""
    if data is None:
        return dict.fromkeys(depths, math.nan)
    images, captions = (table.take(table.direction == name) for name in DIRECTIONS)
    described = [data.captions_of(row) for row in data.rows_of(images.query.tolist())]
    if direction == DIRECTIONS[0]:
        own, matches = images, [len(set(found)) for found in described]
    else:
        times = Counter((fold, data.captions.sentences[i]) for fold, found in zip(images.fold, described, strict=True) for i in set(found))
        own, matches = captions, [times[fold, query] for fold, query in zip(captions.fold, captions.query, strict=True)]
    pairs = Counter(zip(matches, own.gallery.tolist(), strict=True))
    number = max(len(own), 1)
    return {depth: sum(n * recall_chance([match], size, depth) for (match, size), n in pairs.items()) / number for depth in depths}


def warnings(run: RunRecords, data: Dataset | None, comparison: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Reasons to doubt the result, each as a key of the report's words with its values; the gravest first.

    Args:
        run: Records of the run.
        data: Its dataset, for retrieval at chance; ``None`` if it cannot be read.
        comparison: The comparison with baselines, as in the report; ``None`` without one.
    """
    summary, found = run.summary, []
    if summary.optimistic:
        found.append(_warning("optimistic"))
    interval, chance = summary.intervals.get(run.metric, {}), chance_of(run, data)
    low, high = interval.get("low", math.nan), interval.get("high", math.nan)
    better = low > chance if greater_is_better(run.metric) else high < chance
    if not any(map(math.isnan, (chance, low, high))) and not better:
        found.append(_warning("at_chance" if low <= chance <= high else "worse_than_chance", metric=run.metric, chance=chance))
    undefined = _num_undefined(run.scored)
    if undefined:
        found.append(_warning("not_finite", n=undefined))
    if run.kind == "classification":
        found += _class_warnings(run)
    if 0 < summary.num_groups < FEW_GROUPS:
        found.append(_warning("few_groups", groups=summary.num_groups))
    found += _not_better(comparison)
    checked = run.folder.joinpath(*_CHECKED)
    if checked.exists():
        counts = read_json(checked).get("counts", {})
        if counts.get("error") or counts.get("warning"):
            found.append(_warning("data_check", errors=counts.get("error", 0), warnings=counts.get("warning", 0)))
    return found


def _num_undefined(table: Table) -> int:
    """Predictions, or image queries, for which the model's output was not finite."""
    values = table.positive_similarity if isinstance(table, RetrievalTable) else table.probabilities.sum(axis=1)
    return int((~np.isfinite(values)).sum())


def _class_warnings(run: RunRecords) -> list[dict[str, Any]]:
    summary, found = run.summary, []
    never = [name for c, name in enumerate(summary.classes) if not any(row[c] for row in summary.confusion) and any(summary.confusion[c])]
    if never:
        found.append(_warning("never_predicted", classes=never))
    absent = [row["class"] for row in summary.per_class if not row["cases"]]
    if absent:
        found.append(_warning("absent", classes=absent))
    few = [row["class"] for row in summary.per_class if 0 < row["groups"] < 5]
    if few:
        found.append(_warning("few_of_class", classes=few))
    if summary.pooled.get("balanced_accuracy", 0) >= _NEARLY_PERFECT:
        found.append(_warning("nearly_perfect"))
    return found


def _not_better(comparison: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The baselines that the trained model is not shown to beat."""
    if comparison is None:
        return []
    names = [row["second"] for row in comparison["pairs"] if row["verdict"] != "better"]
    return [_warning("not_better", names=names)] if names else []


def _warning(key: str, **values: object) -> dict[str, Any]:
    return {"key": key, **values}
