"""Where the uncertainty of a cross-validated metric comes from: the patients, the splits, or the seeds of training.

Shapes: R runs (repeats of the cross-validation) · S splits · N cases · G groups · K jackknife blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipzoo.errors import DataError
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.paired.comparison import check_pair
from clipzoo.statistics.scores import MACRO, OVERALL, Outcomes
from clipzoo.statistics.uncertainty.estimates import Estimates, Interval, Support
from clipzoo.statistics.uncertainty.influence import Influence
from clipzoo.statistics.uncertainty.intervals import check_level


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of a metric, as an average over R runs on the same cases estimates it.

    Attributes:
        value: Mean over the runs.
        cases: Variance from the choice of patients, for this number of patients; only more patients reduce it.
        splits: Variance from the division into folds, of a single run; NaN with one split. Contains that of the seeds if no split was
            trained with two seeds.
        seeds: Variance from the seed of training, of a single run; NaN if no split was trained with two seeds.
        num_runs: R.
        num_splits: S.
    """

    value: float
    cases: float
    splits: float
    seeds: float
    num_runs: int
    num_splits: int

    @property
    def standard_error(self) -> float:
        """Of the mean over the runs, for other patients, splits and seeds; unknown components count as 0.

        The training sets of all runs consist of the same patients; how much another sample of them would change the trained models is
        not part of it (Bengio and Grandvalet 2004: no unbiased estimate exists).
        """
        of_splits = 0.0 if math.isnan(self.splits) else self.splits / self.num_splits
        of_seeds = 0.0 if math.isnan(self.seeds) else self.seeds / self.num_runs
        return math.sqrt(self.cases + of_splits + of_seeds)

    def degrees_of_freedom(self, of_cases: float) -> float:
        """Degrees of freedom of ``standard_error``, given those of the component ``cases``; 1 or more."""
        parts = [(self.cases, of_cases)]
        parts += [] if math.isnan(self.splits) else [(self.splits / self.num_splits, self.num_splits - 1)]
        parts += [] if math.isnan(self.seeds) else [(self.seeds / self.num_runs, self.num_runs - self.num_splits)]
        squares = sum(variance**2 / max(freedom, 1) for variance, freedom in parts)
        return max(self.standard_error**4 / squares, 1.0) if squares > 0 else of_cases

    @property
    def share_of_cases(self) -> float:
        """Share of the squared standard error that more runs would not reduce, in [0, 1]; NaN without any variance."""
        return self.cases / self.standard_error**2 if self.standard_error > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class RepeatedRuns:
    """Runs on the same cases, jackknifed once.

    Attributes:
        estimates: Jackknife of each of R runs.
        splits: R codes of their splits.
    """

    estimates: tuple[Estimates, ...]
    splits: tuple[int, ...]

    @classmethod
    def of(cls, runs: Sequence[Cases], *, splits: Sequence[int] | None = None, names: Sequence[str] = ()) -> RepeatedRuns:
        """Check and jackknife the runs; arguments and errors are those of ``variance_components``."""
        estimates = _checked(runs, splits, names)
        return cls(tuple(estimates), tuple(range(len(runs)) if splits is None else splits))

    @cached_property
    def components(self) -> dict[str, VarianceComponents]:
        """See ``variance_components``."""
        found, number = {}, len(set(self.splits))
        for name in OVERALL:
            values_R = np.array([e.influence.points[name, None] for e in self.estimates])
            deviations_RK = np.stack([e.influence.deviations[name, None] for e in self.estimates])
            between, within = _nested(values_R, self.splits)
            found[name] = VarianceComponents(float(values_R.mean()), _of_cases(deviations_RK), between, within, len(self.estimates), number)
        return found

    def intervals(self, level: float = 0.95) -> dict[str, Interval]:
        """Interval of the mean over runs of every overall metric: for other tested patients, splits and seeds.

        The methods are those of a single run, with the jackknife of the mean over runs. Its standard error is widened to
        ``VarianceComponents.standard_error``, which counts splits and seeds, with the degrees of freedom of all components
        (Satterthwaite 1946, equation 17). Two or three runs say little about splits: there the interval covers 88 to 94 % in simulation.
        All runs learn from the same patients, so that near chance it is as much too narrow as that of a single run.

        Args:
            level: Confidence level in (0, 1).
        """
        check_level(level)
        estimates = self.estimates
        mean = Influence(
            {key: float(np.mean([e.influence.points[key] for e in estimates])) for key in estimates[0].influence.points},
            {key: np.mean([e.influence.deviations[key] for e in estimates], axis=0) for key in estimates[0].influence.deviations},
            estimates[0].influence.strata,
        )
        widening, freedom = {}, {}
        for name, found in self.components.items():
            variance = mean.variance((name, None))
            if variance > 0:
                widening[name, None] = max(found.standard_error / math.sqrt(variance), 1.0)
                freedom[name, None] = found.degrees_of_freedom(mean.degrees_of_freedom(mean.deviations[name, None]))
        supports = {}
        for key in estimates[0].supports:  # of predictive values they differ between the runs
            each = [e.supports[key] for e in estimates]
            supports[key] = Support(sum(s.cases for s in each), max(s.groups for s in each), max(s.least for s in each))
        joined = Estimates(mean, supports, level, widening, freedom)
        intervals = {}
        for name in OVERALL:
            parts = joined.parts((name, None))
            intervals[name] = joined.combined((name, None), parts, 1 / max(len(parts), 1)) if name in MACRO else joined.single((name, None))
        return intervals


