"""Base classes of the splitters: common arguments, checks before a split, the val part, and notes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clipzoo.config.arguments import Count, Share, Whole
from clipzoo.datasets.splitters.assign import assign
from clipzoo.datasets.splitters.learnable import alone_in_a_class, leave_every_class
from clipzoo.datasets.splitters.notes import notes_on, notes_on_given_parts
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import DataError, shortened
from clipzoo.records.folds import Case, Folds, Split


@dataclass(frozen=True, kw_only=True)
class Splitter:
    """Creates ``Folds``. Every constructor argument is an attribute of the same name, from which ``spec`` is derived.

    Args:
        select_on_test: Whether the epoch is chosen on the test part. Optimistic, and labelled so; no val part is then taken, as it
            would be unused.
    """

    select_on_test: bool = False

    @property
    def spec(self) -> dict:
        """Type and arguments, from which an equal splitter can be built."""
        return {"type": type(self).__name__, **{name: getattr(self, name) for name in inspect.signature(type(self)).parameters}}

    def split(self, cases: Sequence[Case], classes: Sequence[str]) -> Folds:
        """Create verified folds from ``cases``, whose order does not matter.

        Raises:
            DataError: The cases cannot be split in this way.
            LeakError: The split would divide a group.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GroupSplitter(Splitter):
    """A splitter that assigns whole groups; subclasses choose the groups tested by each fold.

    Args:
        seed: Seed of all random draws.
        val_fraction: Share of a fold's training cases that become its val part, in whole groups, stratified by class; 0 for none.
        min_groups_per_class: Minimum number of groups per class. A class with a single group can be tested or learned, never both.
    """

    seed: Whole = 42
    val_fraction: Share = 0.1
    min_groups_per_class: Count = 2

    exhaustive: ClassVar[bool] = True

    def test_parts(self, table: CaseTable) -> list[np.ndarray]:
        """For each fold, ``[G]`` bool: the groups it tests."""
        raise NotImplementedError

    def check(self, table: CaseTable) -> None:
        """Refuse cases that cannot be split in this way, before splitting."""

    def split(self, cases: Sequence[Case], classes: Sequence[str]) -> Folds:
        """See ``Splitter.split``."""
        table = CaseTable(cases, classes)
        self.check(table)
        self._check_classes(table)
        splits = []
        for number, test_G in enumerate(self.test_parts(table), start=1):
            val_G = np.zeros(len(test_G), dtype=bool)
            if self.val_fraction and not self.select_on_test:
                val_G[~test_G] = carve(table.counts_GC[~test_G], self.val_fraction, self.rng(number))
            parts = (table.ids_of(groups_G) for groups_G in (~test_G & ~val_G, val_G, test_G))
            splits.append(Split(f"fold_{number}", *parts))
        wants_val = bool(self.val_fraction) and not self.select_on_test
        notes = (*notes_on(table, splits, wants_val), *notes_on_given_parts(table))
        folds = Folds(table.cases, table.classes, tuple(splits), self.spec, self.exhaustive, notes)
        folds.verify()
        return folds

    def rng(self, stream: int) -> np.random.RandomState:
        """Independent random states per purpose: 0 for the test parts, the fold number for its val part."""
        return random_state(self.seed, stream)

    def _check_classes(self, table: CaseTable) -> None:
        groups_C = table.groups_per_class()
        few = [f"'{name}' has {n}" for name, n in zip(table.classes, groups_C, strict=True) if n < self.min_groups_per_class]
        if few:
            what = "finding from the dataset" if table.multi_label else "class folder"
            raise DataError(
                f"splits.min_groups_per_class: every class must have at least {self.min_groups_per_class} {table.unit(2)}, "
                f"but {shortened(few, 5)}. With one, a class can be tested but never learned. "
                f"Add images, remove the {what}, or set splits.min_groups_per_class=1"
            )


def carve(counts: np.ndarray, fraction: float, rng: np.random.RandomState) -> np.ndarray:
    """Groups to take out such that they contain ``fraction`` of the cases, stratified by class, and every class keeps a group.

    The size counts as much as all classes together. Otherwise a class of four cases, a tenth of which rounds to zero, would never be taken,
    and with a hundred such classes, nothing would be.

    Args:
        counts: ``[G, C]`` cases of each class in each group.
        fraction: Share of the cases, between 0 and 1.
        rng: See ``assign``.

    Returns:
        ``[G]`` bool. All false if every group is the only one of some class.
    """
    pinned = np.where(alone_in_a_class(counts), 1, -1)
    shares = [fraction, 1 - fraction]
    parts = assign(counts, shares, rng, size_weight=counts.shape[1], pinned=pinned)
    return leave_every_class(counts, parts == 0)


def random_state(seed: int, stream: int) -> np.random.RandomState:
    """Independent random states for different purposes of one seed."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, stream])))
