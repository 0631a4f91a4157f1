"""The content of a report of few-shot episodes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clipzoo.errors import DataError
from clipzoo.fewshot.episodes import interval
from clipzoo.records.few_shot import CURVE_COLUMNS, CURVE_FILE, EPISODES_COLUMNS, EPISODES_FILE, AboutEpisodes
from clipzoo.records.table_file import read_rows
from clipzoo.statistics.multiplicity import holm
from clipzoo.statistics.paired.paired_tests import corrected_t


def few_shot_content(folder: Path) -> dict[str, Any]:
    """The points of the curves and what they are about, from the files that ``fewshot evaluate --out`` wrote.

    Raises:
        DataError: A file is missing or damaged, or they do not belong together.
    """
    rows = _rows(folder / CURVE_FILE, CURVE_COLUMNS)
    points = [{"method": row[0], **dict(zip(CURVE_COLUMNS[1:4], map(int, row[1:4]), strict=True)), **_numbers(row)} for row in rows]
    accuracies: dict[tuple[str, int], list[float]] = {}
    for row in _rows(folder / EPISODES_FILE, EPISODES_COLUMNS):
        accuracies.setdefault((row[2], int(row[3])), []).append(float(row[4]))
    about = AboutEpisodes.read(folder)
    known = len(about.trained_classes)
    return {
        "format": "clipzoo report of few-shot episodes",
        "version": 2,
        "name": folder.resolve().name,
        "kind": "few-shot",
        "warnings": [{"key": "trained_classes", "number": known, "of": len(about.classes)}] if known else [],
        "about": asdict(about),
        "points": points,
        "differences": differences({place: np.array(values) for place, values in accuracies.items()}),
    }


def differences(accuracies: dict[tuple[str, int], np.ndarray]) -> list[dict[str, Any]]:
    """Each method minus the first one, episode by episode: all methods see the same episodes.

    Args:
        accuracies: ``[E]`` accuracies of a method with a number of shots.

    Returns:
        Mean differences with 95 % intervals over episodes, p-values of the paired t-test, and those after Holm's correction over all.
    """
    methods = list(dict.fromkeys(method for method, _ in accuracies))
    found = []
    for method in methods[1:]:
        for shot in dict.fromkeys(shot for name, shot in accuracies if name == method):
            paired = accuracies[method, shot] - accuracies[methods[0], shot]
            low, high = interval(paired)
            numbers = {"difference": float(paired.mean()), "low": low, "high": high}
            rounded = {name: round(value, 6) for name, value in numbers.items()}
            found.append({"first": method, "second": methods[0], "shot": shot, **rounded, "p_value": p_value(paired)})
    for row, adjusted in zip(found, holm([row["p_value"] for row in found]).tolist(), strict=True):
        row["adjusted_p_value"] = adjusted
    return found


def p_value(paired: np.ndarray) -> float:
    """Two-sided p-value of Student's t-test that the mean of ``[E]`` differences is 0; it is below 0.05 where ``interval`` excludes 0."""
    return float(not paired.any()) if np.ptp(paired) == 0 else corrected_t(paired, test_share=0.0).p_value


def _rows(path: Path, columns: list[str]) -> list[list[str]]:
    header, numbered = read_rows(path)
    rows = [cells for _, cells in numbered]
    if header != columns or not rows or any(len(row) != len(columns) for row in rows):
        raise DataError(f"{path}: not a table of few-shot episodes. Run fewshot evaluate --out again")
    where = columns.index("shot")
    for row in rows:
        try:
            [int(row[where]), *map(float, row[where + 1 :])]
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}). Run fewshot evaluate --out again") from error
    return rows


def _numbers(row: list[str]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high", "sd"), map(float, row[4:]), strict=True))
