"""Confidence intervals of the metrics of several labels per case.

====================================  ==============================================================================================
sensitivity, specificity, PPV, NPV    Wilson; with several cases per group, on the effective sample size
F1                                    Wilson on the effective sample size
AUROC, average precision              t interval on the logit scale
mean AUROC, mean average precision    MOVER: from the intervals of the findings, with their correlations
log loss                              t interval on the log scale
====================================  ==============================================================================================

As in ``intervals``: standard errors are those of the jackknife over groups, and thresholds are taken as given. The logit scale for the
average precision: Boyd, Eng and Page 2013, "Area under the precision-recall curve: point estimates and confidence intervals".

Shapes: N cases · C findings · G groups · K blocks of groups.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from clipzoo.statistics.findings import MEANS, OVERALL, PER_FINDING, FindingCases, weighted_finding_scores
from clipzoo.statistics.uncertainty.estimates import Estimates, Interval, Support, undefined
from clipzoo.statistics.uncertainty.influence import Influence, Key
from clipzoo.statistics.uncertainty.intervals import FEW_GROUPS, MetricIntervals, check_level, with_note
from clipzoo.statistics.uncertainty.resampling import jackknife_weights
from clipzoo.text_tables import groups_text


def finding_intervals(cases: FindingCases, *, level: float = 0.95) -> MetricIntervals:
    """Intervals of every metric of ``weighted_finding_scores``.

    Args:
        cases: N cases.
        level: Confidence level in (0, 1).

    Returns:
        Metrics that are undefined are NaN, with a note; notes also name findings with fewer than 20 groups in which they are present, or
        absent.

    Raises:
        ConfigError: ``level`` is not between 0 and 1.
    """
    check_level(level)
    names = [(name, None) for name in OVERALL] + [(name, c) for name in PER_FINDING for c in range(len(cases.classes))]
    if not len(cases) or not cases.finite:
        why = "a probability is not finite" if len(cases) else "nothing is known"
        return _arranged({key: undefined(float("nan"), level, why) for key in names}, cases.num_groups)
    influence = Influence.of(partial(weighted_finding_scores, cases), cases.groups)
    freedom = _degrees_of_freedom(cases, influence)
    estimates = Estimates(influence, _supports(cases), level, freedom=freedom)
    found = {}
    for key in names:
        if key[0] in MEANS:
            parts = [part for part in names if part[0] == MEANS[key[0]] and part[1] is not None and not np.isnan(influence.points[part])]
            found[key] = estimates.combined(key, parts, 1 / max(len(parts), 1))
        else:
            found[key] = estimates.single(key)
    return _arranged({key: with_note(interval, _doubt(cases, key)) for key, interval in found.items()}, cases.num_groups)


def _supports(cases: FindingCases) -> dict[Key, Support]:
    """Cases and groups behind each metric: the answer that occurs in fewer groups, for both areas."""
    groups, decided, called = cases.groups, cases.called >= 0, cases.called == 1
    supports: dict[Key, Support] = {(name, None): Support.of(groups) for name in OVERALL}
    for c in range(len(cases.classes)):
        known, present = cases.findings[:, c] >= 0, cases.findings[:, c] == 1
        of_metric = {
            "sensitivity": present & decided[:, c],
            "specificity": known & ~present & decided[:, c],
            "ppv": known & called[:, c],
            "npv": known & decided[:, c] & ~called[:, c],
            "f1": decided[:, c] & (present | (known & called[:, c])),
        }
        supports |= {(name, c): Support.of(groups[rows]) for name, rows in of_metric.items()}
        smaller = min((Support.of(groups[rows]) for rows in (present, known & ~present)), key=lambda support: support.groups)
        supports |= {(name, c): smaller for name in ("auroc", "average_precision")}
    return supports


def _degrees_of_freedom(cases: FindingCases, influence: Influence) -> dict[Key, float]:
    """Of each metric of a finding: few if most of the variance comes from few groups in which it is present. Of a mean, from its parts.

    Source: Satterthwaite 1946, equation 17.
    """
    blocks_G = jackknife_weights(cases.groups).blocks
    found: dict[Key, float] = {}
    for c in range(len(cases.classes)):
        strata_K = np.zeros(int(blocks_G.max()) + 1, dtype=np.int64)
        strata_K[blocks_G[cases.groups[cases.findings[:, c] == 1]]] = 1
        own = replace(influence, strata=strata_K)
        found |= {(name, c): own.degrees_of_freedom(influence.deviations[name, c]) for name in PER_FINDING}
    for mean, part in MEANS.items():
        variances = np.array([np.nan_to_num(influence.variance((part, c))) for c in range(len(cases.classes))])
        own = np.array([found[part, c] for c in range(len(cases.classes))])
        if variances.sum() > 0:
            found[mean, None] = float(max(1 / ((variances / variances.sum()) ** 2 / own).sum(), 1.0))
    return found


def _doubt(cases: FindingCases, key: Key) -> str:
    """The reason why an interval may be too narrow; empty if there is none."""
    name, c = key
    if c is None and name not in MEANS:
        return f"only {groups_text(cases.num_groups)}" if cases.num_groups < FEW_GROUPS else ""
    numbers = {}
    for finding in range(len(cases.classes)) if c is None else [c]:
        for value, word in ((1, "present"), (0, "absent")):
            numbers[finding, word] = Support.of(cases.groups[cases.findings[:, finding] == value]).groups
    (rarest, word), number = min(numbers.items(), key=lambda item: item[1])
    if number == 0:
        return f"{cases.classes[rarest]!r} is {word} in no case" + (" and is left out" if c is None else "")
    return f"{cases.classes[rarest]!r} is {word} in only {groups_text(number)}" if number < FEW_GROUPS else ""


def _arranged(found: dict[Key, Interval], num_groups: int) -> MetricIntervals:
    overall = {name: interval for (name, c), interval in found.items() if c is None}
    per_finding: dict[str, tuple[Interval, ...]] = {}
    for (name, c), interval in found.items():
        if c is not None:
            per_finding[name] = (*per_finding.get(name, ()), interval)
    return MetricIntervals(overall, per_finding, num_groups)
