"""The content of a report of few-shot episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipzoo.errors import DataError
from clipzoo.records.table_file import read_rows

FILE = "fewshot_curve.csv"
_COLUMNS = ["method", "shot", "way", "episodes", "mean", "ci95_low", "ci95_high", "sd"]


def few_shot_content(folder: Path) -> dict[str, Any]:
    """The points of the curves, from the file that ``fewshot evaluate --out`` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / FILE
    header, numbered = read_rows(path)
    rows = [cells for _, cells in numbered]
    if header != _COLUMNS or not rows or any(len(row) != len(_COLUMNS) for row in rows):
        raise DataError(f"{path}: not a curve of few-shot episodes. Run fewshot evaluate --out again")
    try:
        points = [{"method": row[0], **dict(zip(_COLUMNS[1:4], map(int, row[1:4]), strict=True)), **_numbers(row)} for row in rows]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}). Run fewshot evaluate --out again") from error
    return {
        "format": "clipzoo report of few-shot episodes",
        "version": 1,
        "name": folder.resolve().name,
        "kind": "few-shot",
        "points": points,
    }


def _numbers(row: list[str]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high", "sd"), map(float, row[4:]), strict=True))
