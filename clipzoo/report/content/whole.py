"""Every number of a report: what ``report.json`` holds, and all that the page shows besides pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipzoo.files import finite
from clipzoo.records.tables import PredictionTable
from clipzoo.report.content.answer import answer, warnings
from clipzoo.report.content.cases import shown_cases
from clipzoo.report.content.comparison import disagreements, of_runs, with_baselines
from clipzoo.report.content.curves import reliability, retrieval_curves, score_curves
from clipzoo.report.content.data import data_part
from clipzoo.report.content.records import RunRecords
from clipzoo.report.content.training import learning_curves, reproducibility

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset

VERSION = 1


def run_content(run: RunRecords, data: Dataset | None = None) -> dict[str, Any]:
    """The content of the report of one run: a pure function of its records, and of the captions in its dataset.

    Args:
        run: Records of the run.
        data: Its dataset; ``None`` if it cannot be read: the report then lacks the captions of retrieval and the sizes of images.
    """
    summary, compared = run.summary, with_baselines(run)
    content = {
        "format": "clipzoo report of a run",
        "version": VERSION,
        "name": run.name,
        "kind": run.kind,
        "answer": answer(run, data),
        "warnings": warnings(run, data, compared),
        "comparison": compared,
        "classes": summary.per_class,
        "findings": summary.findings,
        "confusion": confusion(run),
        "subgroups": summary.subgroups,
        "subgroup_differences": summary.subgroup_differences,
        "curves": score_curves(run),
        "reliability": reliability(run),
        "calibration": summary.calibration,
        "operating_points": summary.operating_points,
        "decision_curve": summary.decision_curve,
        "conformal": summary.conformal,
        "retrieval": retrieval_curves(run, data),
        "training": learning_curves(run),
        "data": data_part(run, data),
        "cases": shown_cases(run, data),
        "reproducibility": reproducibility(run),
    }
    return finite(content)


def comparison_content(runs: Sequence[RunRecords], metric: str | None = None) -> dict[str, Any]:
    """The content of the report of several runs on the same cases.

    Args:
        runs: Records of the runs, two or more.
        metric: Metric that decides; ``None`` for that of the first run.

    Raises:
        DataError: The runs are not of the same cases, or of findings.
        ConfigError: A run does not have the metric.
    """
    compared = of_runs(runs, metric)
    order = sorted(compared["runs"], key=lambda row: _place(row, compared))
    by_name = {run.name: run for run in runs}
    content = {
        "format": "clipzoo comparison of runs",
        "version": VERSION,
        "name": " · ".join(run.name for run in runs) if len(runs) <= 3 else f"{runs[0].name} … ({len(runs)})",
        "kind": runs[0].kind,
        "comparison": compared,
        "leaderboard": [
            {
                **row,
                "selection": by_name[row["name"]].summary.selection,
                "seconds": by_name[row["name"]].summary.seconds,
                "warnings": warnings(by_name[row["name"]], None, None),
            }
            for row in order
        ],
        "disagreements": disagreements(runs),
    }
    return finite(content)


def _place(row: dict[str, Any], compared: dict[str, Any]) -> tuple[bool, float]:
    value = row["values"][compared["metric"]][0]
    return value != value, -value if compared["greater_is_better"] else value


def confusion(run: RunRecords) -> dict[str, Any]:
    """Counts of the confusion matrix, and their shares of the true class; empty for other tables."""
    if not isinstance(run.table, PredictionTable):
        return {}
    counts = run.summary.confusion
    shares = [[round(n / sum(row), 6) if sum(row) else None for n in row] for row in counts]
    pairs = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n and i != j]
    names = run.summary.classes
    confused = [{"label": names[i], "prediction": names[j], "cases": n, "share": shares[i][j]} for n, i, j in sorted(pairs, reverse=True)]
    return {"classes": names, "counts": counts, "shares": shares, "confused": confused[:20]}
