"""A splitter that follows the parts assigned by the data's own files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.config.arguments import Share, Whole
from clipzoo.datasets.splitters.base import MIN_VAL_PER_CLASS, Splitter, carve_val, random_state, without_defaults
from clipzoo.datasets.splitters.notes import notes_on
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import ConfigError, DataError, LeakError, shortened
from clipzoo.records.folds import PARTS, Case, Folds, Split
from clipzoo.registries import SPLITTERS


@SPLITTERS.register_module()
@dataclass(frozen=True)
class AsGiven(Splitter):
    """A single fold with the parts assigned by the data's own files, such as ``val_path`` of ``PairsDataset``
    or ``val_root`` of ``ImageFolderDataset``.

    With train, val and test parts, all are used as given. With train and test, nothing chooses the epoch (the last is scored) unless
    ``val_fraction`` takes a val part from the train part. With train and val, the val part is *tested*, since every split needs a part
    that is scored once, after training. Choosing the epoch on it as well is ``select_on_test``, and optimistic.

    Args:
        seed: Seed for drawing the val part.
        val_fraction: Share of the given train part that becomes the val part, in whole groups, stratified by class; 0 for none. No
            effect if the data have val and test parts.
        min_val_per_class: Number of val cases that every class gets, even beyond ``val_fraction``, if as many stay in training; 0 for none.
        select_on_test: Whether the epoch is chosen on the test part (optimistic, and labelled so); no val part is then taken.
    """

    seed: Whole = 42
    val_fraction: Share = 0.0
    min_val_per_class: Whole = MIN_VAL_PER_CLASS

    @property
    def spec(self) -> dict:
        """See ``Splitter.spec``; without newer arguments at their defaults, as in the folds of earlier versions."""
        return without_defaults(super().spec)

    def split(self, cases: Sequence[Case], classes: Sequence[str]) -> Folds:
        """The given parts, verified.

        Raises:
            ConfigError: ``select_on_test`` is set although the data have a val part and a test part.
            DataError: Cases have no part, or there is no train part, or only a train part.
            LeakError: A group is in two parts.
        """
        table = CaseTable(cases, classes)
        _check_parts(table.cases)
        _check_groups(table.cases)
        members = {part: np.zeros(len(table.groups), dtype=bool) for part in PARTS}
        for case, group in zip(table.cases, table.group_of_case, strict=True):
            members[case.part][group] = True
        train_G, val_G, test_G = (members[part] for part in PARTS)
        complete = val_G.any() and test_G.any()
        if complete and self.select_on_test:
            raise ConfigError("splits.select_on_test: the data have a val part, which chooses the epoch. Remove this option")
        notes: tuple[str, ...] = ()
        if not test_G.any():
            val_G, test_G = test_G, val_G
            notes = (f"The data give no test part; their val part is tested instead{self._consequence()}.",)
        wants_val = bool(self.val_fraction) and not self.select_on_test and not complete
        if wants_val:
            val_G = np.zeros_like(train_G)
            options = {"num_classes": len(table.classes), "at_least": self.min_val_per_class}
            val_G[train_G] = carve_val(table.counts_GC[train_G], self.val_fraction, random_state(self.seed, 1), **options)
            train_G = train_G & ~val_G
        split = Split("fold_1", *(table.ids_of(groups_G) for groups_G in (train_G, val_G, test_G)))
        notes += notes_on(table, [split], wants_val, self.min_val_per_class)
        folds = Folds(table.cases, table.classes, (split,), self.spec, exhaustive=False, notes=notes)
        folds.verify()
        return folds

    def _consequence(self) -> str:
        if self.select_on_test:
            return ", and chooses the epoch, which is optimistic"
        return ", once, after training" + ("" if self.val_fraction else "; the last epoch is scored")


def _check_parts(cases: Sequence[Case]) -> None:
    unknown = [case for case in cases if case.part is not None and case.part not in PARTS]
    if unknown:
        raise DataError(f"splits.type: case '{unknown[0].id}' is of part {unknown[0].part!r}. Parts are {', '.join(PARTS)}")
    found = Counter(case.part for case in cases)
    without = [f"'{case.id}'" for case in cases if case.part is None]
    if len(without) == len(cases):
        raise DataError(
            "splits.type: AsGiven follows the parts that the data's files assign, but these data assign none. Give their files, such as "
            "data.dataset.val_path of PairsDataset or val_root of ImageFolderDataset, or use splits.type='Holdout', which draws a test part"
        )
    if without:
        raise DataError(f"splits.type: AsGiven requires a part for every case, but {len(without)} have none: {shortened(without, 3)}")
    if not found["train"] or len(found) == 1:
        there = ", ".join(f"{part} {found[part]}" for part in PARTS if found[part])
        raise DataError(f"splits.type: AsGiven requires a train part, and a val or a test part. The data have: {there}")


def _check_groups(cases: Sequence[Case]) -> None:
    first: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        first[case.group].setdefault(case.part, case.id)
    torn = {group: ids for group, ids in first.items() if len(ids) > 1}
    if not torn:
        return
    group, ids = next(iter(torn.items()))
    sides = " and ".join(f"in {part} ('{ids[part]}')" for part in PARTS if part in ids)
    more = f" ({len(torn) - 1} more groups are too)" if len(torn) > 1 else ""
    raise LeakError(
        f"splits.type: group '{group}' is {sides}{more}. A group is one patient, or byte-identical images: move all of it to one of the "
        "data's files, or use splits.type='Holdout' or 'StratifiedGroupKFold', which keep groups together"
    )
