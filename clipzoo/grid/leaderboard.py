"""A table of many finished training runs, best first, as markdown, CSV and console output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from clipzoo.config import Config
from clipzoo.config.settings import EvaluationSettings
from clipzoo.engine import build
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import write_text
from clipzoo.grid.jobs import Job
from clipzoo.grid.running import Outcome
from clipzoo.records.results import OUT_OF_FOLD_FILE, SUMMARY_FILE, Summary
from clipzoo.records.tables import read_table
from clipzoo.runtime.log import make_console
from clipzoo.scoring.runs import SIGNIFICANT, FinishedRun, compare
from clipzoo.text import csv_text
from clipzoo.text_tables import markdown, number, p_text

BEST, NOT_BEATEN, WORSE = "best", "not beaten", "worse"


def sorting(config: Config, metric: str | None) -> tuple[str, bool]:
    """The metric that orders the leaderboard, and whether higher values come first.

    Args:
        config: Config of a job.
        metric: Name of the metric; ``None`` for the one that chooses the epoch.

    Raises:
        ConfigError: The config does not include the metric.
    """
    measured, selector = build.metrics(EvaluationSettings.of(config), build.dataset(config, console=make_console()))
    known = {m.name: m.greater_is_better for m in measured}
    metric = metric or selector.name
    if metric not in known:
        raise ConfigError(f"--sort-by: '{metric}' is not among the metrics.{did_you_mean(metric, known)} Known: {', '.join(known)}")
    return metric, known[metric]


class Leaderboard(NamedTuple):
    """What ``leaderboard.md`` holds.

    Attributes:
        header: Column names.
        rows: One row per job: best pooled value first, jobs without a result last.
        notes: What the numbers mean, and caveats for the comparison of rows.
    """

    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def leaderboard(
    jobs: Sequence[Job], outcomes: Sequence[Outcome], folder: Path, *, metric: str, higher_is_better: bool = True
) -> Leaderboard:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` into ``folder``, which has numbers only: the limits are columns of their own."""
    summaries = {job.name: Summary.read(folder / job.name) for job in jobs if (folder / job.name / SUMMARY_FILE).exists()}
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary.pooled))
    status = {outcome.job.name: outcome.status for outcome in outcomes}

    def order(job: Job) -> tuple[bool, float]:
        value = summaries[job.name].pooled.get(metric, math.nan) if job.name in summaries else math.nan
        return math.isnan(value), -value if higher_is_better else value

    ranked = sorted(jobs, key=order)
    marks, notes = _compared_with_best({job.name: summaries[job.name] for job in ranked if not order(job)[0]}, folder, metric)
    rows = {job.name: _row(job, status.get(job.name, "not run"), summaries.get(job.name), names) for job in ranked}
    marked = [[*rows[job.name], marks.get(job.name, "")] for job in ranked]
    header = ["job", "image", "text", "seed", "status", *(f"{n} (pooled)" for n in names), *(f"{n} (mean ± sd)" for n in names), "seconds"]
    header.append("compared with the best")
    limits_of = {name: summary.intervals.get(metric, {}) for name, summary in summaries.items()}
    low_high = [[number(limits_of.get(job.name, {}).get(side)) for side in ("low", "high")] for job in ranked]
    columns = [f"{metric} low", f"{metric} high"]
    write_text(folder / "leaderboard.csv", csv_text([[*header, *columns], *([*a, *b] for a, b in zip(marked, low_high, strict=True))]))
    for job, row in zip(ranked, marked, strict=True):
        if limits_of.get(job.name):
            row[header.index(f"{metric} (pooled)")] += f" {summaries[job.name].interval_text(metric)}"
    found = Leaderboard(header, marked, [*_meaning(summaries, metric), *notes, *_caveats(summaries)])
    lines = [f"# Leaderboard, by pooled {metric}", "", markdown(header, marked), *(line for note in found.notes for line in ("", note))]
    write_text(folder / "leaderboard.md", "\n".join(lines) + "\n")
    return found


