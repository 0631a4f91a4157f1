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
        counts_GC: ``[G, C]`` int64 cases of each class in each group; with an additional column if some cases have no class.

    Raises:
        DataError: There are no cases, or a label is not a class index.
    """

    def __init__(self, cases: Sequence[Case], classes: Sequence[str]):
        if not cases:
            raise DataError("splits: there are no cases to split")
        self.cases = tuple(sorted(cases, key=lambda case: case.id))
        self.classes = tuple(classes)
        for case in self.cases:
            if case.label is not None and not 0 <= case.label < len(self.classes):
                raise DataError(f"splits: case '{case.id}' has label {case.label}, but there are {len(self.classes)} classes")
        numbers: dict[str, int] = {}
        self.group_of_case = np.array([numbers.setdefault(case.group, len(numbers)) for case in self.cases])
        self.groups = tuple(numbers)
        labels = np.array([len(self.classes) if case.label is None else case.label for case in self.cases])
        self.counts_GC = np.zeros((len(self.groups), len(self.classes) + int((labels == len(self.classes)).any())), dtype=np.int64)
        np.add.at(self.counts_GC, (self.group_of_case, labels), 1)
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
