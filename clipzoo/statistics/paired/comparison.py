"""Paired comparison of two runs on the same cases: is one better, by how much, and what could these cases have shown?

Differences are first minus second. Their intervals come from the jackknife over groups, in which both runs lose the same group: of
proportions, F1, AUROC and averages of them by MOVER, from the limits of the two runs and all correlations; of losses, mean ranks and
similarities by t. Percentile and BCa bootstraps cover less (``benchmarks/coverage.py``).
P-values come from swapping the runs group by group.

Shapes: N cases · C classes · G groups · Q queries · K folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from clipzoo.errors import DataError
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.multiplicity import holm
from clipzoo.statistics.paired.paired_tests import FoldTest, McNemar, corrected_t, fold_differences, mcnemar, swap_p_values
from clipzoo.statistics.retrieval_scores import RankOutcomes, weighted_retrieval_scores
from clipzoo.statistics.scores import Outcomes, weighted_scores
from clipzoo.statistics.uncertainty.estimates import Estimates, Interval, kind_of, undefined
from clipzoo.statistics.uncertainty.influence import Key, Scorer, correlation
from clipzoo.statistics.uncertainty.interval_methods import mover, plain_t
from clipzoo.statistics.uncertainty.intervals import FEW_GROUPS, Doubts, check_level, with_note

POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """One metric of two runs.

    Attributes:
        first: Value of the first run.
        second: Value of the second run.
        interval: First minus second, with its interval.
        p_value: Two-sided, from swapping the runs group by group; NaN if undefined.
        adjusted_p_value: After Holm's correction over several comparisons (see ``adjusted``); otherwise equal to ``p_value``.
        detectable: The smallest true difference that a 95 % interval of this width excludes from 0 with a probability of 80 %.
        folds: Nadeau and Bengio's test over the folds.
    """

    first: float
    second: float
    interval: Interval
    p_value: float
    adjusted_p_value: float
    detectable: float
    folds: FoldTest


@dataclass(frozen=True)
class Comparison:
    """Differences of all metrics of two runs.

    Attributes:
        overall: Difference by metric.
        per_class: C differences by metric; empty for retrieval.
        mcnemar: Exact test of accuracy; ``None`` for retrieval.
        identical: Whether both runs made the same predictions; then all differences are exactly 0, with p = 1.
    """

    overall: dict[str, Difference]
    per_class: dict[str, tuple[Difference, ...]]
    mcnemar: McNemar | None
    identical: bool


def compare_cases(
    first: Cases,
    second: Cases,
    *,
    names: tuple[str, str] = ("first", "second"),
    level: float = 0.95,
    num_permutations: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs in every classification metric.

    Args:
        first: N cases with the predictions of one run.
        second: The same cases with those of another.
        names: Names of the runs, for error messages.
        level: Confidence level in (0, 1).
        num_permutations: Number of swaps for p-values.
        seed: Seed of the swaps.

    Raises:
        DataError: Cases, classes, labels, groups or folds differ; the message names the first difference. Or there are no cases.
        ConfigError: ``level`` or ``num_permutations`` is out of range.
    """
    check_level(level)
    check_pair(first, second, names=names)
    outcomes = Outcomes.of(first), Outcomes.of(second)
    differs = outcomes[0].predicted != outcomes[1].predicted
    differs |= (first.probabilities != second.probabilities).any(axis=1)
    runs = _Runs(
        estimates=tuple(Estimates.of_cases(cases, outcome, level) for cases, outcome in zip((first, second), outcomes, strict=True)),
        scorers=tuple(partial(weighted_scores, outcome) for outcome in outcomes),
        joined=partial(weighted_scores, Outcomes.join(*outcomes)),
        groups=first.groups,
        folds=first.folds,
        differs=differs,
    )
    right = [outcome.predicted == outcome.labels for outcome in outcomes]
    doubts = Doubts.of(first, ~(right[0] & right[1]))
    found = runs.compared(lambda key: doubts.about(key, float("nan")), num_permutations=num_permutations, seed=seed)
    return replace(found, mcnemar=mcnemar(*right, first.groups))


