"""Confidence intervals of all metrics of a table, each by the method that covers in ``benchmarks/coverage.py``.

============================================================  ==================================================================
accuracy, sensitivity, specificity, PPV, NPV, precision, R@K  Wilson; with several cases per group, on the effective sample size
F1, MRR                                                       Wilson on the effective sample size
AUROC of a class                                              t interval on the logit scale
balanced accuracy, macro averages, RSum                       MOVER: from the intervals of the classes, with their correlations
log loss, Brier score, mean rank                              t interval on the log scale
median rank                                                   Woodruff
cosine similarities                                           t interval
============================================================  ==================================================================

Standard errors are those of the jackknife over groups, so that the cases of a patient count together. The resampling changes the number
of cases of each class, as another sample of patients would. Quantiles are of a t distribution whose degrees of freedom follow
from the classes that contribute the variance, except for proportions of independent cases. Nothing is random.

Intervals of out-of-fold predictions speak about new patients of the same kind for the K trained models as they are, not about another
training (Bayle et al. 2020, "Cross-validation confidence intervals for test error"; Bates et al. 2021).

Shapes: N cases · C classes · G groups · Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from clipzoo.errors import ConfigError
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.influence import Influence, Key
from clipzoo.statistics.interval_methods import Limits, effective_size, log_t, logit_t, median_limits, mover, plain_t, wilson
from clipzoo.statistics.retrieval_scores import KS, SHORT, RankOutcomes, weighted_retrieval_scores
from clipzoo.statistics.scores import MACRO, OVERALL, PER_CLASS, Outcomes, weighted_scores

Method = Literal["wilson", "effective_wilson", "logit_t", "mover", "log_t", "woodruff", "t", "none"]

# Where coverage is outside 93 to 97 % in benchmarks/coverage.py, the note says so:
FEW_GROUPS = 20  # fewer groups, overall or in a class
FEW_WRONG = 10  # losses, which are ruled by cases that are wrong: fewer groups with such a case
NEAR_ONE = 0.995  # the AUROC, above this value
FEW_INFLUENTIAL = 10  # mean rank, which has a long tail: a smaller effective number of groups that contribute the variance


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        value: Point value; NaN if undefined.
        low: Lower limit, at most ``value``; NaN if there is no interval.
        high: Upper limit, at least ``value``.
        level: Confidence level in (0, 1).
        method: Name of the method; see the module.
        note: Reason to doubt the interval, or why there is none; empty if there is no reason.
    """

    value: float
    low: float
    high: float
    level: float
    method: Method
    note: str = ""

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class MetricIntervals:
    """Intervals of all metrics.

    Attributes:
        overall: Interval by metric.
        per_class: C intervals by metric, in the order of the classes; empty for retrieval.
    """

    overall: dict[str, Interval]
    per_class: dict[str, tuple[Interval, ...]]


@dataclass(frozen=True)
class Support:
    """What a metric is computed from: its cases, and the groups that they belong to (of the smaller side, for the AUROC)."""

    cases: int
    groups: int

    @classmethod
    def of(cls, groups: np.ndarray) -> Support:
        """Count the ``[n]`` group codes of the cases."""
        return cls(len(groups), len(np.unique(groups)))

    @property
    def independent(self) -> bool:
        """Whether no group has more than one case."""
        return self.cases == self.groups


_KINDS: dict[str, str] = {
    **dict.fromkeys(("accuracy", "sensitivity", "specificity", "ppv", "npv", "precision"), "proportion"),
    **{"f1": "share", "mrr": "share", "class_auroc": "area", "log_loss": "loss", "brier": "loss", "mean_rank": "rank"},
    **dict.fromkeys(("positive_similarity", "negative_similarity", "similarity_gap"), "cosine"),
}
_RANGES = {"brier": (0.0, 2.0), "mean_rank": (1.0, np.inf), "similarity_gap": (-2.0, 2.0), "log_loss": (0.0, np.inf)}


def classification_intervals(cases: Cases, *, level: float = 0.95) -> MetricIntervals:
    """Intervals of every metric of ``scores``.

    Args:
        cases: N labelled cases.
        level: Confidence level in (0, 1).

    Returns:
        Metrics that are undefined are NaN, with a note. Notes also name classes with fewer than 20 groups.

    Raises:
        ConfigError: ``level`` is not between 0 and 1.
    """
    _check_level(level)
    names = {**{(name, None): name for name in OVERALL}, **{(name, c): name for name in PER_CLASS for c in range(len(cases.classes))}}
    outcomes = Outcomes.of(cases)
    if not len(cases) or not outcomes.finite:
        why = "a probability is not finite" if len(cases) else "no labelled cases"
        return _arranged({key: _undefined(float("nan"), level, why) for key in names})
    influence = Influence.of(partial(weighted_scores, outcomes), cases.groups, cases.labels)
    supports = {("accuracy", None): Support.of(cases.groups), **_class_supports(cases.groups, outcomes)}
    for loss in ("log_loss", "brier"):
        supports[loss, None] = supports["accuracy", None]
    estimates = Estimates(influence, supports, level)
    doubts = _Doubts.of(cases, outcomes)
    found = {}
    for key in names:
        if key[0] in MACRO and key[1] is None:
            parts = [(MACRO[key[0]], c) for c in range(len(cases.classes)) if not np.isnan(influence.points[MACRO[key[0]], c])]
            found[key] = estimates.combined(key, parts, 1 / max(len(parts), 1))
        else:
            found[key] = estimates.single(key)
    return _arranged({key: _with_note(interval, doubts.about(key, interval.value)) for key, interval in found.items()})


