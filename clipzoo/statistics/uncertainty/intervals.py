"""Confidence intervals of all metrics of a table, each by the method that covers in ``benchmarks/coverage.py``.

============================================================  ==================================================================
accuracy, sensitivity, specificity, PPV, NPV, precision, R@K  Wilson; with several cases per group, on the effective sample size
F1, MRR                                                       Wilson on the effective sample size
AUROC of a class                                              t interval on the logit scale
balanced accuracy, macro averages, RSum                       MOVER: from the intervals of the classes, with their correlations
log loss, Brier score, mean rank                              t interval on the log scale
median rank                                                   Woodruff
cosine similarities, quadratic-weighted kappa                 t interval
============================================================  ==================================================================

Standard errors are those of the jackknife over groups, so that the cases of a patient count together. The resampling changes the number
of cases of each class, as another sample of patients would. Quantiles are of a t distribution whose degrees of freedom follow
from the classes that contribute the variance, except for proportions of independent cases. Nothing is random.

Intervals of out-of-fold predictions speak about new patients of the same kind for the K trained models as they are, not about another
training (Bayle et al. 2020, "Cross-validation confidence intervals for test error"; Bates et al. 2021).

Shapes: N cases · C classes · G groups · Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipzoo.errors import ConfigError
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.retrieval_scores import KS, SHORT, RankOutcomes, weighted_retrieval_scores
from clipzoo.statistics.scores import GRADED, MACRO, OVERALL, PER_CLASS, Outcomes
from clipzoo.statistics.uncertainty.estimates import Estimates, Interval, Support, undefined
from clipzoo.statistics.uncertainty.influence import Key
from clipzoo.text_tables import groups_text

# Where coverage is outside 93 to 97 % in benchmarks/coverage.py, the note says so:
FEW_GROUPS = 20  # fewer groups, overall or in a class
FEW_WRONG = 10  # overall metrics but the AUROC: fewer groups with a wrong prediction, on which they all rest
NEAR_ONE = 0.995  # the AUROC, above this value
FEW_INFLUENTIAL = 10  # mean rank, which has a long tail: a smaller effective number of groups that contribute the variance


@dataclass(frozen=True)
class MetricIntervals:
    """Intervals of all metrics.

    Attributes:
        overall: Interval by metric.
        per_class: C intervals by metric, in the order of the classes; empty for retrieval.
        num_groups: G; of retrieval, the groups of the image queries.
    """

    overall: dict[str, Interval]
    per_class: dict[str, tuple[Interval, ...]]
    num_groups: int = 0


def classification_intervals(
    cases: Cases, *, level: float = 0.95, widening: Mapping[Key, float] | None = None, graded: bool = False
) -> MetricIntervals:
    """Intervals of every metric of ``scores``.

    Args:
        cases: N labelled cases.
        level: Confidence level in (0, 1).
        widening: Factors of standard errors, as ``retraining.widening`` finds them; ``None`` for none.
        graded: Whether the classes are grades in order, for which there is an interval of the quadratic-weighted kappa too.

    Returns:
        Metrics that are undefined are NaN, with a note. Notes also name classes with fewer than 20 groups.

    Raises:
        ConfigError: ``level`` is not between 0 and 1.
    """
    check_level(level)
    names = {
        **{(name, None): name for name in (*OVERALL, *([GRADED] if graded else []))},
        **{(name, c): name for name in PER_CLASS for c in range(len(cases.classes))},
    }
    outcomes = Outcomes.of(cases, graded=graded)
    if not len(cases) or not outcomes.finite:
        why = "a probability is not finite" if len(cases) else "no labelled cases"
        return _arranged({key: undefined(float("nan"), level, why) for key in names}, cases.num_groups)
    estimates = replace(Estimates.of_cases(cases, outcomes, level), widening=widening or {})
    doubts = Doubts.of(cases, outcomes.predicted != outcomes.labels)
    found = {}
    for key in names:
        if key[0] in MACRO and key[1] is None:
            parts = estimates.parts(key)
            found[key] = estimates.combined(key, parts, 1 / max(len(parts), 1))
        else:
            found[key] = estimates.single(key)
    return _arranged({key: with_note(interval, doubts.about(key, interval.value)) for key, interval in found.items()}, cases.num_groups)


def retrieval_intervals(queries: Queries, *, level: float = 0.95, ks: Sequence[int] = KS) -> MetricIntervals:
    """Intervals of every metric of ``retrieval_scores``, for other queries in the same galleries.

    Args:
        queries: Q queries of one or both directions.
        level: Confidence level in (0, 1).
        ks: The K of R@K.

    Raises:
        ConfigError: ``level`` is not between 0 and 1.
    """
    check_level(level)
    outcomes = RankOutcomes.of(queries, ks=ks)
    if not len(queries):
        names = weighted_retrieval_scores(outcomes, np.ones((1, 0))).overall
        return _arranged({(name, None): undefined(float("nan"), level, "no queries") for name in names}, 0)
    estimates = Estimates.of_queries(queries, outcomes, level)
    found = {}
    for key, support in estimates.supports.items():
        name = key[0]
        if name.endswith("_median_rank"):
            own = outcomes.sides == list(SHORT.values()).index(name[:3])
            found[key] = estimates.median(key, outcomes.ranks[own], queries.groups[own])
        elif name == "rsum":
            found[key] = estimates.combined(key, estimates.parts(key), 100.0)
        else:
            found[key] = estimates.single(key)
        if 0 < support.groups < FEW_GROUPS:
            found[key] = with_note(found[key], f"only {groups_text(support.groups)}")
        elif name.endswith("mean_rank") and estimates.influence.effective_number(key) < FEW_INFLUENTIAL:
            found[key] = with_note(found[key], "a few groups with high ranks decide it; the interval is too narrow")
    return _arranged(found, queries.num_image_groups or queries.num_groups)


@dataclass(frozen=True)
class Doubts:
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
    def of(cls, cases: Cases, is_wrong: np.ndarray) -> Doubts:
        """``is_wrong``: ``[N]`` bool, of one run, or of either of two."""
        class_groups = tuple(Support.of(cases.groups[cases.labels == c]).groups for c in range(len(cases.classes)))
        return cls(cases.classes, class_groups, cases.num_groups, Support.of(cases.groups[is_wrong]).groups)

    def about(self, key: Key, value: float) -> str:
        """The first reason that applies to a metric of this value, or an empty string."""
        name, c = key
        if c is not None or name in MACRO:
            reason = self._about_classes(range(len(self.classes)) if c is None else [c])
        else:
            reason = f"only {groups_text(self.num_groups)}" if self.num_groups < FEW_GROUPS else ""
        if reason:
            return reason
        if name == "auroc":
            return "close to 1, where the interval is too narrow" if value > NEAR_ONE else ""
        return f"only {groups_text(self.wrong_groups)} with a wrong prediction" if c is None and self.wrong_groups < FEW_WRONG else ""

    def _about_classes(self, own: Sequence[int]) -> str:
        """Whether one of these classes is absent or rare."""
        rarest = min(own, key=lambda k: self.class_groups[k])
        number = self.class_groups[rarest]
        if not number:
            return f"class {self.classes[rarest]!r} has no cases" + (" and is left out" if len(own) > 1 else "")
        return f"class {self.classes[rarest]!r} has only {groups_text(number)}" if number < FEW_GROUPS else ""


def with_note(interval: Interval, note: str) -> Interval:
    """Add a note, unless there is one."""
    if not note or interval.note:
        return interval
    return Interval(interval.value, interval.low, interval.high, interval.level, interval.method, note)


def _arranged(found: dict[Key, Interval], num_groups: int) -> MetricIntervals:
    per_class: dict[str, tuple[Interval, ...]] = {}
    for (name, c), interval in found.items():
        if c is not None:
            per_class[name] = (*per_class.get(name, ()), interval)
    return MetricIntervals({name: interval for (name, c), interval in found.items() if c is None}, per_class, num_groups)


def check_level(level: float) -> None:
    """Refuse what is not a confidence level."""
    if not 0 < level < 1:
        raise ConfigError(f"level: {level} is not a confidence level. It must be between 0 and 1, such as 0.95")
