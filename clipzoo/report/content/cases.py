"""Which cases a report shows: the worst mistakes, the most certain correct ones, suspicious labels; of retrieval good and bad searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipzoo.errors import DataError
from clipzoo.records.tables import DIRECTIONS, FindingsTable, PredictionTable, RetrievalTable
from clipzoo.report.content.records import RunRecords
from clipzoo.scoring.suspicious_labels import SuspiciousLabels
from clipzoo.statistics.cases import first_of_groups
from clipzoo.statistics.retrieval_scores import expected_ranks

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset

MOST_MISTAKES, MOST_CERTAIN, MOST_SUSPICIOUS, MOST_SEARCHES = 12, 6, 12, 6
_PROBABILITIES = 3  # classes of a case


def shown_cases(run: RunRecords, data: Dataset | None) -> dict[str, list[dict[str, Any]]]:
    """The cases to show, by section; each with its id, fold, and what was predicted.

    Args:
        run: Records of the run.
        data: Its dataset, for the captions of retrieval; ``None`` if it cannot be read.
    """
    table = run.table
    if isinstance(table, PredictionTable):
        return {"mistakes": mistakes(table), "certain": certain(table), "suspicious": suspicious(table)}
    if isinstance(table, FindingsTable):
        return {"mistakes": finding_mistakes(table)}
    return searches(table, data)


def mistakes(table: PredictionTable) -> list[dict[str, Any]]:
    """Wrong cases, those with the largest probability of the wrong class first; see ``first_of_groups``."""
    wrong = _rows(table, right=False)
    ranked = wrong[np.argsort(-table.probabilities[wrong].max(axis=1), kind="stable")]
    return [{**_case(table, ranked[i]), "others": others} for i, others in first_of_groups(table.groups, ranked)[:MOST_MISTAKES]]


def certain(table: PredictionTable) -> list[dict[str, Any]]:
    """Correct cases with the largest probability: one of each class, the most certain classes first."""
    right = _rows(table, right=True)
    ranked = right[np.argsort(-table.probabilities[right].max(axis=1), kind="stable")]
    first = dict.fromkeys(table.labels[ranked].tolist())
    chosen = [next(row for row in ranked if table.labels[row] == label) for label in first]
    return [_case(table, row) for row in chosen[:MOST_CERTAIN]]


def suspicious(table: PredictionTable) -> list[dict[str, Any]]:
    """The labels that the models doubt most, of those that count as wrong; see ``first_of_groups``."""
    try:
        found = SuspiciousLabels.of(table, "self_confidence", "report")
    except DataError:  # one class, or nothing labelled
        return []
    ranking = found.ranking
    rows, scores, suggested = (values[ranking.is_issue] for values in (ranking.rows, ranking.scores, ranking.suggested))
    return [
        {**_case(table, rows[i]), "score": float(scores[i]), "suggested": table.classes[suggested[i]], "others": others}
        for i, others in first_of_groups(table.groups, rows)[:MOST_SUSPICIOUS]
    ]


def _rows(table: PredictionTable, *, right: bool) -> np.ndarray:
    """Rows of labelled cases with finite probabilities that are predicted right, or wrong."""
    known = (table.labels >= 0) & np.isfinite(table.probabilities).all(axis=1)
    return np.flatnonzero(known & ((table.probabilities.argmax(axis=1) == table.labels) == right))


def _case(table: PredictionTable, row: int) -> dict[str, Any]:
    probabilities, label = table.probabilities[row], int(table.labels[row])
    order = np.argsort(-probabilities, kind="stable")[:_PROBABILITIES].tolist()
    shown = [*order, *([label] if label not in order else [])]
    return {
        "case_id": table.case_ids[row],
        "group": table.groups[row],
        "fold": table.folds[row],
        "label": table.classes[label],
        "prediction": table.classes[int(probabilities.argmax())],
        "probabilities": [{"class": table.classes[c], "p": float(probabilities[c])} for c in shown],
    }


def finding_mistakes(table: FindingsTable) -> list[dict[str, Any]]:
    """Of every finding in turn, the absent case with the largest probability and the present one with the smallest."""
    found, seen = [], set()
    gap = np.where(table.findings == 1, 1 - table.probabilities, table.probabilities.astype(np.float64))
    gap[(table.findings < 0) | ~np.isfinite(table.probabilities)] = -1
    for place in np.argsort(-gap, axis=None, kind="stable"):
        row, c = divmod(int(place), len(table.classes))
        kind = (c, int(table.findings[row, c]))
        if gap[row, c] <= 0.5 or len(found) == MOST_MISTAKES:
            break
        if kind in seen:
            continue
        seen.add(kind)
        present = [name for name, value in zip(table.classes, table.findings[row], strict=True) if value == 1]
        found.append(
            {
                "case_id": table.case_ids[row],
                "group": table.groups[row],
                "fold": table.folds[row],
                "label": ", ".join(present),
                "prediction": table.classes[c],
                "present": bool(table.findings[row, c] == 1),
                "probabilities": [{"class": table.classes[c], "p": float(table.probabilities[row, c])}],
            }
        )
    return found


def searches(table: RetrievalTable, data: Dataset | None) -> dict[str, list[dict[str, Any]]]:
    """Images whose captions were found last, and first: the found caption beside the right ones."""
    own = table.take(table.direction == DIRECTIONS[0])
    ranks = expected_ranks(own)
    gap = own.positive_similarity - own.negative_similarity
    worst = np.lexsort((gap, -ranks))
    best = np.lexsort((-gap, ranks))
    shown = {}
    for kind, rows in (("missed", worst[ranks[worst] > 1]), ("found", best[ranks[best] == 1])):
        chosen = first_of_groups(own.group, rows)[:MOST_SEARCHES]
        shown[kind] = [{**_search(own, rows[i], ranks, data), "others": others} for i, others in chosen]
    return shown


def _search(own: RetrievalTable, row: int, ranks: np.ndarray, data: Dataset | None) -> dict[str, Any]:
    case_id = str(own.query[row])
    captions = [] if data is None else [data.captions.sentences[i] for i in data.captions_of(data.rows[case_id])]
    return {
        "case_id": case_id,
        "group": str(own.group[row]),
        "fold": str(own.fold[row]),
        "rank": float(ranks[row]),
        "gallery": int(own.gallery[row]),
        "found": str(own.best_match[row]),
        "right": captions,
    }