def retrieval_intervals(queries: Queries, *, level: float = 0.95, ks: Sequence[int] = KS) -> MetricIntervals:
    """Intervals of every metric of ``retrieval_scores``, for other queries in the same galleries.

    Args:
        queries: Q queries of one or both directions.
        level: Confidence level in (0, 1).
        ks: The K of R@K.

    Raises:
        ConfigError: ``level`` is not between 0 and 1.
    """
    _check_level(level)
    outcomes = RankOutcomes.of(queries, ks=ks)
    scorer = partial(weighted_retrieval_scores, outcomes)
    if not len(queries):
        names = scorer(np.ones((1, 0))).overall
        return _arranged({(name, None): _undefined(float("nan"), level, "no queries") for name in names})
    influence = Influence.of(scorer, queries.groups)
    sides = [queries.groups[outcomes.sides == side] for side in range(2)]
    by_side = dict(zip(SHORT.values(), map(Support.of, sides), strict=True))
    supports = {key: by_side.get(key[0][:3], by_side["i2t"]) for key in influence.points}
    estimates = Estimates(influence, supports, level)
    found = {}
    for key in influence.points:
        name = key[0]
        if name.endswith("_median_rank"):
            side = list(SHORT.values()).index(name[:3])
            found[key] = estimates.median(key, outcomes.ranks[outcomes.sides == side], sides[side])
        elif name == "rsum":
            found[key] = estimates.combined(key, [(f"{short}_r{k}", None) for short in by_side for k in ks if k in KS], 100.0)
        else:
            found[key] = estimates.single(key)
        if 0 < supports[key].groups < FEW_GROUPS:
            found[key] = _with_note(found[key], f"only {_groups(supports[key].groups)}")
        elif name.endswith("mean_rank") and influence.effective_number(key) < FEW_INFLUENTIAL:
            found[key] = _with_note(found[key], "a few groups with high ranks decide it; the interval is too narrow")
    return _arranged(found)


@dataclass(frozen=True, eq=False)
class Estimates:
    """Turns the jackknife of a table into intervals.

    Attributes:
        influence: Jackknife of all metrics.
        supports: Cases and groups behind each single metric.
        level: Confidence level.
    """

    influence: Influence
    supports: dict[Key, Support]
    level: float

    def single(self, key: Key) -> Interval:
        """Interval of a metric that is no average of others."""
        value = self.influence.points[key]
        if np.isnan(value):
            return _undefined(value, self.level, "undefined for these cases")
        limits, method = self.limits(key, self._quantile([key], self.influence.deviations[key]))
        if method == "none":
            return _undefined(value, self.level, "no variation between groups" if self.supports[key].groups > 1 else "a single group")
        return Interval(value, *_within(limits, value, key), self.level, method)

    def combined(self, key: Key, parts: Sequence[Key], coefficient: float) -> Interval:
        """Interval of ``coefficient`` times the sum of ``parts``."""
        value = self.influence.points[key]
        if np.isnan(value):
            return _undefined(value, self.level, "undefined for these cases")
        quantile = self._quantile(parts, self.influence.mean_deviations(parts))
        limits = [self.limits(part, quantile)[0] for part in parts]
        values = [self.influence.points[part] for part in parts]
        low, high = mover(values, limits, self.influence.correlation(parts), [coefficient] * len(parts))
        most = coefficient * len(parts)
        return Interval(value, min(max(low, 0.0), value), max(min(high, most), value), self.level, "mover")

    def median(self, key: Key, ranks: np.ndarray, groups: np.ndarray) -> Interval:
        """Interval of a median rank."""
        value = self.influence.points[key]
        codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
        if np.isnan(value) or not codes.any():
            return _undefined(value, self.level, "undefined for these queries" if np.isnan(value) else "a single group")
        low, high = median_limits(ranks, codes, self._quantile([key], self.influence.deviations[f"{key[0][:3]}_mrr", None]))
        return Interval(value, min(low, value), max(high, value), self.level, "woodruff")

    def limits(self, key: Key, quantile: float) -> tuple[Limits, Method]:
        """Limits of a single metric, and the method."""
        kind, value, variance, support = _kind(key), self.influence.points[key], self.influence.variance(key), self.supports[key]
        size = effective_size(value, variance) if kind in ("proportion", "share", "area") else np.nan
        if kind == "proportion" and support.independent and support.cases:
            return wilson(value, support.cases, quantile), "wilson"
        if kind in ("proportion", "share", "area"):
            if np.isnan(size):  # all or none correct, or a single group: each group counts as one case
                return (wilson(value, support.groups, _normal(self.level)) if support.groups else (0.0, 1.0)), "effective_wilson"
            if kind == "area":
                return logit_t(value, variance, quantile), "logit_t"
            most = support.cases if kind == "proportion" else np.inf  # cases of a group may agree by chance less than independent ones
            return wilson(value, min(size, most), quantile), "effective_wilson"
        if not variance > 0:
            return (np.nan, np.nan), "none"
        return (plain_t(value, variance, quantile), "t") if kind == "cosine" else (log_t(value, variance, quantile), "log_t")

    def _quantile(self, keys: Sequence[Key], deviations: np.ndarray) -> float:
        """Of the normal distribution for proportions of independent cases, whose variance is known, and of a t distribution elsewhere."""
        from scipy.special import stdtrit

        if all(_kind(key) == "proportion" and self.supports[key].independent for key in keys):
            return _normal(self.level)
        return float(stdtrit(self.influence.degrees_of_freedom(deviations), 0.5 + self.level / 2))


