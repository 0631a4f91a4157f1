"""Cases and their splits: created once, verified, stored in ``folds.json``, and read by everything that follows.

A split holds case ids rather than row numbers, so that the file stays valid when a folder is listed in another order.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from clipzoo.commands import typed
from clipzoo.errors import DataError, LeakError, shortened
from clipzoo.files import finite
from clipzoo.records.json_records import as_record, read_plain, read_record, write_record
from clipzoo.records.provenance import digest_of
from clipzoo.text import clean_name

PARTS = ("train", "val", "test")

_FOLD_NAME = re.compile(r"\w[\w-]{0,63}")


@dataclass(frozen=True)
class Case:
    """One labelled image (or image–text pair).

    Attributes:
        id: Unique, stable id: the path below the dataset root, with ``/`` between folders, NFC-normalised.
        label: Class index; ``None`` if cases have no class.
        group: Group (patient) of the case, which every split keeps together. The case's own id if it stands alone.
        part: ``'train'``, ``'val'`` or ``'test'`` if the data's own files assign one, which the splitter ``AsGiven`` follows.
        findings: For several labels per case, 1 (present), 0 (absent) or -1 (unknown) for each class; ``label`` is then ``None``.
    """

    id: str
    label: int | None
    group: str
    part: str | None = None
    findings: tuple[int, ...] | None = None

    @property
    def classes(self) -> tuple[int, ...]:
        """Indices of all classes that the case is known to have: its label, or its findings."""
        if self.findings is not None:
            return tuple(c for c, value in enumerate(self.findings) if value == 1)
        return () if self.label is None else (self.label,)

    def plain(self) -> dict:
        """The entry in ``folds.json``; ``part`` and ``findings`` are included only if set."""
        return {key: value for key, value in vars(self).items() if key not in ("part", "findings") or value is not None}

    @classmethod
    def from_plain(cls, content: dict, where: object, advice: str) -> Case:
        """The case of an entry in ``folds.json``."""
        case = as_record(cls, content, where, advice, DataError)
        return case if case.findings is None else replace(case, findings=tuple(case.findings))


@dataclass(frozen=True)
class Split:
    """The three parts of one fold, as sorted case ids.

    Attributes:
        name: Name of the fold (``fold_1`` …), and of its folder.
        train: Cases that the weights, and everything else that is fitted, may use.
        val: Cases that choose epoch and threshold; may be empty, in which case the last epoch is scored.
        test: Cases that are scored once, after training.

    Raises:
        DataError: The name is not 1 to 64 letters, digits, ``_`` and ``-`` (not in first position).
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def plain(self) -> dict:
        """The entry in ``folds.json``."""
        return {"name": self.name, **{part: list(getattr(self, part)) for part in PARTS}}

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _FOLD_NAME.fullmatch(self.name):
            raise DataError(
                f"folds: {self.name!r} is not a valid fold name, because it also names a folder. "
                "Use up to 64 letters, digits, _ and -, such as fold_1"
            )


