"""Several cross-validations of one experiment: the mean of every metric, its interval, and where the variance comes from.

The import loads no numpy, so that a stored result prints immediately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipzoo.errors import CheckpointError, DataError
from clipzoo.records.json_records import NAN_INSIDE, read_record, write_record
from clipzoo.records.results import SUMMARY_FILE, Summary, mean_and_sd
from clipzoo.scoring.runs import FinishedRun
from clipzoo.text_tables import aligned, groups_text, limits, number

FILE = "repeats.json"
_MOST_RUNS = 5  # with more, the table shows the range of their values


@dataclass(frozen=True)
class Repeats:
    """``repeats.json``: runs of one experiment that differ in their folds or seeds.

    Attributes:
        metric: Metric that decides.
        level: Confidence level of the intervals.
        num_groups: Number of groups (patients) that the intervals are over.
        runs: One dict per run: ``name``, ``folds_digest``, ``predictions_digest``, and ``values`` by metric.
        metrics: One dict per metric: ``mean`` and ``sd`` over the runs; ``low`` and ``high``, for other groups, folds and seeds;
            ``standard_error`` of the mean; and variances of a single run from ``cases``, ``splits`` and ``seeds``.
        notes: Remarks for the reader.
    """

    metric: str
    level: float
    num_groups: int
    runs: list[dict] = field(metadata=NAN_INSIDE)
    metrics: dict[str, dict] = field(metadata=NAN_INSIDE)
    notes: list[str] = field(default_factory=list)

    def write(self, work_dir: str | Path) -> None:
        """Write ``work_dir/repeats.json``."""
        write_record(Path(work_dir) / FILE, asdict(self))

    @classmethod
    def read(cls, work_dir: str | Path) -> Repeats | None:
        """Read ``work_dir/repeats.json``; ``None`` if there is none.

        Raises:
            CheckpointError: The file is damaged, or a repeat has other results now.
        """
        path = Path(work_dir) / FILE
        if not path.exists():
            return None
        advice = f"Delete {path}; the training command writes it again"
        found = read_record(cls, path, advice)
        for run in found.runs:
            folder = folder_of(work_dir, run["name"])
            if (folder / SUMMARY_FILE).exists() and Summary.read(folder).predictions_digest != run["predictions_digest"]:
                raise CheckpointError(f"{path}: {run['name']} has other results now. {advice}")
        return found

    def text(self) -> str:
        """A table with a row per metric, and what it means."""
        many = len(self.runs) > _MOST_RUNS
        runs = ["range"] if many else [run["name"] for run in self.runs]
        shares = any("cases" in found for found in self.metrics.values())
        header = ["metric", *runs, "mean", f"{100 * self.level:g} % interval", "sd", *(["groups", "folds", "seeds"] if shares else [])]
        rows = []
        for metric, found in self.metrics.items():
            values = [run["values"].get(metric, math.nan) for run in self.runs]
            cells = [f"{number(min(values))} … {number(max(values))}"] if many else [number(value) for value in values]
            interval = limits((found["low"], found["high"])) if "low" in found else "–"
            rows.append([metric, *cells, number(found["mean"]), interval, number(found["sd"]), *(self._shares(found) if shares else [])])
        return "\n\n".join([f"{len(self.runs)} runs of one experiment", aligned(header, rows), *self.explanation(shares)])

    def _shares(self, found: dict) -> list[str]:
        """Share of each component in the variance of a single run."""
        parts = [found.get(key, math.nan) for key in ("cases", "splits", "seeds")]
        total = sum(part for part in parts if not math.isnan(part))
        return ["–" if math.isnan(part) or not total > 0 else f"{100 * part / total:.0f} %" for part in parts]

    def explanation(self, shares: bool) -> list[str]:
        """What the columns mean, and what follows for the deciding metric."""
        lines = []
        if shares:
            lines.append(
                f"interval: of the mean over the runs, over {groups_text(self.num_groups)}, other folds and other seeds. sd: between the "
                "runs. groups, folds, seeds: shares of the variance of a single run; more runs do not reduce that of the groups"
            )
        found = self.metrics[self.metric]
        if not math.isnan(found.get("standard_error", math.nan)) and found["standard_error"] > 0:
            share = 100 * found["cases"] / found["standard_error"] ** 2
            lines.append(f"{self.metric}: {min(share, 100):.0f} % of the variance of the mean comes from the choice of groups")
        return [*lines, *(f"note: {note}" for note in self.notes)]


def combine(runs: Sequence[FinishedRun], metric: str) -> Repeats:
    """Combine runs of one experiment.

    Args:
        runs: Two runs or more on the same cases; those with the same folds count as differing in the seed.
        metric: Metric that decides.

    Raises:
        DataError: Cases, labels or groups differ.
    """
    from clipzoo.records.tables import RetrievalTable

    kinds = {isinstance(run.table, RetrievalTable) for run in runs}
    if len(kinds) > 1:
        raise DataError("repeats: some of the runs classify and some retrieve. All must be of one experiment")
    names = [name for name in runs[0].summary.pooled if all(name in run.summary.pooled for run in runs)]
    metrics: dict[str, dict] = {}
    for name in names:
        mean, sd = mean_and_sd([run.summary.pooled[name] for run in runs])
        metrics[name] = {"mean": mean, "sd": sd}
    notes = [f"optimistic, as the test part chose the epoch: {run.name}" for run in runs if run.summary.optimistic]
    if kinds == {True}:
        notes.append(
            "for retrieval there is no interval of the mean over runs, as the galleries differ; those of the runs are in their summaries"
        )
    else:
        for name, found in _components(runs).items():
            if name in metrics:
                metrics[name] |= found
    return Repeats(
        metric=metric if metric in metrics else names[0],
        level=runs[0].summary.level,
        num_groups=runs[0].summary.num_groups,
        runs=[
            {
                "name": run.name,
                "folds_digest": run.summary.folds_digest,
                "predictions_digest": run.summary.predictions_digest,
                "values": {name: run.summary.pooled[name] for name in names},
            }
            for run in runs
        ],
        metrics=metrics,
        notes=notes,
    )


def _components(runs: Sequence[FinishedRun]) -> dict[str, dict[str, float]]:
    """Limits, standard error and variances by metric."""
    from clipzoo.statistics.cases import Cases
    from clipzoo.statistics.variance import repeated_intervals, variance_components

    tables = [Cases.from_table(run.table) for run in runs]
    digests = [run.summary.folds_digest for run in runs]
    options = {"splits": [digests.index(digest) for digest in digests], "names": [run.name for run in runs]}
    components, intervals = variance_components(tables, **options), repeated_intervals(tables, **options, level=runs[0].summary.level)
    return {
        name: {
            "low": intervals[name].low,
            "high": intervals[name].high,
            "standard_error": found.standard_error,
            "cases": found.cases,
            "splits": found.splits,
            "seeds": found.seeds,
        }
        for name, found in components.items()
    }


def folder_of(work_dir: str | Path, name: str) -> Path:
    """Work dir of the repeat with this name: ``repeat_1`` is the experiment's own."""
    return Path(work_dir) if name == "repeat_1" else Path(work_dir) / name


def combine_repeats(work_dir: str | Path, num_repeats: int, metric: str) -> Repeats | None:
    """Combine the repeats of a work dir and write ``repeats.json``; ``None`` until all are finished.

    Raises:
        CheckpointError: A file of a repeat is damaged.
    """
    names = [f"repeat_{number}" for number in range(1, num_repeats + 1)]
    if num_repeats < 2 or not all((folder_of(work_dir, name) / SUMMARY_FILE).exists() for name in names):
        return None
    found = combine([FinishedRun.read(folder_of(work_dir, name), name) for name in names], metric)
    found.write(work_dir)
    return found
