"""Cases by the value of an attribute (sex, scanner, view), and which values can be compared.

Shapes: N cases · G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from clipzoo.errors import DataError


@dataclass(frozen=True, eq=False)
class Subgroup:
    """The cases with one value of an attribute.

    Attributes:
        value: Value; empty for the cases without one.
        rows: Int64 rows of the cases, ascending.
        num_groups: Their groups.
        too_few: Fewer groups than the minimum, or no value: shown with its counts, but without metrics and comparisons.
    """

    value: str
    rows: np.ndarray
    num_groups: int
    too_few: bool

    @property
    def num_cases(self) -> int:
        """Number of cases."""
        return len(self.rows)


@dataclass(frozen=True)
class Pair:
    """Two subgroups to compare.

    Attributes:
        first: Value of the larger one.
        second: Value of the other.
        shared_groups: Groups with cases in both; the difference must then be resampled over groups together.
    """

    first: str
    second: str
    shared_groups: int


def split_by_attribute(values: Sequence[str], groups: np.ndarray, *, min_groups: int = 10) -> tuple[Subgroup, ...]:
    """Subgroups by value, the one with the most groups first; cases without a value come last.

    Args:
        values: N values of one attribute; empty where unknown.
        groups: ``[N]`` int codes. A group may have several values, such as views.
        min_groups: Groups below which a subgroup has too few, 1 or more.

    Raises:
        DataError: The arguments differ in length.
    """
    if len(values) != len(groups):
        raise DataError(f"subgroups: {len(values)} values of the attribute for {len(groups)} cases. Every case needs one, or an empty one")
    values_N, groups_N = np.asarray(values, dtype=object), np.asarray(groups)
    found = []
    for value in sorted(set(values)):
        rows = np.flatnonzero(values_N == value)
        num_groups = len(np.unique(groups_N[rows]))
        found.append(Subgroup(value, rows, num_groups, too_few=value == "" or num_groups < min_groups))
    return tuple(sorted(found, key=lambda s: (s.value == "", -s.num_groups, s.value)))


def pairs_to_compare(subgroups: Sequence[Subgroup], groups: np.ndarray) -> tuple[Pair, ...]:
    """All pairs of subgroups that have enough groups; adjust their p-values together with ``multiplicity.holm``.

    Args:
        subgroups: Of one attribute.
        groups: ``[N]`` int codes that they were split with.
    """
    enough = [subgroup for subgroup in subgroups if not subgroup.too_few]
    shared = {(a.value, b.value): len(np.intersect1d(groups[a.rows], groups[b.rows])) for a, b in combinations(enough, 2)}
    return tuple(Pair(first, second, count) for (first, second), count in shared.items())
