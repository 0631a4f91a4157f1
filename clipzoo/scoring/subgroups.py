"""Metrics for each value of an attribute (sex, scanner, view …), and the differences between values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from clipzoo.records.tables import DIRECTIONS, FindingsTable, RetrievalTable, Table
from clipzoo.scoring.intervals import LEVEL, intervals_of
from clipzoo.statistics.cases import group_codes
from clipzoo.statistics.findings import MEANS
from clipzoo.statistics.multiplicity import holm
from clipzoo.statistics.scores import MACRO
from clipzoo.statistics.subgroups import Subgroup, pairs_to_compare, split_by_attribute
from clipzoo.statistics.uncertainty.estimates import Interval

MIN_GROUPS = 10


def subgroup_rows(table: Table, attributes: Mapping[str, Mapping[str, str]], metrics: Sequence[str]) -> tuple[list[dict], list[dict]]:
    """Metrics by attribute and value, and differences between the values of each attribute.

    Of a retrieval table only image queries count, as a caption has no attributes.

    Args:
        table: The out-of-fold table.
        attributes: Values by attribute name and case id.
        metrics: Names of the metrics to report, of those that have intervals; the first decides the differences.

    Returns:
        Rows with ``attribute``, ``value``, ``cases``, ``groups``, ``too_few`` (fewer than 10 groups, or no value), ``values``
        (``[value, low, high]`` by metric, empty for too few) and ``notes`` (reasons to doubt the intervals). And differences with
        ``attribute``, ``first``, ``second``, ``metric``, ``difference`` (first minus second), ``low``, ``high``, ``p_value``,
        ``adjusted_p_value`` (Holm, within the attribute) and ``shared_groups``.
    """
    rows, differences = [], []
    table, case_ids, groups = _rows_of_images(table)
    codes = group_codes(groups)
    for name, value_of in attributes.items():
        subgroups = split_by_attribute([value_of.get(case_id, "") for case_id in case_ids], codes, min_groups=MIN_GROUPS)
        found = {}
        for subgroup in subgroups:
            if not subgroup.too_few:
                overall = intervals_of(table.take(subgroup.rows)).overall
                found[subgroup.value] = {
                    metric: overall[metric] for metric in metrics if metric in overall and not math.isnan(overall[metric].value)
                }
            rows.append(_row(name, subgroup, found.get(subgroup.value, {})))
        metric = next((metric for metric in metrics if any(metric in values for values in found.values())), None)
        if metric is not None:
            defined = {value: values[metric] for value, values in found.items() if metric in values}
            classes = {s.value: _classes(table, s.rows) for s in subgroups}
            differences += _differences(name, [s for s in subgroups if s.value in defined], codes, defined, metric, classes)
    return rows, differences


def _classes(table: Table, rows: np.ndarray) -> frozenset[int]:
    """The classes of some cases; the findings that are both present and absent among them; none for retrieval."""
    if isinstance(table, FindingsTable):
        both = (table.findings[rows] == 1).any(axis=0) & (table.findings[rows] == 0).any(axis=0)
        return frozenset(np.flatnonzero(both).tolist())
    return frozenset() if isinstance(table, RetrievalTable) else frozenset(table.labels[rows].tolist())


def _rows_of_images(table: Table) -> tuple[Table, Sequence[str], Sequence[str]]:
    """The rows that can have attributes, with their case ids and groups."""
    if isinstance(table, RetrievalTable):
        table = table.take(table.direction == DIRECTIONS[0])
        return table, table.query.tolist(), table.group.tolist()
    labelled = (table.findings >= 0).any(axis=1) if isinstance(table, FindingsTable) else table.labels >= 0
    table = table.take(np.flatnonzero(labelled))
    return table, table.case_ids, table.groups


def _row(attribute: str, subgroup: Subgroup, intervals: Mapping[str, Interval]) -> dict:
    return {
        "attribute": attribute,
        "value": subgroup.value,
        "cases": subgroup.num_cases,
        "groups": subgroup.num_groups,
        "too_few": subgroup.too_few,
        "values": {metric: [float(i.value), float(i.low), float(i.high)] for metric, i in intervals.items()},
        "notes": {metric: i.note for metric, i in intervals.items() if i.note},
    }


def _differences(
    attribute: str,
    subgroups: Sequence[Subgroup],
    codes: np.ndarray,
    intervals: Mapping[str, Interval],
    metric: str,
    classes: Mapping[str, frozenset[int]],
) -> list[dict]:
    """All pairs of values, by MOVER for independent estimates (Zou and Donner 2008): conservative if groups are in both.

    Averages over classes are not compared between values that have different classes.
    """
    found = []
    for pair in pairs_to_compare(subgroups, codes):
        if metric in (*MACRO, *MEANS) and classes[pair.first] != classes[pair.second]:
            continue
        a, b = intervals[pair.first], intervals[pair.second]
        difference = a.value - b.value
        low = difference - math.hypot(a.value - a.low, b.high - b.value)
        high = difference + math.hypot(a.high - a.value, b.value - b.low)
        numbers = {"difference": difference, "low": low, "high": high, "p_value": _p_value(difference, low, high)}
        about = {"attribute": attribute, "first": pair.first, "second": pair.second, "metric": metric}
        found.append({**about, **{key: float(value) for key, value in numbers.items()}, "shared_groups": pair.shared_groups})
    adjusted = holm([pair["p_value"] for pair in found])
    return [{**pair, "adjusted_p_value": float(p_value)} for pair, p_value in zip(found, adjusted, strict=True)]


def _p_value(difference: float, low: float, high: float) -> float:
    """Two-sided, of the normal distribution whose interval at ``LEVEL`` has the limit towards 0."""
    if math.isnan(difference) or math.isnan(low):
        return math.nan
    normal = NormalDist()
    room = difference - low if difference > 0 else high - difference
    if room <= 0:
        return 1.0 if difference == 0 else 0.0
    return 2 * normal.cdf(-abs(difference) / room * normal.inv_cdf(0.5 + LEVEL / 2))
