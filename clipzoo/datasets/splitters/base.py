"""Base classes of the splitters: common arguments, checks before a split, the val part, and notes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from clipzoo.config.arguments import Count, Share, Whole
from clipzoo.datasets.splitters.assign import assign
from clipzoo.datasets.splitters.learnable import alone_in_a_class, leave_every_class, spread_every_class, top_up
from clipzoo.datasets.splitters.notes import notes_on, notes_on_given_parts
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import DataError, shortened
from clipzoo.records.folds import Case, Folds, Split

InnerFolds = Literal[0] | Annotated[int, Ge(2)]
WITHOUT_VAL = "splits.val_fraction=0 (the last epoch) or splits.inner_folds"
MIN_VAL_PER_CLASS = 0  # benchmarks/few_val_cases.py: two of each cost more training cases than the better choice of the epoch returns


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

    def inner_splits(self, folds: Folds) -> dict[str, tuple[Split, ...]]:
        """For every fold of ``folds``, by name, the inner splits of its training part; empty for a splitter without inner folds."""
        return {}


@dataclass(frozen=True, kw_only=True)
class GroupSplitter(Splitter):
    """A splitter that assigns whole groups; subclasses choose the groups tested by each fold.

    Args:
        seed: Seed of all random draws.
        val_fraction: Share of a fold's training cases that become its val part, in whole groups, stratified by class; 0 for none.
        min_val_per_class: Number of val cases that every class gets, even beyond ``val_fraction``, if as many stay in training; 0 for none.
        min_groups_per_class: Minimum number of groups per class. A class with a single group can be tested or learned, never both.
        inner_folds: Number of inner folds that choose the epoch in place of a val part, at least 2; 0 for none. See
            ``clipzoo.engine.epochs.inner``.
    """

    seed: Whole = 42
    val_fraction: Share = 0.1
    min_val_per_class: Whole = MIN_VAL_PER_CLASS
    min_groups_per_class: Count = 2
    inner_folds: InnerFolds = 0

    exhaustive: ClassVar[bool] = True

    @property
    def spec(self) -> dict:
        """See ``Splitter.spec``; without newer arguments at their defaults, as in the folds of earlier versions."""
        return without_defaults(super().spec)

    @property
    def takes_val(self) -> bool:
        """Whether a part of the training cases chooses the epoch."""
        return bool(self.val_fraction) and not self.select_on_test and not self.inner_folds

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
            if self.takes_val:
                options = {"num_classes": len(table.classes), "at_least": self.min_val_per_class}
                val_G[~test_G] = carve_val(table.counts_GC[~test_G], self.val_fraction, self.rng(number), **options)
            parts = (table.ids_of(groups_G) for groups_G in (~test_G & ~val_G, val_G, test_G))
            splits.append(Split(f"fold_{number}", *parts))
        notes = (*notes_on(table, splits, self.takes_val, self.min_val_per_class, without_val=WITHOUT_VAL), *notes_on_given_parts(table))
        folds = Folds(table.cases, table.classes, tuple(splits), self.spec, self.exhaustive, notes)
        folds.verify()
        return folds

    def even_parts(self, table: CaseTable, number: int, rng: np.random.RandomState) -> np.ndarray:
        """``[G]`` int64 part of each group: ``number`` parts of equal size, each class spread as evenly as its groups allow."""
        parts_G = assign(table.counts_GC, [1 / number] * number, rng)
        return spread_every_class(table.counts_GC, parts_G, number)

    def inner_splits(self, folds: Folds) -> dict[str, tuple[Split, ...]]:
        """For every fold, ``inner_folds`` splits named ``fold_1-inner_1`` …: a val part, the other training cases, and no test part.

        Raises:
            DataError: A training part has fewer groups than there are inner folds.
        """
        if not self.inner_folds:
            return {}
        cases = {case.id: case for case in folds.cases}
        return {split.name: self._inner(folds, split, [cases[i] for i in split.train], k) for k, split in enumerate(folds.splits, start=1)}

    def _inner(self, folds: Folds, split: Split, cases: Sequence[Case], number: int) -> tuple[Split, ...]:
        table = CaseTable(cases, folds.classes)
        if self.inner_folds > len(table.groups):
            found = f"{len(table.groups)} {table.unit(len(table.groups))}"
            raise DataError(f"splits.inner_folds: {self.inner_folds} is more than the training part of {split.name} has: {found}")
        parts_G = self.even_parts(table, self.inner_folds, random_state(self.seed, number, 1))
        splits = [
            Split(f"{split.name}-inner_{k + 1}", train=table.ids_of(parts_G != k), val=(), test=table.ids_of(parts_G == k))
            for k in range(self.inner_folds)
        ]
        Folds(table.cases, table.classes, tuple(splits), {}).verify()  # as strictly as the outer folds
        return tuple(replace(inner, val=inner.test, test=()) for inner in splits)

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


def carve_val(counts: np.ndarray, fraction: float, rng: np.random.RandomState, *, num_classes: int, at_least: int) -> np.ndarray:
    """The groups of the val part: those of ``carve``, and further ones until it has ``at_least`` cases of every class.

    Balanced accuracy on one case of a class is 0 or 1, and on few classes it takes so few values that most epochs are tied.

    Args:
        counts: ``[G, C]`` cases of each class in each group; an additional column counts cases without a class.
        fraction: Share of the cases, between 0 and 1.
        rng: See ``assign``.
        num_classes: C, without the additional column.
        at_least: Cases of every class in the val part, if at least as many of it stay.

    Returns:
        ``[G]`` bool. All false if every group is the only one of some class.
    """
    return top_up(counts, carve(counts, fraction, rng), rng, num_classes=num_classes, at_least=at_least)


def without_defaults(spec: dict) -> dict:
    """``spec`` without the arguments that earlier versions did not have, if they are at their defaults."""
    defaults = {"min_val_per_class": MIN_VAL_PER_CLASS, "inner_folds": 0}
    return {name: value for name, value in spec.items() if name not in defaults or value != defaults[name]}


def random_state(seed: int, *streams: int) -> np.random.RandomState:
    """Independent random states for different purposes of one seed."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, *streams])))
