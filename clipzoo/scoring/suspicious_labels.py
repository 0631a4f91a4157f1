"""Labels that are probably wrong, as a table to look at: from the out-of-fold predictions, by models that never saw the case."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipzoo.errors import ConfigError, DataError
from clipzoo.files import write_text
from clipzoo.records.tables import FindingsTable, PredictionTable, RetrievalTable, Table
from clipzoo.statistics.label_quality import LabelRanking, rank_labels
from clipzoo.text import csv_text
from clipzoo.text_tables import aligned

FILE = "suspicious_labels.csv"
Method = Literal["self_confidence", "confident_learning"]

_METHODS = {"self_confidence": "self_confidence", "confident_learning": "cleanlab"}  # as label_quality calls them
_MANY = 0.2  # share of labels that count as wrong
_COLUMNS = ("rank", "case_id", "group", "label", "suggested_label", "p_label", "p_suggested", "score", "is_issue")


@dataclass(frozen=True, eq=False)
class SuspiciousLabels:
    """Labelled cases, the most suspicious first.

    Attributes:
        table: Out-of-fold predictions.
        ranking: Their order.
        method: Name of the method.
    """

    table: PredictionTable
    ranking: LabelRanking
    method: Method

    @classmethod
    def of(cls, table: Table, method: Method, where: object) -> SuspiciousLabels:
        """Rank the labels of a table; cases without a label or with NaN are left out.

        Args:
            table: Out-of-fold predictions.
            method: ``self_confidence``: by the probability of the given label. ``confident_learning``: what cleanlab counts as wrong first.
            where: File name for messages.

        Raises:
            DataError: The table has no classes, fewer than two, or no label.
            ConfigError: cleanlab is not installed.
        """
        if isinstance(table, RetrievalTable):
            raise DataError(f"{where}: retrieval ranks, which have no labels. Suspicious labels require data with classes")
        if isinstance(table, FindingsTable):
            raise DataError(f"{where}: findings (several labels per image). Suspicious labels require one class per image")
        if len(table.classes) < 2:
            raise DataError(f"{where}: there is only the class '{table.classes[0]}', so no other label could be right")
        if method == "confident_learning" and not _installed("cleanlab"):
            raise ConfigError("--method confident_learning requires cleanlab. Run pip install cleanlab, or use --method self_confidence")
        ranking = rank_labels(table.labels, table.probabilities, method=_METHODS[method])
        if not len(ranking):
            raise DataError(f"{where}: no case has a label and finite probabilities, so there is nothing to rank")
        return cls(table, ranking, method)

    def rows(self, limit: int | None = None) -> list[list[object]]:
        """One row per case: rank, id, group, label, suggested label, their probabilities, score and whether it counts as wrong."""
        found, table = self.ranking, self.table
        rows: list[list[object]] = []
        for place in range(len(found) if limit is None else min(limit, len(found))):
            row, given, suggested = int(found.rows[place]), int(found.given[place]), int(found.suggested[place])
            probabilities = [f"{table.probabilities[row, label]:.4f}" for label in (given, suggested)]
            names = [table.case_ids[row], table.groups[row], table.classes[given], table.classes[suggested]]
            rows.append([place + 1, *names, *probabilities, f"{found.scores[place]:.4f}", "yes" if found.is_issue[place] else "no"])
        return rows

    def write(self, folder: Path) -> Path:
        """Write ``suspicious_labels.csv`` with all labelled cases, and return its path."""
        path = folder / FILE
        write_text(path, csv_text([_COLUMNS, *self.rows()]))
        return path

    def text(self, limit: int) -> str:
        """The first ``limit`` cases as a table, and what to make of them."""
        number, total = int(self.ranking.is_issue.sum()), len(self.ranking)
        about = f"{number} of {total} labels count as wrong. A list to look at, not to correct by itself: hard and rare cases are on it too"
        if number > _MANY * total:
            about += "\nnote: so many say that the models are weak, not that the labels are wrong"
        rows = [list(map(str, (row[1], *row[:1], *row[2:]))) for row in self.rows(limit)]
        header = ["case", "rank", "group", "label", "suggested", "p(label)", "p(suggested)", "score", "wrong?"]
        return f"{aligned(header, rows)}\n\n{about}"


def _installed(package: str) -> bool:
    """Whether a package can be imported; ``None`` in ``sys.modules`` counts as missing."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ValueError, ImportError):
        return False