def _kind(key: Key) -> str:
    name = key[0].removeprefix("i2t_").removeprefix("t2i_")
    if name == "auroc" and key[1] is not None:
        name = "class_auroc"
    return _KINDS.get(name, "proportion")  # r1, r5, …


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def _class_supports(groups: np.ndarray, outcomes: Outcomes) -> dict[Key, Support]:
    """Support of every metric of every class."""
    supports: dict[Key, Support] = {}
    for c in range(outcomes.num_classes):
        true, called = outcomes.labels == c, outcomes.predicted == c
        rows = {"sensitivity": true, "specificity": ~true, "ppv": called, "precision": called, "npv": ~called, "f1": true | called}
        supports |= {(name, c): Support.of(groups[of_metric]) for name, of_metric in rows.items()}
        supports["auroc", c] = min(Support.of(groups[true]), Support.of(groups[~true]), key=lambda support: support.groups)
    return supports


@dataclass(frozen=True)
class _Doubts:
    """Reasons why an interval of a classification metric may not cover.

    Attributes:
        classes: C class names.
        class_groups: Number of groups with each class.
        num_groups: G.
        wrong_groups: Number of groups with a wrong prediction.
    """

    classes: tuple[str, ...]
    class_groups: tuple[int, ...]
    num_groups: int
    wrong_groups: int

    @classmethod
    def of(cls, cases: Cases, outcomes: Outcomes) -> _Doubts:
        class_groups = tuple(Support.of(cases.groups[cases.labels == c]).groups for c in range(len(cases.classes)))
        wrong = Support.of(cases.groups[outcomes.predicted != outcomes.labels]).groups
        return cls(cases.classes, class_groups, cases.num_groups, wrong)

    def about(self, key: Key, value: float) -> str:
        """The first reason that applies to a metric, or an empty string."""
        name, c = key
        if name in MACRO or c is not None:
            rare = [k for k in (range(len(self.classes)) if c is None else [c]) if 0 < self.class_groups[k] < FEW_GROUPS]
            if rare:
                rarest = min(rare, key=lambda k: self.class_groups[k])
                return f"class {self.classes[rarest]!r} has only {_groups(self.class_groups[rarest])}"
            return "close to 1, where the interval is too narrow" if name == "auroc" and value > NEAR_ONE else ""
        if self.num_groups < FEW_GROUPS:
            return f"only {_groups(self.num_groups)}"
        if name in ("log_loss", "brier") and self.wrong_groups < FEW_WRONG:
            return f"only {_groups(self.wrong_groups)} with a wrong prediction"
        return ""


def _groups(number: int) -> str:
    return f"{number} group" if number == 1 else f"{number} groups"


def _with_note(interval: Interval, note: str) -> Interval:
    if not note or interval.note:
        return interval
    return Interval(interval.value, interval.low, interval.high, interval.level, interval.method, note)


def _within(limits: Limits, value: float, key: Key) -> Limits:
    """Limits inside the metric's range, around the value in spite of rounding."""
    name = key[0].removeprefix("i2t_").removeprefix("t2i_")
    least, most = _RANGES.get(name, (-1.0 if _kind(key) == "cosine" else 0.0, 1.0))
    return min(max(limits[0], least), value), max(min(limits[1], most), value)


def _undefined(value: float, level: float, note: str) -> Interval:
    return Interval(value, float("nan"), float("nan"), level, "none", note)


def _arranged(found: dict[Key, Interval]) -> MetricIntervals:
    per_class: dict[str, tuple[Interval, ...]] = {}
    for (name, c), interval in found.items():
        if c is not None:
            per_class[name] = (*per_class.get(name, ()), interval)
    return MetricIntervals({name: interval for (name, c), interval in found.items() if c is None}, per_class)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level: {level} is not a confidence level. It must be between 0 and 1, such as 0.95")
