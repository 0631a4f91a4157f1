"""The table of several labels per case: one row per case, with the truth and the probability of every finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipzoo.errors import shortened
from clipzoo.files import write_text
from clipzoo.records.table_file import Rows, ScoredCases, check_lengths, check_once, floats, not_a_table, problem_of
from clipzoo.text import csv_text

COLUMNS = ("case_id", "group", "fold")
_CELLS = {1: "1", 0: "0", -1: ""}
_VALUES = {cell: value for value, cell in _CELLS.items()}


@dataclass(frozen=True, eq=False)
class FindingsTable(ScoredCases):
    """Truth and probabilities of findings, as stored in a CSV file.

    Attributes:
        findings: ``[N, C]`` int8: 1 present, 0 absent, -1 unknown.
        probabilities: ``[N, C]`` float32 in [0, 1], each on its own, so that rows need not sum to 1; NaN where the model's output was not
            finite.
    """

    kind = "findings"
    called = "findings"

    findings: np.ndarray
    probabilities: np.ndarray

    def write(self, path: str | Path) -> None:
        """Write ``case_id,group,fold,y_<finding>…,p_<finding>…``; y is 1, 0 or empty, and p keeps nine significant digits."""
        rows: list[list[str]] = [[*COLUMNS, *(f"{kind}_{name}" for kind in "yp" for name in self.classes)]]
        for row, case_id in enumerate(self.case_ids):
            truth = [_CELLS[int(value)] for value in self.findings[row]]
            rows.append([case_id, self.groups[row], self.folds[row], *truth, *(f"{p:.9g}" for p in self.probabilities[row])])
        write_text(path, csv_text(rows))

    @classmethod
    def fits(cls, header: Sequence[str]) -> bool:
        """Whether the columns are those of this kind of table."""
        names = header[len(COLUMNS) :]
        half = len(names) // 2
        return tuple(header[: len(COLUMNS)]) == COLUMNS and [f"p_{name[2:]}" for name in names[:half] if name.startswith("y_")] == list(
            names[half:]
        )

    @classmethod
    def from_rows(cls, path: str | Path, header: list[str], rows: Rows) -> FindingsTable:
        """The table of the rows of a file; see ``read``."""
        if not cls.fits(header):
            raise not_a_table("findings", path, 1, f"its columns are {shortened(header, 5) or 'none'}")
        first, count = len(COLUMNS), (len(header) - len(COLUMNS)) // 2
        classes = tuple(name.removeprefix("y_") for name in header[first : first + count])
        if problem := problem_of(classes):
            raise not_a_table("findings", path, 1, problem)
        check_lengths("findings", path, header, rows)
        check_once("findings", path, [(line, cells[0]) for line, cells in rows])
        truth, numbers = [], []
        for line, cells in rows:
            unknown = next((cell for cell in cells[first : first + count] if cell not in _VALUES), None)
            if unknown is not None:
                raise not_a_table("findings", path, line, f"{unknown!r} is neither 1 nor 0 nor empty")
            truth.append([_VALUES[cell] for cell in cells[first : first + count]])
            numbers.append(floats("findings", path, line, cells[first + count :]))
        probabilities = np.array(numbers, dtype=np.float32).reshape(len(rows), count)
        wrong = ~(np.isnan(probabilities) | ((probabilities >= 0) & (probabilities <= 1))).all(axis=1)
        if wrong.any():
            raise not_a_table("findings", path, rows[int(wrong.argmax())][0], "a probability must be between 0 and 1")
        columns = (tuple(cells[i] for _, cells in rows) for i in range(len(COLUMNS)))
        return cls(classes, *columns, np.array(truth, dtype=np.int8).reshape(len(rows), count), probabilities)
