"""A single split: one part of the cases is tested, the rest is used for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from clipzoo.datasets.splitters.base import GroupSplitter, carve
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import DataError
from clipzoo.registries import SPLITTERS


@SPLITTERS.register_module()
@dataclass(frozen=True)
class Holdout(GroupSplitter):
    """A single fold, stratified and grouped: its test part contains a share of the cases, in whole groups, stratified by class.

    Every class keeps at least one group for training; a class with a single group is not tested.

    Args:
        test_fraction: Share of the cases that are tested, between 0 and 1.
        seed: Seed of all random draws.
        val_fraction: Share of the *remaining* cases that become the val part; 0 for none.
        min_val_per_class: Number of val cases that every class gets, even beyond ``val_fraction``, if as many stay in training; 0 for none.
        select_on_test: Whether the epoch is chosen on the test part (optimistic, and labelled so); no val part then.
        min_groups_per_class: Minimum number of groups per class.
        inner_folds: Number of inner folds that choose the epoch in place of a val part, at least 2; 0 for none.
    """

    test_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.2

    exhaustive: ClassVar[bool] = False

    def check(self, table: CaseTable) -> None:
        """Refuse a single group."""
        if len(table.groups) < 2:
            raise DataError(f"splits.type: Holdout requires at least 2 groups of cases, but there is only '{table.groups[0]}'")

    def test_parts(self, table: CaseTable) -> list[np.ndarray]:
        """``[G]`` bool: the groups tested by the only fold."""
        test_G = carve(table.counts_GC, self.test_fraction, self.rng(0))
        if not test_G.any():
            raise DataError("splits.type: Holdout cannot form a test part, because every group is the only one of some class. Add images")
        return [test_G]
