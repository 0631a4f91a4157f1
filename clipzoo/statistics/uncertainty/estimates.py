"""From the jackknife of a table to the interval of a single metric, or of a mean of metrics.

Shapes: N cases · C classes · G groups · Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.retrieval_scores import KS, SHORT, RankOutcomes, weighted_retrieval_scores
from clipzoo.statistics.scores import GRADED, MACRO, OVERALL, Outcomes, weighted_scores
from clipzoo.statistics.uncertainty.influence import Influence, Key, correlation
from clipzoo.statistics.uncertainty.interval_methods import Limits, effective_size, log_t, logit_t, median_limits, mover, plain_t, wilson

Method = Literal["wilson", "effective_wilson", "logit_t", "mover", "log_t", "woodruff", "t", "none"]

_KINDS: dict[str, str] = {
    **dict.fromkeys(("accuracy", "sensitivity", "specificity", "ppv", "npv", "precision"), "proportion"),
    **{"f1": "share", "mrr": "share", "class_auroc": "area", "log_loss": "loss", "brier": "loss", "mean_rank": "rank"},
    **{"micro_f1": "share", "average_precision": "area", "binary_log_loss": "loss"},
    **dict.fromkeys(("positive_similarity", "negative_similarity", "similarity_gap", GRADED), "cosine"),
}
_RANGES = {
    "brier": (0.0, 2.0),
    "mean_rank": (1.0, np.inf),
    "similarity_gap": (-2.0, 2.0),
    "log_loss": (0.0, np.inf),
    "binary_log_loss": (0.0, np.inf),
}


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        value: Point value; NaN if undefined.
        low: Lower limit, at most ``value``; NaN if there is no interval.
        high: Upper limit, at least ``value``.
        level: Confidence level in (0, 1).
        method: Name of the method; see the module.
        note: Reason to doubt the interval, or reason that it is missing; otherwise empty.
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
class Support:
    """What a metric is computed from: the smaller side of it, for the AUROC.

    Attributes:
        cases: Number of cases.
        groups: Number of groups that they belong to.
        least: Effective number of cases if those of a group agree fully: N² / Σ n_g² for n_g cases in group g (Kish 1965).
    """

    cases: int
    groups: int
    least: float

    @classmethod
    def of(cls, groups: np.ndarray) -> Support:
        """Count the ``[n]`` group codes of the cases."""
        sizes = np.unique(groups, return_counts=True)[1]
        return cls(len(groups), len(sizes), len(groups) ** 2 / max(float((sizes**2).sum()), 1.0))

    @property
    def independent(self) -> bool:
        """Whether no group has more than one case."""
        return self.cases == self.groups


@dataclass(frozen=True, eq=False)
class Estimates:
    """Turns the jackknife of a table into intervals.

    Attributes:
        influence: Jackknife of all metrics.
        supports: Cases and groups behind each single metric.
        level: Confidence level.
        widening: Factor of the standard error of a metric, for what the jackknife of a table does not see; 1 where there is none.
        freedom: Degrees of freedom of that widened standard error, if they are fewer than those of the jackknife.
    """

    influence: Influence
    supports: dict[Key, Support]
    level: float
    widening: Mapping[Key, float] = field(default_factory=dict)
    freedom: Mapping[Key, float] = field(default_factory=dict)

    @classmethod
    def of_cases(cls, cases: Cases, outcomes: Outcomes, level: float) -> Estimates:
        """Jackknife of all classification metrics."""
        supports = {(name, None): Support.of(cases.groups) for name in (*OVERALL, GRADED)} | _class_supports(cases.groups, outcomes)
        return cls(Influence.of(partial(weighted_scores, outcomes), cases.groups, cases.labels), supports, level)

    @classmethod
    def of_queries(cls, queries: Queries, outcomes: RankOutcomes, level: float) -> Estimates:
        """Jackknife of all retrieval metrics; those of both directions are supported by the images."""
        influence = Influence.of(partial(weighted_retrieval_scores, outcomes), queries.groups)
        sides = {short: Support.of(queries.groups[outcomes.sides == side]) for side, short in enumerate(SHORT.values())}
        return cls(influence, {key: sides.get(key[0][:3], sides["i2t"]) for key in influence.points}, level)

    def parts(self, key: Key) -> list[Key]:
        """The metrics whose mean or sum a metric is: of the classes where defined, of both directions for RSum; else itself."""
        if key[0] == "rsum":
            return [(f"{short}_r{k}", None) for short in SHORT.values() for k in KS]
        if key[1] is not None or key[0] not in MACRO:
            return [key]
        of_class = MACRO[key[0]]
        return [
            part
            for part in self.influence.points
            if part[0] == of_class and part[1] is not None and not np.isnan(self.influence.points[part])
        ]

    def single(self, key: Key) -> Interval:
        """Interval of a metric that is no average of others."""
        value = self.influence.points[key]
        if np.isnan(value):
            return undefined(value, self.level, "undefined for these cases")
        limits, method = self.limits(key, self.quantile([key], self.influence.deviations[key], key), self.widening.get(key, 1.0))
        if method == "none":
            return undefined(value, self.level, "no variation between groups" if self.supports[key].groups > 1 else "a single group")
        return Interval(value, *_within(limits, value, key), self.level, method)

    def combined(self, key: Key, parts: Sequence[Key], coefficient: float) -> Interval:
        """Interval of ``coefficient`` times the sum of ``parts``."""
        value = self.influence.points[key]
        if np.isnan(value):
            return undefined(value, self.level, "undefined for these cases")
        quantile = self.quantile(parts, self.influence.mean_deviations(parts), key)
        limits = [self.limits(part, quantile, self.widening.get(key, 1.0))[0] for part in parts]
        values = [self.influence.points[part] for part in parts]
        low, high = mover(values, limits, correlation([self.influence.deviations[part] for part in parts]), [coefficient] * len(parts))
        most = coefficient * len(parts)
        return Interval(value, min(max(low, 0.0), value), max(min(high, most), value), self.level, "mover")

    def median(self, key: Key, ranks: np.ndarray, groups: np.ndarray) -> Interval:
        """Interval of a median rank."""
        value = self.influence.points[key]
        codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
        if np.isnan(value) or not codes.any():
            return undefined(value, self.level, "undefined for these queries" if np.isnan(value) else "a single group")
        low, high = median_limits(ranks, codes, self.quantile([key], self.influence.deviations[f"{key[0][:3]}_mrr", None]))
        return Interval(value, min(low, value), max(high, value), self.level, "woodruff")

    def limits(self, key: Key, quantile: float, widening: float = 1.0) -> tuple[Limits, Method]:
        """Limits of a single metric, and the method; ``widening`` is a factor of its standard error."""
        kind, value, support, square = kind_of(key), self.influence.points[key], self.supports[key], widening**2
        variance = self.influence.variance(key) * square
        size = effective_size(value, variance) if kind in ("proportion", "share", "area") else np.nan
        if kind == "proportion" and support.independent and support.cases:
            return wilson(value, support.cases / square, quantile), "wilson"
        if kind in ("proportion", "share", "area"):
            if np.isnan(size):  # all or none correct, or a single group: a group counts as one case
                limits = wilson(value, support.least / square, normal_quantile(self.level)) if support.groups else (0.0, 1.0)
                return limits, "effective_wilson"
            if kind == "area":
                return logit_t(value, variance, quantile), "logit_t"
            most = (
                support.cases / square if kind == "proportion" else np.inf
            )  # cases of a group may agree by chance less than independent ones
            return wilson(value, min(size, most), quantile), "effective_wilson"
        if not variance > 0:
            return (np.nan, np.nan), "none"
        return (plain_t(value, variance, quantile), "t") if kind == "cosine" else (log_t(value, variance, quantile), "log_t")

    def quantile(self, keys: Sequence[Key], deviations: np.ndarray, of: Key | None = None) -> float:
        """Of the normal distribution for proportions of independent cases, whose variance is known, and of a t distribution elsewhere.

        Args:
            keys: The metrics that a metric is made of.
            deviations: Their mean deviations.
            of: The metric itself, for ``freedom``.
        """
        from scipy.special import stdtrit

        if all(kind_of(key) == "proportion" and self.supports[key].independent for key in keys):
            return normal_quantile(self.level)
        freedom = min(self.influence.degrees_of_freedom(deviations), self.freedom.get(of, np.inf))
        return float(stdtrit(freedom, 0.5 + self.level / 2))


def kind_of(key: Key) -> str:
    """What decides the method: ``proportion``, ``share``, ``area``, ``loss``, ``rank`` or ``cosine``."""
    name = key[0].removeprefix("i2t_").removeprefix("t2i_")
    if name == "auroc" and key[1] is not None:
        name = "class_auroc"
    return _KINDS.get(name, "proportion")  # r1, r5, …


def normal_quantile(level: float) -> float:
    """Two-sided quantile of the normal distribution; 1.96 for 95 %."""
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


def _within(limits: Limits, value: float, key: Key) -> Limits:
    """Limits inside the metric's range, around the value in spite of rounding."""
    name = key[0].removeprefix("i2t_").removeprefix("t2i_")
    least, most = _RANGES.get(name, (-1.0 if kind_of(key) == "cosine" else 0.0, 1.0))
    return min(max(limits[0], least), value), max(min(limits[1], most), value)


def undefined(value: float, level: float, note: str) -> Interval:
    """A value without an interval."""
    return Interval(value, float("nan"), float("nan"), level, "none", note)
