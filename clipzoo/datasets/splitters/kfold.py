"""Cross-validation: every case is tested exactly once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from clipzoo.config.arguments import Count
from clipzoo.datasets.splitters.assign import assign
from clipzoo.datasets.splitters.base import GroupSplitter
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import DataError, LeakError
from clipzoo.registries import SPLITTERS


@SPLITTERS.register_module()
@dataclass(frozen=True)
class StratifiedGroupKFold(GroupSplitter):
    """K folds with whole groups (patients, identical images) and every class spread as evenly as its groups allow; see ``assign``.

    The right choice for almost every dataset; without groups it is equivalent to ``StratifiedKFold``. With several labels per case, every
    finding and the number of cases are spread: the aim of iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the
    stratification of multi-label data"), with groups as the unit, by the search of ``assign`` instead of a single greedy pass.

    Args:
        num_folds: Number of folds, K; at least 2.
        num_repeats: Number of repeats of the cross-validation; each after the first divides anew and trains with another seed, in the
            folder ``repeat_2``, ``repeat_3`` … of the work dir.
        seed: Seed of all random draws.
        val_fraction: Share of a fold's training cases that become its val part, in whole groups, stratified by class; 0 for none.
        min_val_per_class: Number of val cases that every class gets, even beyond ``val_fraction``, if as many stay in training; 0 for none.
        select_on_test: Whether the epoch is chosen on the test part (optimistic, and labelled so); no val part then.
        min_groups_per_class: Minimum number of groups per class.
        inner_folds: Number of inner folds that choose the epoch in place of a val part, at least 2; 0 for none.
    """

    num_folds: Annotated[int, Ge(2)] = 5
    num_repeats: Count = 1

    @property
    def spec(self) -> dict:
        """Without ``num_repeats``, as the folds do not depend on it."""
        return {name: value for name, value in super().spec.items() if name != "num_repeats"}

    def check(self, table: CaseTable) -> None:
        """Refuse more folds than groups."""
        if self.num_folds > len(table.groups):
            found = f"{len(table.groups)} {table.unit(len(table.groups))}"
            raise DataError(f"splits.num_folds: {self.num_folds} folds need at least as many {table.unit(2)}, but there are only {found}")

    def test_parts(self, table: CaseTable) -> list[np.ndarray]:
        """For each fold, ``[G]`` bool: the groups it tests."""
        folds_G = self.even_parts(table, self.num_folds, self.rng(0))
        return [folds_G == k for k in range(self.num_folds)]


@SPLITTERS.register_module()
@dataclass(frozen=True)
class StratifiedKFold(StratifiedGroupKFold):
    """K folds with every class spread evenly: class counts of any two folds differ by at most one case. For cases without groups.

    Args:
        num_folds: Number of folds, K; at least 2.
        num_repeats: Number of repeats of the cross-validation; each after the first divides anew and trains with another seed, in the
            folder ``repeat_2``, ``repeat_3`` … of the work dir.
        seed: Seed of all random draws.
        val_fraction: Share of a fold's training cases that become its val part, stratified by class; 0 for none.
        min_val_per_class: Number of val cases that every class gets, even beyond ``val_fraction``, if as many stay in training; 0 for none.
        select_on_test: Whether the epoch is chosen on the test part (optimistic, and labelled so); no val part then.
        min_groups_per_class: Minimum number of cases per class.
        inner_folds: Number of inner folds that choose the epoch in place of a val part, at least 2; 0 for none.
    """

    def check(self, table: CaseTable) -> None:
        """Refuse groups, then more folds than cases."""
        refuse_groups(table, type(self).__name__)
        super().check(table)


@SPLITTERS.register_module()
@dataclass(frozen=True)
class KFold(StratifiedKFold):
    """K folds of equal size, drawn regardless of class (the val part is stratified). For cases without groups.

    Args:
        num_folds: Number of folds, K; at least 2.
        num_repeats: Number of repeats of the cross-validation; each after the first divides anew and trains with another seed, in the
            folder ``repeat_2``, ``repeat_3`` … of the work dir.
        seed: Seed of all random draws.
        val_fraction: Share of a fold's training cases that become its val part, stratified by class; 0 for none.
        min_val_per_class: Number of val cases that every class gets, even beyond ``val_fraction``, if as many stay in training; 0 for none.
        select_on_test: Whether the epoch is chosen on the test part (optimistic, and labelled so); no val part then.
        min_groups_per_class: Minimum number of cases per class.
        inner_folds: Number of inner folds that choose the epoch in place of a val part, at least 2; 0 for none.
    """

    def even_parts(self, table: CaseTable, number: int, rng: np.random.RandomState) -> np.ndarray:
        """``[G]`` int64 part of each group, regardless of class."""
        return assign(np.ones((len(table.groups), 1)), [1 / number] * number, rng)


def refuse_groups(table: CaseTable, name: str) -> None:
    """Refuse groups of several cases, for a splitter that would divide them.

    Raises:
        LeakError: A group has several cases.
    """
    if not table.grouped:
        return
    members = defaultdict(list)
    for case in table.cases:
        members[case.group].append(case.id)
    several = {group: ids for group, ids in members.items() if len(ids) > 1}
    group, ids = next(iter(several.items()))
    raise LeakError(
        f"splits.type: {name} would split groups: {len(several)} groups have several cases, such as '{group}' with "
        f"'{ids[0]}' and '{ids[1]}' (one patient, or identical images). Use splits.type='StratifiedGroupKFold', which keeps groups together"
    )
