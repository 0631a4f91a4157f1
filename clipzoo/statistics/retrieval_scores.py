"""Retrieval metrics as functions of query weights, for thousands of resamples at once.

The galleries stay as they are: weights speak about other queries in the same galleries.
Ties count by expectation, as in ``clipzoo.metrics``, which has the same formulas for one table.

Shapes: Q queries · B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.records.tables import DIRECTIONS, RetrievalTable
from clipzoo.statistics.cases import Queries
from clipzoo.statistics.scores import Scores, ratio

SHORT = {DIRECTIONS[0]: "i2t", DIRECTIONS[1]: "t2i"}
KS = (1, 5, 10)
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class RankOutcomes:
    """What the metrics need of each query.

    Attributes:
        sides: ``[Q]`` int64: 0 for image queries, 1 for caption queries.
        means: ``[Q]`` float64 columns by name, of metrics that are means over queries: ``r1``, ``r5``, ``r10``, ``mean_rank``, ``mrr``.
        similarities: ``[Q]`` float64 columns by name, of means over image queries; NaN where undefined.
        ranks: ``[Q]`` float64 expected rank of the first match.
        finite: Whether the features of each of both directions were finite; otherwise its metrics are NaN.
    """

    sides: np.ndarray
    means: dict[str, np.ndarray]
    similarities: dict[str, np.ndarray]
    ranks: np.ndarray
    finite: tuple[bool, bool]

    @classmethod
    def of(cls, queries: Queries, *, ks: Sequence[int] = KS) -> RankOutcomes:
        """Outcomes of all queries; ``ks`` are the K of R@K."""
        table = queries.table
        ranks = expected_ranks(table)
        sides = (table.direction == DIRECTIONS[1]).astype(np.int64)
        defined = np.isfinite(table.positive_similarity)
        return cls(
            sides=sides,
            means={
                **{f"r{k}": hit_probabilities(table, k) for k in ks},
                "mean_rank": ranks,
                "mrr": expected_reciprocal_ranks(table),
            },
            similarities={
                "positive_similarity": table.positive_similarity,
                "negative_similarity": table.negative_similarity,
                "similarity_gap": table.positive_similarity - table.negative_similarity,
            },
            ranks=ranks,
            finite=(bool(defined[sides == 0].all()), bool(defined[sides == 1].all())),
        )

    def __len__(self) -> int:
        return len(self.sides)

    @classmethod
    def join(cls, first: RankOutcomes, second: RankOutcomes) -> RankOutcomes:
        """Concatenate the outcomes of two models."""
        return cls(
            sides=np.concatenate([first.sides, second.sides]),
            means={name: np.concatenate([column, second.means[name]]) for name, column in first.means.items()},
            similarities={name: np.concatenate([column, second.similarities[name]]) for name, column in first.similarities.items()},
            ranks=np.concatenate([first.ranks, second.ranks]),
            finite=(first.finite[0] and second.finite[0], first.finite[1] and second.finite[1]),
        )


def weighted_retrieval_scores(outcomes: RankOutcomes, weights: np.ndarray) -> Scores:
    """Every retrieval metric under every row of weights, named as in ``clipzoo.metrics``.

    Args:
        outcomes: Q queries of one or both directions.
        weights: ``[B, Q]`` multiplicities, 0 or more.
    """
    weights = np.asarray(weights)
    starts = range(0, max(len(weights), 1), _BLOCK)
    return Scores.join([_scores_of_block(outcomes, weights[first : first + _BLOCK].astype(np.float64)) for first in starts])


def _scores_of_block(outcomes: RankOutcomes, weights: np.ndarray) -> Scores:
    overall: dict[str, np.ndarray] = {}
    for side, short in enumerate(SHORT.values()):
        own = outcomes.sides == side
        total = weights[:, own].sum(axis=1)
        if not outcomes.finite[side]:
            total[:] = 0  # undefined, so that every ratio is NaN
        for name, column in outcomes.means.items():
            overall[f"{short}_{name}"] = ratio(np.nan_to_num(weights[:, own] @ column[own]), total)
        overall[f"{short}_median_rank"] = np.where(total > 0, _weighted_medians(outcomes.ranks[own], weights[:, own]), np.nan)
        if side == 0:
            for name, column in outcomes.similarities.items():
                defined = own & ~np.isnan(column)
                amount = np.where(total > 0, weights[:, defined].sum(axis=1), 0)
                overall[name] = ratio(weights[:, defined] @ column[defined], amount)
    recalls = [overall[f"{short}_r{k}"] for short in SHORT.values() for k in KS if f"{short}_r{k}" in overall]
    overall["rsum"] = 100 * np.sum(recalls, axis=0) if len(recalls) == 2 * len(KS) else np.full(len(weights), np.nan)
    return Scores(overall, {})


def _weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``[B]`` medians of the repeated values: the mean of both middle ones if the total is even and they differ."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower, upper = (reached < half).sum(axis=1), (reached <= half).sum(axis=1)
    last = len(values) - 1
    return (values[order][np.minimum(lower, last)] + values[order][np.minimum(upper, last)]) / 2


def expected_ranks(table: RetrievalTable) -> np.ndarray:
    """``[Q]`` float64: a + E[J] = a + 1 + t / (p + 1); the p matches divide the t others into p + 1 runs of equal expected length."""
    return 1 + table.ahead + table.tied / (table.positives + 1)


def hit_probabilities(table: RetrievalTable, k: int) -> np.ndarray:
    """``[Q]`` float64 probability that a match is among the first ``k``: 1 - P(J > k - a); 1 for the whole gallery."""
    tied, positives = table.tied, table.positives
    num_tops = tied + positives
    seen = np.clip(k - table.ahead, 0, num_tops)
    # P(J > m) = C(t, m) / C(n, m) = C(n - m, p) / C(n, p): as a product it has m factors in the first form and p in the second.
    by_seen = not len(table) or seen.max() <= positives.max()
    start, factors = (tied, seen) if by_seen else (num_tops - seen, positives)
    miss = np.ones(len(table))
    for i in range(factors.max(initial=0)):
        miss *= np.where(i < factors, (start - i) / np.maximum(num_tops - i, 1), 1)
    return 1 - miss


def expected_reciprocal_ranks(table: RetrievalTable) -> np.ndarray:
    """``[Q]`` float64: E[1 / (a + J)], with P(J = j) = P(J > j - 1) p / (n - j + 1) for j = 1 … t + 1."""
    cases, rows = np.unique(np.stack([table.ahead, table.tied, table.positives], axis=1), axis=0, return_inverse=True)
    values = np.empty(len(cases))
    for number, (ahead, tied, positives) in enumerate(cases):
        before = np.arange(tied + 1)  # j - 1
        left = tied + positives - before
        survival = np.cumprod(np.concatenate([[1.0], (tied - before[:-1]) / left[:-1]]))
        values[number] = (survival * positives / left / (ahead + before + 1)).sum()
    return values[rows.reshape(-1)]
