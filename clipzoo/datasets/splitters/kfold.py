"""Cross-validation: every case is tested exactly once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from clipzoo.datasets.splitters.assign import assign
from clipzoo.datasets.splitters.base import GroupSplitter
from clipzoo.datasets.splitters.learnable import spread_every_class
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import DataError, LeakError
from clipzoo.registries import SPLITTERS


@SPLITTERS.register_module()
@dataclass(frozen=True)
class StratifiedGroupKFold(GroupSplitter):
    """K folds with whole groups (patients, identical images) and every class as evenly spread as its groups allow; see ``assign``.

    The right choice for almost every data set; without groups it is the same as ``StratifiedKFold``.

    Args:
        num_folds: K, at least 2.
        seed: Of every draw.
        val_fraction: Share of the training cases of a fold that become its val part, whole groups, classes in proportion; 0 for none.
        select_on_test: The epoch is chosen on the test part (optimistic, labelled so); no val part then.
        min_groups_per_class: A class with fewer groups is refused.
    """

    num_folds: Annotated[int, Ge(2)] = 5

    def check(self, table: CaseTable) -> None:
        """Refuse more folds than groups."""
        if self.num_folds > len(table.groups):
            found = f"{len(table.groups)} {table.unit(len(table.groups))}"
            raise DataError(f"splits.num_folds: {self.num_folds} folds need at least as many {table.unit(2)}, but there are only {found}")

    def test_parts(self, table: CaseTable) -> list[np.ndarray]:
        """For each fold, ``[G]`` bool: which groups it tests."""
        folds_G = assign(table.counts_GC, [1 / self.num_folds] * self.num_folds, self.rng(0))
        folds_G = spread_every_class(table.counts_GC, folds_G, self.num_folds)
        return [folds_G == k for k in range(self.num_folds)]


@SPLITTERS.register_module()
@dataclass(frozen=True)
class StratifiedKFold(StratifiedGroupKFold):
    """K folds with every class evenly spread: of any two folds, one has at most one case of a class more. For cases without groups.

    Args:
        num_folds: K, at least 2.
        seed: Of every draw.
        val_fraction: Share of the training cases of a fold that become its val part, classes in proportion; 0 for none.
        select_on_test: The epoch is chosen on the test part (optimistic, labelled so); no val part then.
        min_groups_per_class: A class with fewer cases is refused.
    """

    def check(self, table: CaseTable) -> None:
        """Refuse groups, then more folds than cases."""
        refuse_groups(table, type(self).__name__)
        super().check(table)


@SPLITTERS.register_module()
@dataclass(frozen=True)
class KFold(StratifiedKFold):
    """K folds of equal size, drawn without regard to classes (the val part does regard them). For cases without groups.

    Args:
        num_folds: K, at least 2.
        seed: Of every draw.
        val_fraction: Share of the training cases of a fold that become its val part, classes in proportion; 0 for none.
        select_on_test: The epoch is chosen on the test part (optimistic, labelled so); no val part then.
        min_groups_per_class: A class with fewer cases is refused.
    """

    def test_parts(self, table: CaseTable) -> list[np.ndarray]:
        """For each fold, ``[G]`` bool: which groups it tests."""
        folds_G = assign(np.ones((len(table.groups), 1)), [1 / self.num_folds] * self.num_folds, self.rng(0))
        return [folds_G == k for k in range(self.num_folds)]


def refuse_groups(table: CaseTable, name: str) -> None:
    """Refuse cases that belong together, for a splitter that would tear them apart.

    Raises:
        LeakError: Some group has several cases.
    """
    if not table.grouped:
        return
    members = defaultdict(list)
    for case in table.cases:
        members[case.group].append(case.id)
    several = {group: ids for group, ids in members.items() if len(ids) > 1}
    group, ids = next(iter(several.items()))
    raise LeakError(
        f"splits.type: {name} would tear groups apart: {len(several)} groups have several cases, such as '{group}' with "
        f"'{ids[0]}' and '{ids[1]}' (one patient, or identical images). Use splits.type='StratifiedGroupKFold', which keeps groups together"
    )
