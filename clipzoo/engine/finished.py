"""Reading the files of a finished fold with every check: foreign, edited or damaged ones are refused and never enter a summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.engine.checkpoint import how_to_retrain
from clipzoo.errors import CheckpointError, DataError, shortened
from clipzoo.files import file_sha256
from clipzoo.records.folds import Split
from clipzoo.records.provenance import Provenance
from clipzoo.records.results import PREDICTIONS_FILE, RESULT_FILE, VAL_PREDICTIONS_FILE, FoldResult
from clipzoo.records.sealed import check_seal
from clipzoo.records.tables import DIRECTIONS, FindingsTable, PredictionTable, RetrievalTable, Table, read_table

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset


@dataclass(frozen=True)
class FinishedFold:
    """The results of a finished fold.

    Attributes:
        result: Content of ``result.json``.
        table: Content of ``predictions.csv``.
        val: Content of ``val_predictions.csv``; ``None`` if the fold has none.
    """

    result: FoldResult
    table: Table
    val: PredictionTable | FindingsTable | None = None


def read_fold(folder: Path, split: Split, provenance: Provenance, data: Dataset, *, weights: bool = False) -> FinishedFold:
    """Read and check the files of a finished fold.

    Args:
        folder: Folder of the fold.
        split: Its three parts.
        provenance: The provenance that its files must have.
        data: Dataset whose labels and groups the table must have.
        weights: Also check the digest of the scored checkpoint, if the file still exists.

    Raises:
        CheckpointError: A file is missing, damaged, edited, or does not belong to this fold.
    """
    result = FoldResult.read(folder)
    provenance.check(result.provenance, folder / RESULT_FILE, how_to_retrain(folder))
    table = _checked_table(folder / PREDICTIONS_FILE, result.predictions_digest, split, data)
    val = None
    if result.val_predictions_digest:
        val = _checked_table(folder / VAL_PREDICTIONS_FILE, result.val_predictions_digest, split, data, part="val")
    if weights and (folder / result.checkpoint).is_file():
        check_checkpoint(folder, result)
    return FinishedFold(result, table, val)


def _checked_table(path: Path, digest: str, split: Split, data: Dataset, *, part: str = "test") -> Table:
    advice = how_to_retrain(path.parent)
    try:
        if file_sha256(path) != digest:
            raise DataError(f"{path}: damaged or edited (its content does not match its digest in {RESULT_FILE})")
        table = read_table(path)
    except DataError as error:
        raise CheckpointError(f"{error}. {advice}") from error
    problem = table_problem(table, split, data, part=part)
    if problem:
        raise CheckpointError(f"{path}: {problem}. {advice}")
    return table


def check_checkpoint(folder: Path, result: FoldResult) -> Path:
    """The path of the checkpoint that was scored for a fold's result.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or a different one.
    """
    path = folder / result.checkpoint
    try:
        digest = check_seal(path)
    except DataError as error:
        raise CheckpointError(f"{error}. {how_to_retrain(folder)}") from error
    if digest != result.checkpoint_digest:
        raise CheckpointError(f"{path}: is not the checkpoint that was scored for {RESULT_FILE}. {how_to_retrain(folder)}")
    return path


def table_problem(table: Table, split: Split, data: Dataset, *, part: str = "test") -> str:
    """How a fold's table differs from its test part, or another ``part``; empty if it does not."""
    others = [name for name in dict.fromkeys(table.fold if isinstance(table, RetrievalTable) else table.folds) if name != split.name]
    if others:
        return f"holds predictions of {shortened(others, 3)}"
    if set(table.case_ids) != set(getattr(split, part)):
        return f"not the predictions of this fold's {part} part"
    cases = [data.cases[row] for row in data.rows_of(table.case_ids)]
    if not isinstance(table, RetrievalTable):
        if table.classes != tuple(data.classes):
            return f"has other classes ({shortened(table.classes, 5)})"
        if isinstance(table, FindingsTable) != (data.task == "findings"):
            return "has labels of another kind than the data"
        groups = table.groups
        edited = [case.id for case, same in zip(cases, _same_labels(table, data), strict=True) if not same]
        if edited:
            return f"{len(edited)} labels differ from those of the data: {shortened(edited, 3)}"
    else:
        groups = [group for group, direction in zip(table.group, table.direction, strict=True) if direction == DIRECTIONS[0]]
    moved = [case.id for case, group in zip(cases, groups, strict=True) if case.group != group]
    return f"{len(moved)} groups differ from those of the data: {shortened(moved, 3)}" if moved else ""


def _same_labels(table: PredictionTable | FindingsTable, data: Dataset) -> np.ndarray:
    """``[N]`` bool: whether the labels of a row are those of the data."""
    rows = data.rows_of(table.case_ids)
    if isinstance(table, FindingsTable):
        return (data.findings[rows] == table.findings).all(axis=1)
    return data.labels[rows] == table.labels
