"""Labelled cases and retrieval queries as arrays, with the clusters (groups) that all intervals and tests resample.

Shapes: N cases · C classes · G groups · Q queries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.errors import DataError
from clipzoo.records.tables import DIRECTIONS, PredictionTable, RetrievalTable


@dataclass(frozen=True, eq=False)
class Cases:
    """The labelled cases of a prediction table.

    Attributes:
        classes: C class names.
        case_ids: N ids.
        labels: ``[N]`` int64 true classes in [0, C).
        probabilities: ``[N, C]`` float64; NaN where the model's output was not finite.
        groups: ``[N]`` int64 codes in [0, G): cases that are resampled together.
        folds: ``[N]`` int64 codes in [0, number of folds), an index into ``fold_names``.
        fold_names: Names of the folds, sorted.

    Raises:
        DataError: The arrays differ in length, or a label is not a class.
    """

    classes: tuple[str, ...]
    case_ids: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    fold_names: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.case_ids, self.labels, self.probabilities, self.groups, self.folds)}
        if len(lengths) > 1:
            raise DataError(f"cases: columns of {sorted(lengths)} rows. All need one row per case")
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] != len(self.classes):
            raise DataError(f"cases: probabilities of shape {self.probabilities.shape} for {len(self.classes)} classes")
        if len(self) and not (0 <= self.labels.min() and self.labels.max() < len(self.classes)):
            raise DataError(f"cases: labels must be between 0 and {len(self.classes) - 1}. Drop unlabelled cases first")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_groups(self) -> int:
        """G."""
        return int(self.groups.max()) + 1 if len(self) else 0

    @classmethod
    def from_table(cls, table: PredictionTable) -> Cases:
        """Keep the labelled cases of ``table``. A case with an empty group name is a group of its own."""
        rows = np.flatnonzero(table.labels >= 0)
        fold_names, folds = _codes([table.folds[row] for row in rows])
        return cls(
            classes=table.classes,
            case_ids=tuple(table.case_ids[row] for row in rows),
            labels=table.labels[rows].astype(np.int64),
            probabilities=table.probabilities[rows].astype(np.float64),
            groups=group_codes([table.groups[row] for row in rows]),
            folds=folds,
            fold_names=fold_names,
        )

    @classmethod
    def from_arrays(cls, labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None) -> Cases:
        """Cases of a single fold with numbers for names, for data that come from no table.

        Args:
            labels: ``[N]`` int true classes; cases with -1 are dropped.
            probabilities: ``[N, C]`` float.
            groups: ``[N]`` codes of any kind; ``None``: every case is a group of its own.
        """
        labels = np.asarray(labels)
        groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
        rows = np.flatnonzero(labels >= 0)
        return cls(
            classes=tuple(str(c) for c in range(np.shape(probabilities)[1])),
            case_ids=tuple(str(row) for row in rows),
            labels=labels[rows].astype(np.int64),
            probabilities=np.asarray(probabilities, dtype=np.float64)[rows],
            groups=np.unique(groups[rows], return_inverse=True)[1].reshape(-1),
            folds=np.zeros(len(rows), dtype=np.int64),
            fold_names=("1",) if len(rows) else (),
        )


@dataclass(frozen=True, eq=False)
class Queries:
    """The queries of a retrieval table.

    Attributes:
        table: Q rows.
        groups: ``[Q]`` int64 codes in [0, G): queries that are resampled together.
    """

    table: RetrievalTable
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def num_groups(self) -> int:
        """G."""
        return int(self.groups.max()) + 1 if len(self) else 0

    @property
    def num_image_groups(self) -> int:
        """Number of groups of the image queries: of patients, without captions that belong to no single one."""
        return len(np.unique(self.groups[self.table.direction == DIRECTIONS[0]]))

    @classmethod
    def from_table(cls, table: RetrievalTable, *, caption_groups: Mapping[str, Collection[str]] | None = None) -> Queries:
        """Assign every query to a cluster.

        Image queries cluster by group; an image with an empty group name is a cluster of its own. A caption query clusters with

        * the group whose images it describes, if it is a single one: as ``caption_groups`` says or, without it, as the table says;
        * otherwise the same caption in other folds: a caption shared by several groups (a class caption) belongs to none of them.

        Tables of earlier versions name no groups of captions: the captions of a patient then count as independent of each other and of the
        patient's images, so that intervals of text-to-image metrics and of RSum are too narrow.

        Args:
            table: Queries of both directions.
            caption_groups: The groups whose images a caption describes, by caption; ``None``: as the table says.
        """
        names: list[tuple[str, ...]] = []
        rows = zip(table.direction, table.query, table.group, strict=True)
        for row, (direction, query, group) in enumerate(rows):
            if direction == DIRECTIONS[0]:
                names.append(("group", group) if group else ("row", str(row)))
                continue
            described = {group} - {""} if caption_groups is None else set(caption_groups.get(query, ()))
            only = described.pop() if len(described) == 1 else ""
            names.append(("group", only) if only else ("caption", query))
        return cls(table, _codes(names)[1])


def group_codes(names: Sequence[str]) -> np.ndarray:
    """``[N]`` int64 code of each group name, in [0, G); an empty name is a group of its own."""
    return _codes([("group", name) if name else ("row", str(row)) for row, name in enumerate(names)])[1]


def first_of_groups(groups: Sequence[str], rows: np.ndarray) -> list[tuple[int, int]]:
    """Where in ``rows`` each group comes first, and how many of its rows follow: five views of one patient are one finding."""
    _, first, counts = np.unique(group_codes(groups)[rows], return_index=True, return_counts=True)
    order = np.argsort(first)
    return list(zip(first[order].tolist(), (counts[order] - 1).tolist(), strict=True))


def _codes(names: Sequence) -> tuple[tuple, np.ndarray]:
    """The distinct names, sorted, and the index of each name."""
    distinct = tuple(sorted(set(names)))
    index = {name: code for code, name in enumerate(distinct)}
    return distinct, np.array([index[name] for name in names], dtype=np.int64)