def compare_queries(
    first: Queries,
    second: Queries,
    *,
    names: tuple[str, str] = ("first", "second"),
    level: float = 0.95,
    num_permutations: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs in every retrieval metric. Arguments and errors are those of ``compare_cases``, for Q queries."""
    check_level(level)
    check_query_pair(first, second, names=names)
    outcomes = RankOutcomes.of(first), RankOutcomes.of(second)
    columns = zip(*(({**o.means, **o.similarities}).values() for o in outcomes), strict=True)
    runs = _Runs(
        estimates=tuple(Estimates.of_queries(queries, outcome, level) for queries, outcome in zip((first, second), outcomes, strict=True)),
        scorers=tuple(partial(weighted_retrieval_scores, outcome) for outcome in outcomes),
        joined=partial(weighted_retrieval_scores, RankOutcomes.join(*outcomes)),
        groups=first.groups,
        folds=np.unique(first.table.fold.astype(str), return_inverse=True)[1].reshape(-1),
        differs=np.logical_or.reduce([(a != b) & ~(np.isnan(a) & np.isnan(b)) for a, b in columns]),
    )
    few = f"only {first.num_groups} groups" if first.num_groups < FEW_GROUPS else ""
    return runs.compared(lambda key: few, num_permutations=num_permutations, seed=seed)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Holm's correction of every metric over several comparisons, such as those of the best run with each other one."""
    overall = [dict(comparison.overall) for comparison in comparisons]
    for name in overall[0] if overall else ():
        for found, p_value in zip(overall, holm([found[name].p_value for found in overall]), strict=True):
            found[name] = replace(found[name], adjusted_p_value=float(p_value))
    return [replace(comparison, overall=found) for comparison, found in zip(comparisons, overall, strict=True)]


def check_pair(first: Cases, second: Cases, *, names: tuple[str, str] = ("first", "second"), same_folds: bool = True) -> None:
    """Check that two runs scored the same cases.

    Args:
        first: Cases of one run.
        second: Cases of the other.
        names: Names of the runs, for messages.
        same_folds: Whether folds must agree too; repeats of a cross-validation differ in them.

    Raises:
        DataError: Classes, cases, labels, groups or folds differ, or there are no cases.
    """
    _check_columns([("classes", first.classes, second.classes)], "class {row}", names)
    _check_columns([("cases", first.case_ids, second.case_ids)], "case {row}", names)
    columns = [
        ("labels", [first.classes[c] for c in first.labels], [second.classes[c] for c in second.labels]),
        ("groups", _canonical(first.groups), _canonical(second.groups)),
    ]
    if same_folds:
        columns.append(("folds", [first.fold_names[f] for f in first.folds], [second.fold_names[f] for f in second.folds]))
    _check_columns(columns, "case {name!r}", names, first.case_ids)


def check_query_pair(first: Queries, second: Queries, *, names: tuple[str, str] = ("first", "second")) -> None:
    """Check that two runs searched for the same queries in galleries of the same size.

    Raises:
        DataError: Queries, directions, groups, folds or gallery sizes differ, or there are no queries.
    """
    tables = first.table, second.table
    _check_columns([("queries", *(tuple(zip(t.direction, t.query, strict=True)) for t in tables))], "query {row}", names)
    columns = [
        ("groups", _canonical(first.groups), _canonical(second.groups)),
        *((label, *(getattr(t, name).tolist() for t in tables)) for label, name in (("folds", "fold"), ("gallery sizes", "gallery"))),
    ]
    _check_columns(columns, "query {name!r}", names, tables[0].query)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Two runs, prepared.

    Attributes:
        estimates: Jackknife of each.
        scorers: Metrics of each as a function of ``[B, N]`` weights.
        joined: Metrics as a function of ``[B, 2N]`` weights.
        groups: ``[N]`` int codes.
        folds: ``[N]`` int codes.
        differs: ``[N]`` bool: the runs do not predict the same.
    """

    estimates: tuple[Estimates, ...]
    scorers: tuple[Scorer, ...]
    joined: Scorer
    groups: np.ndarray
    folds: np.ndarray
    differs: np.ndarray

    def compared(self, doubt: Callable[[Key], str], *, num_permutations: int, seed: int) -> Comparison:
        """Every metric; ``doubt`` gives the note of its interval."""
        p_values = swap_p_values(self.joined, self.groups, self.differs, num_permutations=num_permutations, seed=seed)
        of_folds = fold_differences(*self.scorers, self.folds)
        num_folds = int(self.folds.max()) + 1
        overall: dict[str, Difference] = {}
        per_class: dict[str, tuple[Difference, ...]] = {}
        for key, p_value in p_values.items():
            interval, detectable = self._interval(key)
            interval = with_note(interval, doubt(key))
            fold_test = corrected_t(of_folds[key], test_share=1 / max(num_folds - 1, 1), level=interval.level)
            first, second = (estimates.influence.points[key] for estimates in self.estimates)
            found = Difference(first, second, interval, p_value, p_value, detectable, fold_test)
            if key[1] is None:
                overall[key[0]] = found
            else:
                per_class[key[0]] = (*per_class.get(key[0], ()), found)
        return Comparison(overall, per_class, None, not self.differs.any())

    def _interval(self, key: Key) -> tuple[Interval, float]:
        """Interval of the difference, and the detectable difference."""
        a, b = self.estimates
        value = a.influence.points[key] - b.influence.points[key]
        if np.isnan(value):
            return undefined(value, a.level, "undefined for these cases"), float("nan")
        if not self.differs.any():
            return Interval(0.0, 0.0, 0.0, a.level, "none", "the two runs are identical"), 0.0
        if key[0].endswith("median_rank"):
            return undefined(value, a.level, "no interval for a difference of medians"), float("nan")
        if kind_of(key) in ("loss", "rank", "cosine"):
            return self._by_t(key, value)
        return self._by_mover(key, value)

    def _by_t(self, key: Key, value: float) -> tuple[Interval, float]:
        a, b = self.estimates
        deviations = a.influence.deviations[key] - b.influence.deviations[key]
        variance = float((deviations**2).sum())
        if not variance > 0 or len(deviations) < 2:
            return undefined(value, a.level, "no variation between groups"), float("nan")
        quantile = a.quantile([key], deviations)
        return Interval(value, *plain_t(value, variance, quantile), a.level, "t"), self._detectable(variance**0.5, deviations)

    def _by_mover(self, key: Key, value: float) -> tuple[Interval, float]:
        """From the limits of both runs; of an average, from those of all classes of both runs at once."""
        a, b = self.estimates
        parts = [part for part in a.parts(key) if part in b.parts(key)]
        deviations = a.influence.mean_deviations(parts) - b.influence.mean_deviations(parts)
        quantile = a.quantile(parts, deviations)
        both = [(run, part) for run in (a, b) for part in parts]
        scale = 100.0 if key[0] == "rsum" else 1 / len(parts)
        low, high = mover(
            [run.influence.points[part] for run, part in both],
            [run.limits(part, quantile)[0] for run, part in both],
            correlation([run.influence.deviations[part] for run, part in both]),
            [scale] * len(parts) + [-scale] * len(parts),
        )
        most = scale * len(parts)
        interval = Interval(value, min(max(low, -most), value), max(min(high, most), value), a.level, "mover")
        return interval, self._detectable((high - low) / 2 / quantile, deviations)

    def _detectable(self, error: float, deviations: np.ndarray) -> float:
        """(t for the level + t for the power) x standard error (Lehr 1992 has 2.8 = 1.96 + 0.84 for many groups)."""
        from scipy.special import stdtrit

        freedom = self.estimates[0].influence.degrees_of_freedom(deviations)
        return float(stdtrit(freedom, 0.5 + self.estimates[0].level / 2) + stdtrit(freedom, POWER)) * error


def _canonical(codes: np.ndarray) -> list[int]:
    """Codes numbered by first appearance, so that only the partition is compared."""
    index: dict[int, int] = {}
    return [index.setdefault(int(code), len(index)) for code in codes]


def _check_columns(columns: Sequence[tuple], where: str, names: tuple[str, str], rows: Sequence = ()) -> None:
    """Refuse the first difference. ``where`` formats the place from ``row`` (from 1) and ``name``."""
    for what, first, second in columns:
        if not len(first) and not len(second):
            raise DataError(f"comparison: {names[0]} and {names[1]} have no {what}. At least one labelled case is needed")
        if len(first) != len(second):
            raise DataError(f"comparison: {names[0]} has {len(first)} {what}, {names[1]} has {len(second)}. Both must score the same cases")
        for row, (a, b) in enumerate(zip(first, second, strict=True)):
            if a != b:
                place = where.format(row=row + 1, name=rows[row] if len(rows) else "")
                raise DataError(
                    f"comparison: {what} differ: {place} is {a!r} in {names[0]}, {b!r} in {names[1]}. Both must score the same cases"
                )
