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
_FEW_RUNS = 5  # with fewer, the variance between runs is hardly known
_RUN = {"name": str, "folds_digest": str, "predictions_digest": str, "values": dict}
_NUMBERS = {"mean": (int, float), "sd": (int, float)}
_SEEDS = ("runtime.seed", "splits.seed")


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
        """Read ``work_dir/repeats.json``; ``None`` if it does not exist.

        Raises:
            CheckpointError: The file is damaged, or a repeat has other results now.
        """
        path = Path(work_dir) / FILE
        if not path.exists():
            return None
        advice = f"Delete {path}; the training command writes it again"
        found = read_record(cls, path, advice)
        if found.metric not in found.metrics or not all(_fits(run, _RUN) for run in found.runs):
            raise CheckpointError(f"{path}: from another version of clipzoo. {advice}")
        if not all(_fits(numbers, _NUMBERS) for numbers in found.metrics.values()):
            raise CheckpointError(f"{path}: from another version of clipzoo. {advice}")
        for run in found.runs:
            folder = folder_of(work_dir, run["name"])
            if not (folder / SUMMARY_FILE).exists():
                raise CheckpointError(f"{path}: {run['name']} does not exist any more. {advice}")
            if Summary.read(folder).predictions_digest != run["predictions_digest"]:
                raise CheckpointError(f"{path}: {run['name']} has other results now. {advice}")
        return found

    @property
    def components(self) -> dict[str, tuple[str, ...]]:
        """Columns of the table with the components that they show; without splits by several seeds, folds and seeds are one."""
        found = self.metrics[self.metric]
        if "cases" not in found:
            return {}
        if len({run["folds_digest"] for run in self.runs}) == 1:
            return {"groups": ("cases",), "seeds": ("seeds",)}
        if math.isnan(found["seeds"]):
            return {"groups": ("cases",), "folds and seeds": ("splits",)}
        return {"groups": ("cases",), "folds": ("splits",), "seeds": ("seeds",)}

    def text(self) -> str:
        """A table with a row per metric, and what it means."""
        many = len(self.runs) > _MOST_RUNS
        runs = ["range"] if many else [run["name"] for run in self.runs]
        header = ["metric", *runs, "mean", f"{100 * self.level:g} % interval", "sd", *self.components]
        rows = []
        for metric, found in self.metrics.items():
            values = [run["values"].get(metric, math.nan) for run in self.runs]
            cells = [f"{number(min(values))} … {number(max(values))}"] if many else [number(value) for value in values]
            interval = limits((found["low"], found["high"])) if "low" in found else "–"
            rows.append([metric, *cells, number(found["mean"]), interval, number(found["sd"]), *self._shares(found)])
        return "\n\n".join([f"{len(self.runs)} runs of one experiment", aligned(header, rows), *self.explanation()])

    def _shares(self, found: dict) -> list[str]:
        """Share of each component in the variance of a single run."""
        parts = [found.get(key, math.nan) for (key,) in self.components.values()]
        total = sum(part for part in parts if not math.isnan(part))
        return ["–" if math.isnan(part) or not total > 0 else f"{100 * part / total:.0f} %" for part in parts]

    def explanation(self) -> list[str]:
        """What the columns mean, and what follows for the deciding metric."""
        lines, columns = [], list(self.components)
        if columns:
            others = "other seeds with these folds" if columns[1:] == ["seeds"] else "other folds and other seeds"
            lines.append(
                f"interval: of the mean over the runs. It allows for {others} and for testing on other groups "
                f"({groups_text(self.num_groups)}), not for training on others. sd: between the runs. "
                f"{', '.join(columns)}: shares of the variance of a single run"
            )
        found = self.metrics[self.metric]
        if not math.isnan(found.get("standard_error", math.nan)) and found["standard_error"] > 0:
            share = 100 * found["cases"] / found["standard_error"] ** 2
            lines.append(
                f"{self.metric}: {min(share, 100):.0f} % of the variance of the mean is that of the groups, which more runs do not reduce"
            )
            if len(self.runs) < _FEW_RUNS and share < 80:
                lines.append(f"note: {len(self.runs)} runs say little about folds and seeds, so the intervals are rough; five are better")
        return [*lines, *(f"note: {note}" for note in self.notes)]


def _fits(content: object, kinds: dict) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in kinds.items())