def _compared_with_best(ranked: Mapping[str, Summary], folder: Path, metric: str) -> tuple[dict[str, str], list[str]]:
    """Paired comparison of the best job with every other one on the same folds.

    Args:
        ranked: Summaries by job, best first.
        folder: Folder with the jobs.
        metric: Metric that decides.

    Returns:
        A mark per compared job, and notes; jobs that cannot be compared have no mark, and a note.
    """
    if len(ranked) < 2:
        return {}, []
    best = next(iter(ranked))
    with_table = [name for name in ranked if (folder / name / OUT_OF_FOLD_FILE).exists()]
    elsewhere = [name for name in ranked if ranked[name].folds_digest != ranked[best].folds_digest]
    reasons = {
        f"{OUT_OF_FOLD_FILE} is missing": [name for name in ranked if name not in with_table],
        "the folds differ": [name for name in elsewhere if name in with_table],
    }
    notes = [f"Not compared with the best, as {reason}: {shortened(found, 5)}." for reason, found in reasons.items() if found]
    with_table = [name for name in with_table if name not in elsewhere]
    if best not in with_table or len(with_table) < 2:
        return {}, notes
    try:
        runs = [FinishedRun(name, ranked[name], read_table(folder / name / OUT_OF_FOLD_FILE)) for name in with_table]
        found = compare(runs, [(0, index) for index in range(1, len(runs))], metric)
    except DataError as error:
        return {}, [f"Not compared with the best: {error}."]
    if not all(metric in pair["metrics"] for pair in found.pairs):
        return {}, [f"Not compared with the best: there is no paired test of {metric}."]
    marks = {best: BEST}
    for pair in found.pairs:
        p_value = pair["metrics"][metric]["adjusted_p_value"]
        if not math.isnan(p_value):
            marks[pair["second"]] = f"{WORSE if p_value <= SIGNIFICANT else NOT_BEATEN} ({p_text(p_value)})"
    correction = f", with Holm's correction for {len(found.pairs)} comparisons" if len(found.pairs) > 1 else ""
    meaning = f"Compared with the best: paired test in {metric} that swaps two jobs' predictions group by group{correction}; "
    return marks, [f"{meaning}'{NOT_BEATEN}' means that no difference is shown.", *notes]


def _row(job: Job, status: str, summary: Summary | None, names: Sequence[str]) -> list[str]:
    start = [job.name, job.image, job.text, str(job.seed)]
    if summary is None:
        return [*start, status, *[""] * (2 * len(names)), ""]
    mark = " (optimistic)" if summary.optimistic else ""
    pooled = [number(summary.pooled.get(n)) for n in names]
    spread = [f"{number(summary.mean.get(n))} ± {number(summary.sd.get(n))}" for n in names]
    return [*start, status + mark, *pooled, *spread, f"{summary.seconds:.0f}"]


def _meaning(summaries: Mapping[str, Summary], metric: str) -> list[str]:
    """What the interval means, and that the best of several was selected."""
    notes = []
    levels = {summary.level for summary in summaries.values() if metric in summary.intervals}
    if levels:
        shown = " or ".join(f"{100 * level:g} %" for level in sorted(levels))
        notes.append(f"[low, high]: {shown} confidence interval of {metric} over groups, for new cases scored by the models as trained.")
    if len(summaries) > 1:
        notes.append(
            f"The first row is the best of {len(summaries)}: selecting is itself a choice, which makes its value optimistic. "
            "Confirm it on other cases."
        )
    return notes


def _caveats(summaries: Mapping[str, Summary]) -> list[str]:
    """Caveats for the comparison of rows."""
    notes = []
    if len({summary.folds_digest for summary in summaries.values()}) > 1:
        notes.append("Not all jobs were scored on the same folds; differences between rows are partly differences between splits.")
    if any(summary.optimistic for summary in summaries.values()):
        notes.append("Optimistic: the test part chose the epoch (splits.select_on_test).")
    return notes
