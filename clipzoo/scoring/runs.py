"""Paired comparison of finished runs on the same cases, as a record and in words.

The import loads neither numpy nor torch, so that a stored comparison prints immediately.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.commands import typed
from clipzoo.errors import CheckpointError, ConfigError, DataError, did_you_mean
from clipzoo.records.json_records import NAN_INSIDE, read_record, write_record
from clipzoo.records.results import OUT_OF_FOLD_FILE, SUMMARY_FILE, Summary
from clipzoo.statistics.directions import greater_is_better as is_greater_better
from clipzoo.text_tables import aligned, groups_text, limits, p_text, value_with_limits

if TYPE_CHECKING:
    from clipzoo.records.tables import PredictionTable, RetrievalTable
    from clipzoo.statistics.paired.comparison import Comparison, Difference
    from clipzoo.statistics.uncertainty.estimates import Interval
    from clipzoo.statistics.uncertainty.intervals import MetricIntervals

FILE = "comparison.json"
SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run: a work dir, or a baseline in it.

    Attributes:
        name: Name in tables and sentences.
        summary: Its summary.
        table: Its out-of-fold table, in the unit of the summary.

    Raises:
        DataError: The run is of findings: comparisons, repeats and rankings of labels need one class per case, or ranks.
    """

    name: str
    summary: Summary
    table: PredictionTable | RetrievalTable

    def __post_init__(self) -> None:
        if self.summary.findings:
            raise DataError(
                f"{self.name}: predictions of findings (several labels per image), for which there are no comparisons of runs, no combined "
                f"repeats and no suspicious labels. Its own results: {typed('summary')}"
            )

    @classmethod
    def read(cls, folder: str | Path, name: str) -> FinishedRun:
        """Read a folder with ``cv_summary.json`` and ``oof_predictions.csv``.

        Raises:
            CheckpointError: A file is missing, damaged, or does not match the other.
        """
        from clipzoo.records.tables import read_table
        from clipzoo.scoring.units import Unit

        folder = Path(folder)
        require_finished(folder)
        summary = Summary.read(folder)
        return cls(name, summary, Unit(summary.unit, summary.join).of(read_table(folder / OUT_OF_FOLD_FILE)))


def require_finished(folder: Path) -> None:
    """Refuse a folder without ``cv_summary.json`` or ``oof_predictions.csv``.

    Raises:
        CheckpointError: One of them is missing.
    """
    if not (folder / SUMMARY_FILE).exists():
        what = "its folds are not all finished" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder}: {what}. Pass a finished work dir, or a baseline such as WORK_DIR/baselines/linear")
    if not (folder / OUT_OF_FOLD_FILE).exists():
        again = f"Run {typed('train')}, which recreates it from the folds"
        if folder.parent.name == "baselines":
            again = f"Delete the folder {folder} and run {typed('baselines')}"
        raise CheckpointError(f"{folder / OUT_OF_FOLD_FILE}: no such file. {again}")


