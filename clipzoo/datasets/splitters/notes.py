"""Notes on the folds for the reader of a result: which classes are missing from which parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import shortened
from clipzoo.records.folds import PARTS, Split

FEW_VAL = 2  # val cases of a class below which a note is written
FEW_CASES = 150  # training cases below which the note advises to do without a val part; see benchmarks/few_val_cases.py
CONSEQUENCE = {
    "train": "what is tested of them there was never learned",
    "val": "they have no say in the choice of the epoch there",
    "test": "their metrics there are left out, not zero",
}


def notes_on(table: CaseTable, splits: Sequence[Split], wants_val: bool, min_val: int = 0, *, without_val: str = "") -> tuple[str, ...]:
    """At most five sentences: one for each kind of part with missing classes, one for classes with too few val cases, and one for folds
    without a val part.

    Args:
        table: Table of the cases.
        splits: One per fold.
        wants_val: Whether a val part was requested.
        min_val: Number of val cases that every class should have.
        without_val: What the user can set to do without a val part.
    """
    notes = []
    classes = {case.id: case.classes for case in table.cases}
    groups_C = table.groups_per_class()
    no_val = [split.name for split in splits if not split.val]
    for part in ("train", "val", "test"):
        missing = defaultdict(list)
        for split in splits:
            ids = getattr(split, part)
            present = {label for i in ids for label in classes[i]}
            for label in range(len(table.classes)):
                if ids and label not in present:
                    missing[label].append(split.name)
        if missing:
            each = [
                f"'{table.classes[label]}' ({groups_C[label]} {table.unit(groups_C[label])}) from {_folds(names, len(splits))}"
                for label, names in sorted(missing.items())
            ]
            notes.append(f"Missing from the {part} part: {shortened(each, 6)}; {CONSEQUENCE[part]}.")
    if wants_val:
        small = min(len(split.train) for split in splits) < FEW_CASES
        notes.extend(_few_val_cases(table, splits, max(min_val, FEW_VAL), without_val if small else ""))
    if wants_val and no_val:
        notes.append(f"No val part in {_folds(no_val, len(splits))}: no group could be spared, so the last epoch is scored.")
    return tuple(notes)


def _few_val_cases(table: CaseTable, splits: Sequence[Split], wanted: int, without_val: str) -> Iterator[str]:
    """One sentence on classes that are in the val part, but with fewer than ``wanted`` cases."""
    classes = {case.id: case.classes for case in table.cases}
    few = defaultdict(list)
    for split in splits:
        found = Counter(label for i in split.val for label in classes[i])
        for label in range(len(table.classes)):
            if 0 < found[label] < wanted:
                few[label].append(split.name)
    if few:
        each = [f"'{table.classes[label]}' in {_folds(names, len(splits))}" for label, names in sorted(few.items())]
        advice = f" With so few cases, {without_val} may be better." if without_val else ""
        yield f"Fewer than {wanted} val cases of {shortened(each, 6)}: the choice of the epoch hardly knows them.{advice}"


def notes_on_given_parts(table: CaseTable) -> tuple[str, ...]:
    """One sentence if the data's own files assign parts, for splitters that ignore them."""
    given = Counter(case.part for case in table.cases if case.part is not None)
    if not given:
        return ()
    parts = ", ".join(f"{part} {given[part]}" for part in PARTS if given[part])
    return (f"The parts that the data's own files assign ({parts}) are not used; splits.type='AsGiven' follows them.",)


def _folds(names: Sequence[str], number: int) -> str:
    return "every fold" if len(names) == number > 1 else shortened(names, 5)