@dataclass(frozen=True)
class Folds:
    """All cases and all splits of one experiment.

    Attributes:
        cases: Sorted by id.
        classes: Class names; ``case.label`` indexes them, ``case.findings`` has a number for each.
        splits: One split per fold.
        spec: How the folds were made: the splitter's type and arguments.
        exhaustive: Whether every case is tested exactly once (cross-validation), rather than at most once (holdout).
        notes: Remarks for the reader of a result, such as a class missing from a part.
    """

    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    spec: dict
    exhaustive: bool = True
    notes: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over cases, groups, labels and parts; equal digests mean equal experiments."""
        content = {
            "cases": [c.plain() for c in self.cases],
            "classes": list(self.classes),
            "splits": [vars(s) for s in self.splits],
        }
        return digest_of(content)

    def verify(self) -> None:
        """Refuse everything that would make a score misleading.

        Raises:
            LeakError: A case is in two parts of a fold, is tested twice or never, or a group is split between parts.
            DataError: A part names a case that does not exist, a train or test part is empty, or two folds would share a folder.
        """
        self._verify_names()
        groups = {c.id: c.group for c in self.cases}
        if len(groups) != len(self.cases):
            twice = [i for i, n in Counter(c.id for c in self.cases).items() if n > 1]
            raise DataError(f"folds: case ids are not unique: {shortened(twice, 3)}")
        tested: Counter[str] = Counter()
        for split in self.splits:
            _verify_split(split, groups)
            tested.update(split.test)
        twice = sorted(i for i, n in tested.items() if n > 1)
        if twice:
            raise LeakError(f"folds: {len(twice)} cases are tested more than once, the first is '{twice[0]}'")
        never = sorted(set(groups) - set(tested))
        if self.exhaustive and never:
            raise LeakError(f"folds: {len(never)} cases are never tested, the first is '{never[0]}'")

    def _verify_names(self) -> None:
        """Refuse names that some file systems treat as equal: those that differ only in case or Unicode normalisation."""
        names: dict[str, str] = {}
        for split in self.splits:
            same = clean_name(split.name).casefold()
            if same in names:
                raise DataError(f"folds: two folds are called {names[same]!r} and {split.name!r}. Give every fold a distinct name")
            names[same] = split.name

    def counts(self, split: Split) -> dict[str, list[int]]:
        """Number of cases per class in each part of ``split``, in the order of ``classes``."""
        classes = {c.id: c.classes for c in self.cases}
        table = {}
        for part in PARTS:
            per_class = Counter(c for i in getattr(split, part) for c in classes[i])
            table[part] = [per_class[label] for label in range(len(self.classes))]
        return table

    def write(self, path: str | Path) -> None:
        """Write ``folds.json`` atomically."""
        write_record(path, self.plain())

    def plain(self) -> dict:
        """The content of ``folds.json``."""
        return {
            "version": 1,
            "digest": self.digest,
            "spec": self.spec,
            "exhaustive": self.exhaustive,
            "notes": list(self.notes),
            "classes": list(self.classes),
            "cases": [c.plain() for c in self.cases],
            "folds": [s.plain() for s in self.splits],
        }

    def equals(self, path: str | Path) -> bool:
        """Whether a sound ``folds.json`` holds exactly these folds, which is found out without building and verifying others.

        Raises:
            DataError: The file is missing or damaged.
        """
        return read_plain(path, _again(), DataError) == finite(self.plain())

    @classmethod
    def read(cls, path: str | Path) -> Folds:
        """Read and verify ``folds.json``.

        Raises:
            DataError: The file has another format, or its digest does not match its content.
            LeakError: See ``verify``.
        """
        again = _again()
        content = read_record(_FoldsFile, path, again, DataError)
        for fold in content.folds:
            if {type(fold.get(part)) for part in PARTS} != {list} or not isinstance(fold.get("name"), str):
                raise DataError(f"{path}: a fold must have a name and the lists {', '.join(PARTS)}. {again}")
        folds = cls(
            cases=tuple(Case.from_plain(case, path, again) for case in content.cases),
            classes=tuple(content.classes),
            splits=tuple(Split(fold["name"], *(tuple(fold[part]) for part in PARTS)) for fold in content.folds),
            spec=content.spec,
            exhaustive=content.exhaustive,
            notes=tuple(content.notes),
        )
        if content.digest != folds.digest:
            raise DataError(f"{path}: the digest does not match the content; the file was edited. {again}")
        folds.verify()
        return folds


@dataclass(frozen=True)
class _FoldsFile:
    """Contents of ``folds.json``."""

    version: Literal[1]
    digest: str
    spec: dict[str, Any]
    exhaustive: bool
    notes: list[str]
    classes: list[str]
    cases: list[dict]
    folds: list[dict]


def _again() -> str:
    return f"Create it again with: {typed('make_folds')}"


def _verify_split(split: Split, groups: dict[str, str]) -> None:
    part_of_case: dict[str, str] = {}
    parts_of_group: dict[str, set[str]] = defaultdict(set)
    for part in PARTS:
        for case_id in getattr(split, part):
            if case_id not in groups:
                raise DataError(f"{split.name}: the {part} part contains '{case_id}', which is not a case of the dataset")
            if case_id in part_of_case:
                raise LeakError(f"{split.name}: case '{case_id}' is in {part_of_case[case_id]} and in {part}")
            part_of_case[case_id] = part
            parts_of_group[groups[case_id]].add(part)
    for group, parts in parts_of_group.items():
        if len(parts) > 1:
            raise LeakError(
                f"{split.name}: group '{group}' is in {' and '.join(sorted(parts))}. "
                "Use splits.type='StratifiedGroupKFold', which keeps groups together"
            )
    for part in ("train", "test"):
        if not getattr(split, part):
            raise DataError(f"{split.name}: the {part} part is empty")
