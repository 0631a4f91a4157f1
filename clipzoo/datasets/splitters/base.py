"""What all splitters share: the common arguments, the checks before a split, the val part, and what the reader should be told."""

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
    """Makes ``Folds``. Every constructor argument is an attribute of the same name, so that ``spec`` can be written down.

    Args:
        select_on_test: The epoch is chosen on the test part. Optimistic, and labelled so; no val part is carved then, because nothing
            would use it.
    """

    select_on_test: bool = False

    @property
    def spec(self) -> dict:
        """Type and arguments; building it again gives an equal splitter."""
        return {"type": type(self).__name__, **{name: getattr(self, name) for name in inspect.signature(type(self)).parameters}}

    def split(self, cases: Sequence[Case], classes: Sequence[str]) -> Folds:
        """Verified folds over ``cases``, whose order does not matter.

        Raises:
            DataError: The cases cannot be split in this way.
            LeakError: The split would put a group on two sides.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GroupSplitter(Splitter):
    """A splitter that decides group by group; subclasses say which groups each fold tests.

    Args:
        seed: Of every draw.
        val_fraction: Share of the training cases of a fold that become its val part, whole groups, classes in proportion; 0 for none.
        min_groups_per_class: A class with fewer groups is refused. With one group, a class can be tested or learned, never both.
    """

    seed: Whole = 42
    val_fraction: Share = 0.1
    min_groups_per_class: Count = 2

    exhaustive: ClassVar[bool] = True

    def test_parts(self, table: CaseTable) -> list[np.ndarray]:
        """For each fold, ``[G]`` bool: which groups it tests."""
        raise NotImplementedError

    def check(self, table: CaseTable) -> None:
        """Refuse cases that cannot be split in this way, before anything is split."""

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
        """Independent draws for each purpose: 0 for the test parts, the fold's number for its val part."""
        return random_state(self.seed, stream)

    def _check_classes(self, table: CaseTable) -> None:
        groups_C = table.groups_per_class()
        few = [f"'{name}' has {n}" for name, n in zip(table.classes, groups_C, strict=True) if n < self.min_groups_per_class]
        if few:
            raise DataError(
                f"splits.min_groups_per_class: every class needs at least {self.min_groups_per_class} {table.unit(2)}, "
                f"but {shortened(few, 5)}. With one, a class can be tested but never learned. "
                "Add images, remove the class folder, or set splits.min_groups_per_class=1"
            )


def carve(counts: np.ndarray, fraction: float, rng: np.random.RandomState) -> np.ndarray:
    """Which groups to take out so that they hold ``fraction`` of the cases, classes in proportion, and every class keeps a group.

    The size counts as much as all classes together. Otherwise a class of four cases, whose tenth rounds to none, would never be taken,
    and of a hundred such classes nothing would be.

    Args:
        counts: ``[G, C]`` cases of each class in each group.
        fraction: Between 0 and 1.
        rng: See ``assign``.

    Returns:
        ``[G]`` bool. All false when every group is the only one of some class.
    """
    pinned = np.where(alone_in_a_class(counts), 1, -1)
    shares = [fraction, 1 - fraction]
    parts = assign(counts, shares, rng, size_weight=counts.shape[1], pinned=pinned)
    return leave_every_class(counts, parts == 0)


def random_state(seed: int, stream: int) -> np.random.RandomState:
    """Independent draws for each purpose of one seed."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, stream])))
