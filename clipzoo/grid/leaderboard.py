"""A table of many finished training runs, best first, as markdown, CSV and console output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipzoo.config import Config
from clipzoo.config.settings import EvaluationSettings
from clipzoo.engine import build
from clipzoo.errors import ConfigError, did_you_mean
from clipzoo.files import write_text
from clipzoo.grid.jobs import Job, Outcome
from clipzoo.records.results import SUMMARY_FILE, Summary
from clipzoo.text import csv_text, visible


def sorting(config: Config, metric: str | None) -> tuple[str, bool]:
    """The metric that orders the leaderboard, and whether higher values come first.

    Args:
        config: Config of a job.
        metric: Name of the metric; ``None`` for the one that chooses the epoch.

    Raises:
        ConfigError: The config does not include the metric.
    """
    measured, selector = build.metrics(EvaluationSettings.of(config), build.dataset(config))
    known = {m.name: m.greater_is_better for m in measured}
    metric = metric or selector.name
    if metric not in known:
        raise ConfigError(f"--sort-by: '{metric}' is not among the metrics.{did_you_mean(metric, known)} Known: {', '.join(known)}")
    return metric, known[metric]


def leaderboard(
    jobs: Sequence[Job], outcomes: Sequence[Outcome], folder: Path, *, metric: str, higher_is_better: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` into ``folder``.

    Returns:
        Header and rows: best pooled ``metric`` first, jobs without a result last.
    """
    summaries = {job.name: Summary.read(folder / job.name) for job in jobs if (folder / job.name / SUMMARY_FILE).exists()}
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary.pooled))
    status = {outcome.job.name: outcome.status for outcome in outcomes}
    header = ["job", "image", "text", "seed", "status", *(f"{n} (pooled)" for n in names), *(f"{n} (mean ± sd)" for n in names), "seconds"]

    def order(job: Job) -> tuple[bool, float]:
        value = summaries[job.name].pooled.get(metric, math.nan) if job.name in summaries else math.nan
        return math.isnan(value), -value if higher_is_better else value

    rows = [_row(job, status.get(job.name, "not run"), summaries.get(job.name), names) for job in sorted(jobs, key=order)]
    write_text(folder / "leaderboard.csv", csv_text([header, *rows]))
    cells = [[visible(cell).replace("|", "\\|") for cell in row] for row in [header, ["---"] * len(header), *rows]]
    lines = [f"# Leaderboard, by pooled {metric}", "", *("| " + " | ".join(row) + " |" for row in cells), *_notes(summaries)]
    write_text(folder / "leaderboard.md", "\n".join(lines) + "\n")
    return header, rows


def _row(job: Job, status: str, summary: Summary | None, names: Sequence[str]) -> list[str]:
    start = [job.name, job.image, job.text, str(job.seed)]
    if summary is None:
        return [*start, status, *[""] * (2 * len(names)), ""]
    mark = " (optimistic)" if summary.optimistic else ""
    pooled = [_number(summary.pooled.get(n)) for n in names]
    spread = [f"{_number(summary.mean.get(n))} ± {_number(summary.sd.get(n))}" for n in names]
    return [*start, status + mark, *pooled, *spread, f"{summary.seconds:.0f}"]


def _notes(summaries: Mapping[str, Summary]) -> list[str]:
    """Caveats for the comparison of rows."""
    notes = []
    if len({summary.folds_digest for summary in summaries.values()}) > 1:
        notes.append("Not all jobs were scored on the same folds; differences between rows are partly differences between splits.")
    if any(summary.optimistic for summary in summaries.values()):
        notes.append("Optimistic: the test part chose the epoch (splits.select_on_test).")
    return ["", *notes] if notes else []


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