def combine(runs: Sequence[FinishedRun], metric: str) -> Repeats:
    """Combine runs of one experiment.

    Args:
        runs: Two runs or more on the same cases; those with the same folds count as differing in the seed.
        metric: Metric that decides; if no run has it, balanced accuracy or RSum.

    Raises:
        DataError: Cases, labels or groups differ, two runs are one and the same, or no metric is common to all.
    """
    from clipzoo.records.tables import RetrievalTable

    kinds = {isinstance(run.table, RetrievalTable) for run in runs}
    if len(kinds) > 1:
        raise DataError("repeats: some of the runs classify and some retrieve. All must be of one experiment")
    names = [name for name in runs[0].summary.pooled if all(name in run.summary.pooled for run in runs)]
    if not names:
        raise DataError("repeats: the runs have no metric in common. Pass runs of one experiment")
    _check_distinct(runs)
    metrics: dict[str, dict] = {}
    for name in names:
        values = [run.summary.pooled[name] for run in runs]
        mean, sd = mean_and_sd(values)
        metrics[name] = {"mean": math.nan if any(map(math.isnan, values)) else mean, "sd": sd}
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
        metric=next(name for name in (metric, "balanced_accuracy", "rsum", *names) if name in metrics),
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


def _check_distinct(runs: Sequence[FinishedRun]) -> None:
    names: dict[str, str] = {}
    for run in runs:
        digest = run.summary.predictions_digest
        if digest and digest in names:
            raise DataError(f"repeats: {names[digest]} and {run.name} made the same predictions. Pass runs with other seeds or folds")
        names[digest] = run.name


def check_same_experiment(folders: Sequence[Path], names: Sequence[str]) -> None:
    """Check that work dirs differ in nothing but their seeds.

    Raises:
        DataError: Their configs or their data differ; the message names the first difference.
    """
    from clipzoo.config import differences

    origins = [_origin(folder) for folder in folders]
    for name, (config, data) in zip(names[1:], origins[1:], strict=True):
        found = differences(origins[0][0], config)
        if found:
            raise DataError(f"repeats: {names[0]} and {name} differ in {found[0]}. Runs of one experiment differ in their seeds only")
        if data != origins[0][1]:
            raise DataError(f"repeats: {names[0]} and {name} were trained on different data. Train one of them again")


def _origin(folder: Path) -> tuple[dict, str]:
    """The decisive part of the config without seeds, and the digest of the data; empty where a folder has none, as that of a baseline."""
    from clipzoo.records.json_records import read_plain
    from clipzoo.records.provenance import decisive
    from clipzoo.records.results import RESULT_FILE

    advice = "Train the run again, or restore the file"
    config: dict = {}
    if (folder / "config.json").exists():
        config = decisive(read_plain(folder / "config.json", advice).get("config", {}))
        for path in _SEEDS:
            section, key = path.split(".")
            config.get(section, {}).pop(key, None)
        config = {section: values for section, values in config.items() if values}
    results = sorted(folder.glob(f"*/{RESULT_FILE}"))
    return config, read_plain(results[0], advice).get("provenance", {}).get("data", "") if results else ""


def _components(runs: Sequence[FinishedRun]) -> dict[str, dict[str, float]]:
    """Limits, standard error and variances by metric."""
    from clipzoo.statistics.cases import Cases
    from clipzoo.statistics.variance import RepeatedRuns

    tables = [Cases.from_table(run.table) for run in runs]
    digests = [run.summary.folds_digest for run in runs]
    repeated = RepeatedRuns.of(tables, splits=[digests.index(digest) for digest in digests], names=[run.name for run in runs])
    intervals = repeated.intervals(runs[0].summary.level)
    return {
        name: {
            "low": intervals[name].low,
            "high": intervals[name].high,
            "standard_error": found.standard_error,
            "cases": found.cases,
            "splits": found.splits,
            "seeds": found.seeds,
        }
        for name, found in repeated.components.items()
    }


def folder_of(work_dir: str | Path, name: str) -> Path:
    """Work dir of the repeat with this name: ``repeat_1`` is the experiment's own."""
    return Path(work_dir) if name == "repeat_1" else Path(work_dir) / name


def combine_repeats(work_dir: str | Path, num_repeats: int, metric: str) -> Repeats | None:
    """Combine the repeats of a work dir and write ``repeats.json``; ``None`` until all are finished.

    Raises:
        CheckpointError: A file of a repeat is damaged.
        DataError: The repeats are not of one experiment.
    """
    names = [f"repeat_{number}" for number in range(1, num_repeats + 1)]
    if num_repeats < 2 or not all((folder_of(work_dir, name) / SUMMARY_FILE).exists() for name in names):
        return None
    check_same_experiment([folder_of(work_dir, name) for name in names], names)
    found = combine([FinishedRun.read(folder_of(work_dir, name), name) for name in names], metric)
    found.write(work_dir)
    return found