def variance_components(
    runs: Sequence[Cases], *, splits: Sequence[int] | None = None, names: Sequence[str] = ()
) -> dict[str, VarianceComponents]:
    """Split the variance of every overall metric.

    The variance over patients is that of the jackknife over groups for the mean over runs, less what is left in it of the
    interaction of patients and runs: with V(1) the mean jackknife variance of one run and V(R) that of the mean,
    V(R) = cases + interaction / R and V(1) = cases + interaction. Splits and seeds come from the nested analysis of variance of the
    R values; as runs differ on these very cases, they contain the interaction. Negative estimates are set to 0.

    Args:
        runs: R tables of the same cases, which may differ in folds.
        splits: R codes; runs with equal codes have the same folds and differ in the seed. ``None``: every run has its own split.
        names: Names of the runs, for error messages.

    Returns:
        Components by metric; NaN where the metric is undefined.

    Raises:
        DataError: There are fewer than two runs, their cases differ, or ``splits`` has another length.

    Source: Searle, Casella and McCulloch 1992, "Variance components", section 3.6 (nested, unbalanced), for splits and seeds.
    """
    return RepeatedRuns.of(runs, splits=splits, names=names).components


def repeated_intervals(
    runs: Sequence[Cases], *, splits: Sequence[int] | None = None, names: Sequence[str] = (), level: float = 0.95
) -> dict[str, Interval]:
    """``RepeatedRuns.intervals``; arguments and errors are those of ``variance_components``, and ``level`` in (0, 1)."""
    return RepeatedRuns.of(runs, splits=splits, names=names).intervals(level)


def _checked(runs: Sequence[Cases], splits: Sequence[int] | None, names: Sequence[str]) -> list[Estimates]:
    """The jackknife of each run.

    Raises:
        DataError: See ``variance_components``.
    """
    if len(runs) < 2:
        raise DataError(f"variance components: {len(runs)} run. Two or more are needed, such as repeats of the cross-validation")
    if splits is not None and len(splits) != len(runs):
        raise DataError(f"variance components: {len(splits)} splits for {len(runs)} runs. Each run needs the code of its split")
    names = names or [f"run {number}" for number in range(1, len(runs) + 1)]
    for run, name in zip(runs[1:], names[1:], strict=True):
        check_pair(runs[0], run, names=(names[0], name), same_folds=False)
    return [Estimates.of_cases(run, Outcomes.of(run), 0.95) for run in runs]


def _of_cases(deviations: np.ndarray) -> float:
    """Variance over patients without interaction, from ``[R, K]`` jackknife deviations."""
    num_runs = len(deviations)
    of_one, of_mean = (deviations**2).sum(axis=1).mean(), (deviations.mean(axis=0) ** 2).sum()
    interaction = (of_one - of_mean) * num_runs / (num_runs - 1)
    return float(np.maximum(of_mean - interaction / num_runs, 0.0))


def _nested(values: np.ndarray, splits: Sequence[int]) -> tuple[float, float]:
    """Variance between splits, and between the runs of a split; NaN for a component that the design does not show."""
    codes = np.unique(np.asarray(splits), return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(codes)
    num_runs, num_splits = len(values), len(sizes)
    means = np.bincount(codes, weights=values) / sizes
    squares_within = float(((values - means[codes]) ** 2).sum())
    squares_between = float((sizes * (means - values.mean()) ** 2).sum())
    within = squares_within / (num_runs - num_splits) if num_runs > num_splits else float("nan")
    if num_splits == 1:
        return float("nan"), within
    size = (num_runs - (sizes**2).sum() / num_runs) / (num_splits - 1)
    between = squares_between / (num_splits - 1)
    return float(np.maximum((between - (0.0 if math.isnan(within) else within)) / size, 0.0)), within