@dataclass(frozen=True)
class RunComparison:
    """``comparison.json``: runs on the same cases, and paired differences.

    Attributes:
        metric: Metric that decides.
        level: Confidence level of the intervals.
        num_cases: Number of scored cases, or of image queries.
        num_groups: Number of groups that they belong to.
        runs: One dict per run: ``name``, ``predictions_digest``, ``optimistic``, ``learnt_again`` (whether its intervals allow for learning
            from other cases), and ``values``, each ``[value, low, high]`` by metric.
        pairs: One dict per pair: ``first``, ``second``, ``identical``, ``mcnemar``, and ``metrics``, each a dict with ``difference`` (first
            minus second), ``low``, ``high``, ``p_value`` (groups swapped), ``adjusted_p_value`` (Holm, over the pairs), ``detectable``
            (smallest difference found with a power of 80 %), ``folds_p_value`` (Nadeau and Bengio's t-test over the folds) and ``note``.
        greater_is_better: Whether larger values of ``metric`` are better.
    """

    metric: str
    level: float
    num_cases: int
    num_groups: int
    runs: list[dict] = field(metadata=NAN_INSIDE)
    pairs: list[dict] = field(metadata=NAN_INSIDE)
    greater_is_better: bool = True

    def write(self, folder: str | Path) -> None:
        """Write ``folder/comparison.json``."""
        write_record(Path(folder) / FILE, asdict(self))

    @classmethod
    def read(cls, folder: str | Path) -> RunComparison:
        """Read ``folder/comparison.json``.

        Raises:
            CheckpointError: The file has another format or is damaged.
        """
        path = Path(folder) / FILE
        return read_record(cls, path, f"Delete {path}; it is computed again")

    def verdicts(self) -> list[str]:
        """One sentence per pair in the metric that decides."""
        several = f" (Holm, {len(self.pairs)} comparisons)" if len(self.pairs) > 1 else ""
        return [self._verdict(pair, several) for pair in self.pairs]

    def _verdict(self, pair: dict, several: str) -> str:
        first, second = pair["first"], pair["second"]
        found = pair["metrics"].get(self.metric)
        if pair["identical"]:
            return f"{first} and {second} made the same predictions"
        if found is None:
            values = {run["name"]: run["values"][self.metric][0] for run in self.runs}
            return f"{self.metric} has no paired test: {values[first]:.4f} for {first}, {values[second]:.4f} for {second}"
        if math.isnan(found["difference"]):
            return f"{self.metric} is undefined for {first} or {second}, so they cannot be compared"
        sign = 1.0 if self.greater_is_better else -1.0
        difference, low, high = sign * found["difference"], *sorted((sign * found["low"], sign * found["high"]))
        p_value = f"{p_text(found['adjusted_p_value'])}{several}"
        doubt = f"; {found['note']}" if found["note"] else ""
        if not found["adjusted_p_value"] <= SIGNIFICANT:
            power = f"; 80 % power for a difference of {found['detectable']:.3f}" if math.isfinite(found["detectable"]) else ""
            alone = "; the interval, of this comparison alone, excludes 0" if low > 0 or high < 0 else ""
            numbers = f"{difference:+.4f} {limits((low, high))} {self.metric}, {p_value}{alone}{power}"
            return f"no difference shown between {first} and {second}: {numbers}{doubt}"
        better, difference, low, high = ("better", difference, low, high) if difference > 0 else ("worse", -difference, -high, -low)
        interval = "" if math.isnan(low) else f" {limits((low, high))}"
        doubt = f"; the interval includes 0{doubt}" if low <= 0 else doubt
        return f"{first} is {better} than {second} by {difference:.4f}{interval} {self.metric}, {p_value}{doubt}"

    def beaten_by_best(self) -> dict[str, bool]:
        """Whether the best run by the deciding metric beats each other run, by name; empty unless all pairs with the best are compared."""
        best = self.best()
        found = {}
        for pair in self.pairs:
            if best in (pair["first"], pair["second"]):
                other = pair["second"] if pair["first"] == best else pair["first"]
                p_value = pair["metrics"].get(self.metric, {}).get("adjusted_p_value", math.nan)
                found[other] = p_value <= SIGNIFICANT
        return found

    def best(self) -> str:
        """Name of the run with the best value of the deciding metric; the first on ties, undefined ones last."""
        sign = -1.0 if self.greater_is_better else 1.0

        def order(run: dict) -> tuple[bool, float]:
            value = run["values"].get(self.metric, [math.nan])[0]
            return math.isnan(value), sign * value

        return min(self.runs, key=order)["name"]

    def value_rows(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table of runs: each metric with its interval."""
        metrics = list(self.runs[0]["values"])
        rows = [[run["name"], *(value_with_limits(run["values"].get(m)) for m in metrics)] for run in self.runs]
        return ["run", *metrics], rows

    def pair_rows(self, metrics: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table of differences, first minus second; ``metrics`` defaults to the deciding one."""
        header = ["first − second", "metric", "difference", f"{100 * self.level:g} % interval", "p", "p (Holm)", "p (folds)", "detectable"]
        rows = []
        for pair in self.pairs:
            for metric in metrics or [self.metric]:
                if (found := pair["metrics"].get(metric)) is not None:
                    numbers = [p_text(found[key], bare=True) for key in ("p_value", "adjusted_p_value", "folds_p_value")]
                    detectable = "–" if math.isnan(found["detectable"]) else f"{found['detectable']:.3f}"
                    name, low_high = f"{pair['first']} − {pair['second']}", limits((found["low"], found["high"]))
                    rows.append([name, metric, f"{found['difference']:+.4f}", low_high, *numbers, detectable])
        return header, rows

    def text(self) -> str:
        """The tables and the verdicts."""
        metrics = list(self.runs[0]["values"]) if len(self.pairs) == 1 else None
        parts = [aligned(*self._wide(self.value_rows())), aligned(*self.pair_rows(metrics)), *self.explanation()]
        return "\n\n".join([*parts, "\n".join(self.verdicts())])

    def _wide(self, table: tuple[list[str], list[list[str]]]) -> tuple[list[str], list[list[str]]]:
        """The table, turned round if it has more columns than rows fit side by side."""
        header, rows = table
        if len(header) <= 5:
            return table
        columns = [header, *rows]
        return [column[0] for column in columns], [[column[i] for column in columns] for i in range(1, len(header))]

    def explanation(self) -> list[str]:
        """What the numbers mean, and reasons to doubt them."""
        found = [
            f"{self.num_cases} cases of {groups_text(self.num_groups)}; {100 * self.level:g} % intervals over groups, for new cases and "
            "the models as trained. p: groups swapped between the two runs; p (folds): Nadeau and Bengio's t-test, for other training "
            "sets; detectable: the difference that such an interval excludes from 0 with a power of 80 %"
        ]
        learnt = [run["name"] for run in self.runs if run.get("learnt_again")]
        if learnt:
            found.append(f"intervals of {', '.join(learnt)} also allow for learning from other cases; those of differences do not")
        optimistic = [run["name"] for run in self.runs if run["optimistic"]]
        if optimistic:
            found.append(f"note: optimistic, as the test part chose the epoch: {', '.join(optimistic)}")
        return found


def compare(
    runs: Sequence[FinishedRun],
    pairs: Sequence[tuple[int, int]],
    metric: str,
    *,
    greater_is_better: bool | None = None,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> RunComparison:
    """Compare pairs of runs.

    Args:
        runs: Runs on the same cases, labels, groups and folds.
        pairs: Pairs of indices into ``runs``.
        metric: Metric that decides.
        greater_is_better: Whether its larger values are better; ``None`` for a metric of clipzoo, whose name tells.
        level: Confidence level of the intervals.
        seed: Seed of the permutations.
        progress: Called with a line of text before each pair.

    Raises:
        DataError: Cases, labels, groups or folds differ; the message names the first difference. Or one run classifies, another retrieves.
        ConfigError: ``metric`` is unknown for one of the runs.
    """
    from clipzoo.statistics.paired.comparison import adjusted

    _check_metric(runs, metric)
    _check_classes(runs)
    results = []
    for number, (a, b) in enumerate(pairs, start=1):
        if progress is not None:
            progress(f"comparison {number} of {len(pairs)}: {runs[a].name} and {runs[b].name}")
        results.append(_compared(runs[a], runs[b], level, seed))
    compared = adjusted(results)
    metrics = [name for name in runs[0].summary.pooled if all(name in run.summary.pooled for run in runs)]
    table, found = runs[0].table, [_intervals_of(run, level) for run in runs]
    return RunComparison(
        metric=metric,
        level=level,
        num_cases=int((table.labels >= 0).sum()) if runs[0].summary.classes else len(table.case_ids),
        num_groups=found[0].num_groups,
        runs=[
            {
                "name": run.name,
                "predictions_digest": run.summary.predictions_digest,
                "optimistic": run.summary.optimistic,
                "learnt_again": any("widening" in interval for interval in run.summary.intervals.values()),
                "values": {m: [run.summary.pooled[m], *_limits_of(of.overall.get(m))] for m in metrics},
            }
            for run, of in zip(runs, found, strict=True)
        ],
        pairs=[_plain_pair(runs[a].name, runs[b].name, result, metrics) for (a, b), result in zip(pairs, compared, strict=True)],
        greater_is_better=is_greater_better(metric) if greater_is_better is None else greater_is_better,
    )


def _intervals_of(run: FinishedRun, level: float) -> MetricIntervals:
    """The intervals, with the widening that the run's summary has on record."""
    from clipzoo.scoring.intervals import intervals_of

    stored = run.summary.intervals
    widening = {(name, None): interval["widening"] for name, interval in stored.items() if "widening" in interval}
    return intervals_of(run.table, level=level, widening=widening or None)


def _limits_of(interval: Interval | None) -> tuple[float, float]:
    return (math.nan, math.nan) if interval is None else (interval.low, interval.high)


def _compared(first: FinishedRun, second: FinishedRun, level: float, seed: int) -> Comparison:
    from clipzoo.records.tables import RetrievalTable
    from clipzoo.statistics.cases import Cases, Queries
    from clipzoo.statistics.paired.comparison import compare_cases, compare_queries

    kinds = [isinstance(run.table, RetrievalTable) for run in (first, second)]
    if kinds[0] != kinds[1]:
        raise DataError(f"comparison: one of {first.name} and {second.name} classifies and the other retrieves. Both must do the same")
    options = {"names": (first.name, second.name), "level": level, "seed": seed}
    if kinds[0]:
        return compare_queries(*(Queries.from_table(run.table) for run in (first, second)), **options)
    return compare_cases(*(Cases.from_table(run.table) for run in (first, second)), **options)


def _check_metric(runs: Sequence[FinishedRun], metric: str) -> None:
    for run in runs:
        if metric not in run.summary.pooled:
            hint = did_you_mean(metric, run.summary.pooled)
            raise ConfigError(f"--metric: {run.name} has no '{metric}'.{hint} Available: {', '.join(run.summary.pooled)}")


def _check_classes(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs of other classes before their tables are compared row by row."""
    for run in runs[1:]:
        if run.summary.classes != runs[0].summary.classes:
            raise DataError(f"comparison: {runs[0].name} and {run.name} have different classes. Compare runs on the same data")


def _plain_pair(first: str, second: str, found: Comparison, metrics: Sequence[str]) -> dict:
    return {
        "first": first,
        "second": second,
        "identical": found.identical,
        "mcnemar": {} if found.mcnemar is None else asdict(found.mcnemar),
        "metrics": {m: _plain_difference(found.overall[m]) for m in metrics if m in found.overall},
    }


def _plain_difference(found: Difference) -> dict:
    numbers = {
        "difference": found.interval.value,
        "low": found.interval.low,
        "high": found.interval.high,
        "p_value": found.p_value,
        "adjusted_p_value": found.adjusted_p_value,
        "detectable": found.detectable,
        "folds_p_value": found.folds.p_value,
    }
    return {**{name: float(value) for name, value in numbers.items()}, "note": found.interval.note}
