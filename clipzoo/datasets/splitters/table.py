"""The splitters' view of the cases: sorted, grouped, and counted by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipzoo.errors import DataError
from clipzoo.records.folds import Case


class CaseTable:
    """Sorted cases and their groups. Legend: N cases · G groups, in the order of their first case · C classes.

    Attributes:
        cases: Sorted by id.
        classes: Class names.
        groups: Names of the G groups.
        group_of_case: ``[N]`` int64 group of each case.
        counts_GC: ``[G, C]`` int64 cases of each class in each group; with an additional column if some cases have no class. Of cases with
            findings, ``[G, C + 1]``: those with each finding, and all of them, as folds shall be even in both.
        multi_label: Whether the cases have findings.

    Raises:
        DataError: There are no cases, or a label or the findings do not fit the classes.
    """

    def __init__(self, cases: Sequence[Case], classes: Sequence[str]):
        if not cases:
            raise DataError("splits: there are no cases to split")
        self.cases = tuple(sorted(cases, key=lambda case: case.id))
        self.classes = tuple(classes)
        for case in self.cases:
            if case.label is not None and not 0 <= case.label < len(self.classes):
                raise DataError(f"splits: case '{case.id}' has label {case.label}, but there are {len(self.classes)} classes")
            if case.findings is not None and (len(case.findings) != len(self.classes) or not set(case.findings) <= {-1, 0, 1}):
                raise DataError(f"splits: case '{case.id}' must have 1, 0 or -1 (unknown) for each of {len(self.classes)} findings")
        self.multi_label = any(case.findings is not None for case in self.cases)
        numbers: dict[str, int] = {}
        self.group_of_case = np.array([numbers.setdefault(case.group, len(numbers)) for case in self.cases])
        self.groups = tuple(numbers)
        of_case = [case.classes or (len(self.classes),) for case in self.cases]
        if self.multi_label:
            of_case = [(*case.classes, len(self.classes)) for case in self.cases]
        self.counts_GC = np.zeros((len(self.groups), max(len(self.classes), 1 + max(map(max, of_case)))), dtype=np.int64)
        for group, found in zip(self.group_of_case, of_case, strict=True):
            self.counts_GC[group, list(found)] += 1
        self._ids = np.array([case.id for case in self.cases], dtype=object)

    @property
    def grouped(self) -> bool:
        """Whether any group has more than one case."""
        return len(self.groups) < len(self.cases)

    def groups_per_class(self) -> list[int]:
        """Number of groups per class that have a case of it."""
        return (self.counts_GC[:, : len(self.classes)] > 0).sum(axis=0).tolist()

    def ids_of(self, groups_G: np.ndarray) -> tuple[str, ...]:
        """Sorted ids of the cases of the groups where ``groups_G [G]`` bool is true."""
        return tuple(self._ids[groups_G[self.group_of_case]])

    def unit(self, number: int) -> str:
        """Noun for the unit of the split, ``'group'`` or ``'case'``, in the plural unless ``number`` is 1."""
        return ("group" if self.grouped else "case") + ("" if number == 1 else "s")
