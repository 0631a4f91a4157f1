"""Several labels per image in a table: a column of 0 and 1 for each finding, or all findings of an image in one cell."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from clipzoo.datasets.files.tables.columns import named_column
from clipzoo.datasets.files.tables.sheet import Sheet
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import natural
from clipzoo.text import clean_name, lookalike

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
_WORDS = {
    **dict.fromkeys(("1", "1.0", "+", "yes", "y", "true", "是", "有", "阳性"), PRESENT),
    **dict.fromkeys(("0", "0.0", "-", "no", "n", "false", "否", "无", "阴性"), ABSENT),
    "": UNKNOWN,
}
_SIGNS = {PRESENT: "1", ABSENT: "0", UNKNOWN: "?"}


class FindingCells(Protocol):
    """How a table says which findings an image has."""

    def label(self, where: str, cells: Sequence[str]) -> str:
        """The findings of a row as one text, equal for rows with equal findings.

        Raises:
            DataError: A cell cannot be understood; the message starts with ``where``.
        """

    def vectors(self, labels: Mapping[str, str]) -> tuple[list[str], dict[str, tuple[int, ...]]]:
        """Names of the C findings; and, for every label, C numbers: 1 for present, 0 for absent, -1 for unknown.

        Args:
            labels: Results of ``label``, each with the place of its first row.

        Raises:
            DataError: Nothing is known of a finding, or a finding is not among the given ones.
        """


@dataclass(frozen=True)
class ColumnFindings:
    """A column for each finding; an empty cell is unknown.

    Attributes:
        table: Name of the table.
        positions: Column of each finding, by name.
    """

    table: str
    positions: Mapping[str, int]

    @classmethod
    def of(cls, sheet: Sheet, names: Sequence[str]) -> ColumnFindings:
        """Find the columns.

        Raises:
            ConfigError: Fewer than two findings are named, or one is named twice.
            DataError: A column is missing or repeated.
        """
        cleaned = _distinct([clean_name(name) for name in names], "findings")
        return cls(sheet.name, {name: named_column(sheet, name, "findings") for name in cleaned})

    def label(self, where: str, cells: Sequence[str]) -> str:
        """See ``FindingCells.label``."""
        signs = []
        for name, at in self.positions.items():
            word = unicodedata.normalize("NFKC", cells[at]).strip().casefold()
            if word not in _WORDS:
                raise DataError(
                    f"{where}: '{cells[at].strip()}' in column '{name}' is neither 1 nor 0. "
                    "Write 1 or 0 (also yes/no, 是/否, +/-), or leave the cell empty if it is unknown"
                )
            signs.append(f"{name} {_SIGNS[_WORDS[word]]}")
        return ", ".join(signs)

    def vectors(self, labels: Mapping[str, str]) -> tuple[list[str], dict[str, tuple[int, ...]]]:
        """See ``FindingCells.vectors``."""
        values = {sign: value for value, sign in _SIGNS.items()}
        return list(self.positions), {label: _parsed(label, self.positions, values) for label in labels}


@dataclass(frozen=True)
class ListedFindings:
    """One cell with the names of all present findings; all others are absent.

    Attributes:
        table: Name of the table.
        position: The column.
        separator: What separates two names; its full-width form counts too.
        no_finding: Word for an image without findings, besides an empty cell; ``None`` for none.
        classes: The findings in label order; ``None`` for all names in the table.
    """

    table: str
    position: int
    separator: str
    no_finding: str | None = None
    classes: Sequence[str] | None = field(default=None)

    def label(self, where: str, cells: Sequence[str]) -> str:
        """See ``FindingCells.label``."""
        written = cells[self.position]
        if len(self.separator) == 1:
            narrow = unicodedata.normalize("NFKC", self.separator)
            written = written.replace(narrow, self.separator)
            if "!" <= narrow <= "~":
                written = written.replace(chr(ord(narrow) + 0xFEE0), self.separator)
        names = sorted({clean_name(name) for name in written.split(self.separator)} - {""}, key=natural)
        nothing = None if self.no_finding is None else clean_name(self.no_finding)
        if nothing in names:
            if len(names) > 1:
                raise DataError(f"{where}: '{written.strip()}' names '{nothing}' (no_finding) and other findings. Keep one of them")
            return ""
        return self.separator.join(names)

    def vectors(self, labels: Mapping[str, str]) -> tuple[list[str], dict[str, tuple[int, ...]]]:
        """See ``FindingCells.vectors``."""
        named = {label: label.split(self.separator) if label else [] for label in labels}
        if self.classes is None:
            names = sorted({name for found in named.values() for name in found}, key=natural)
        else:
            names = _distinct([clean_name(name) for name in self.classes], "classes")
        for label, found in named.items():
            unknown = next((name for name in found if name not in names), None)
            if unknown is not None:
                hint = did_you_mean(unknown, names) + lookalike(unknown, names)
                raise DataError(f"{labels[label]}: unknown finding '{unknown}'.{hint} Findings: {shortened(names)}")
        if len(names) < 2:
            raise DataError(
                f"{self.table}: with separator '{self.separator}' the labels name {len(names)} findings ({shortened(names) or 'none'}), "
                "but at least 2 are required. For one label per image, remove data.dataset.separator"
            )
        return names, {label: tuple(PRESENT if name in found else ABSENT for name in names) for label, found in named.items()}


def check_arguments(arguments: Mapping[str, object]) -> None:
    """Refuse arguments of a dataset that exclude each other: ``findings``, ``separator``, ``no_finding``, ``label_key``, ``classes``.

    Raises:
        ConfigError: They do.
    """
    if arguments["findings"] is not None:
        for other in ("separator", "no_finding", "label_key", "classes"):
            if arguments[other] is not None:
                raise ConfigError(f"data.dataset: findings (a column for each) and {other} are mutually exclusive. Remove one of them")
    if arguments["no_finding"] is not None and arguments["separator"] is None:
        raise ConfigError("data.dataset.no_finding: has an effect with separator only, which splits a cell. Set separator, or remove it")
    if arguments["separator"] is not None and not str(arguments["separator"]).strip():
        raise ConfigError("data.dataset.separator: empty. Use the character between two findings in a cell, such as ';'")


def _distinct(names: list[str], argument: str) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"data.dataset.{argument}: '{twice}' is repeated. List every finding once")
    if len(names) < 2:
        raise ConfigError(
            f"data.dataset.{argument}: {len(names)} findings named, but at least 2 are required. For a single one, use label_key: its two "
            "values are two classes"
        )
    return names


def _parsed(label: str, names: Mapping[str, int], values: Mapping[str, int]) -> tuple[int, ...]:
    """The numbers in a label of ``ColumnFindings``, whatever characters the names contain."""
    vector, rest = [], label
    for name in names:
        rest = rest.removeprefix(", ").removeprefix(f"{name} ")
        vector.append(values[rest[0]])
        rest = rest[1:]
    return tuple(vector)
