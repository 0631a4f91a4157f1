"""What is scored: every image, or every group (patient) with its images joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipzoo.errors import DataError
from clipzoo.records.tables import PredictionTable, Table

UnitName = Literal["case", "group"]
Join = Literal["mean", "max"]
_NEAR = "data.near_duplicates joined it of several groups with nearly equal images (see the data with check_data): correct the classes. "


@dataclass(frozen=True)
class Unit:
    """The unit of all metrics and intervals.

    Attributes:
        name: ``'case'``: every image counts; ``'group'``: every group counts once.
        join: How the probabilities of a group's images are joined: their mean, or their maximum in each class, divided by the sum.
    """

    name: UnitName = "case"
    join: Join = "mean"

    def of(self, table: Table) -> Table:
        """The table in this unit; of retrieval and findings, as it is.

        Raises:
            DataError: The cases of a group have different labels.
        """
        if self.name == "case" or not isinstance(table, PredictionTable):
            return table
        return per_group(table, self.join)

    def attributes(self, table: PredictionTable, attributes: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Values by attribute and unit; a group has a value if all its cases with one have the same."""
        if self.name == "case":
            return {name: dict(values) for name, values in attributes.items()}
        found: dict[str, dict[str, str]] = {}
        for name, values in attributes.items():
            seen: dict[str, set[str]] = {}
            for case_id, group in zip(table.case_ids, table.groups, strict=True):
                seen.setdefault(group or case_id, set()).update({values[case_id]} if values.get(case_id) else ())
            found[name] = {group: several.pop() for group, several in seen.items() if len(several) == 1}
        return found

    @property
    def note(self) -> str:
        """Remark for the reader of a result, or an empty string."""
        how = {"mean": "the mean of the probabilities", "max": "the largest probability of each class, rescaled,"}[self.join]
        return f"every group counts once, with {how} of its cases" if self.name == "group" else ""


def per_group(table: PredictionTable, join: Join = "mean") -> PredictionTable:
    """One row per group and fold, whose id is the group's name, sorted; a case without a group stands alone.

    Args:
        table: N cases.
        join: See ``Unit``.

    Raises:
        DataError: The labelled cases of a group have different labels.
    """
    names = [group or case_id for case_id, group in zip(table.case_ids, table.groups, strict=True)]
    keys = sorted(set(zip(names, table.folds, strict=True)))
    row_of = {key: row for row, key in enumerate(keys)}
    codes = np.array([row_of[key] for key in zip(names, table.folds, strict=True)], dtype=np.int64)
    labels = np.full(len(keys), -1, dtype=np.int64)
    for code, label in zip(codes, table.labels, strict=True):
        if label >= 0 and labels[code] not in (-1, label):
            raise DataError(of_two_classes(keys[code][0], table.classes[labels[code]], table.classes[label]))
        labels[code] = max(label, labels[code])
    joined = np.zeros((len(keys), len(table.classes)))
    if join == "max":
        np.maximum.at(joined, codes, table.probabilities)
    else:
        np.add.at(joined, codes, table.probabilities)
    with np.errstate(invalid="ignore"):
        joined = joined / joined.sum(axis=1, keepdims=True)
    groups = tuple(name for name, _ in keys)
    return PredictionTable(table.classes, groups, groups, tuple(fold for _, fold in keys), labels, joined.astype(np.float32))


def of_two_classes(group: str, first: str, second: str, *, near: bool = False) -> str:
    """The message about a group that cannot be joined; with ``near``, ``data.near_duplicates`` made it of several."""
    what = f"evaluation.unit: the cases of group '{group}' are of two classes, '{first}' and '{second}'. "
    return f"{what}{_NEAR if near else ''}Use evaluation.unit='case'"
