"""The objective of ``assign``, in exact integers.

Legend: G groups · C classes · K parts · M distinct groups (equal count vectors are one) · F features, the C classes and the size.

Integers throughout, because the same seed must give the same folds on every machine, and float sums depend on the machine's BLAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np

LARGEST = 2**58  # largest cost: leaves room for sums of a few costs in int64


@dataclass(frozen=True)
class Problem:
    """The distinct groups, and the deviation of every part from its target.

    With ``n`` the counts of all parts ``[K, F]``, the cost is the sum of ``weights * (scale * n - targets) ** 2``.

    Attributes:
        rows_MF: Counts of each distinct group; the last column is its size.
        many_M: Number of groups with these counts.
        weights_F: Weight of a squared deviation of each feature.
        scale: Common denominator of the shares.
        start_KF: Deviation ``scale * n - targets`` with only the pinned groups placed.
        pinned_K: Number of pinned groups in each part.
        symmetric: Whether all parts are alike, so that they are interchangeable.
    """

    rows_MF: np.ndarray
    many_M: np.ndarray
    weights_F: np.ndarray
    scale: int
    start_KF: np.ndarray
    pinned_K: np.ndarray
    symmetric: bool

    @property
    def num_parts(self) -> int:
        """K."""
        return len(self.start_KF)

    def deviation(self, x_MK: np.ndarray) -> np.ndarray:
        """``[K, F]``: scaled counts minus targets, with ``x_MK`` groups of each kind in each part."""
        return self.start_KF + self.scale * (x_MK.T @ self.rows_MF)

    def cost(self, deviation_KF: np.ndarray) -> int:
        """The cost of one state, or of many states if there are leading dimensions."""
        return (deviation_KF**2 * self.weights_F).sum(axis=(-2, -1))

    def lower_bound(self) -> int:
        """A lower bound on the cost of any assignment: every feature rounded as if its cases could be placed freely."""
        totals_KF = self.scale * (self.many_M @ self.rows_MF) + self.start_KF.sum(axis=0)
        assert not totals_KF.any(), "the deviations of all parts add up to zero"
        rest_KF = np.sort(-self.start_KF % self.scale, axis=0)[::-1]  # remainder of each target after rounding down
        up_KF = np.arange(self.num_parts)[:, None] < rest_KF.sum(axis=0) // self.scale
        return int(self.cost(np.where(up_KF, self.scale - rest_KF, rest_KF)))


def make_problem(counts_GC: np.ndarray, shares: list[float], size_weight: float, pinned_G: np.ndarray) -> tuple[Problem, np.ndarray]:
    """The problem, and the row of each free group in it (``[G]``, -1 for pinned groups)."""
    counts_GF = np.concatenate([counts_GC, counts_GC.sum(axis=1, keepdims=True)], axis=1)
    counts_GF = counts_GF[:, counts_GF.any(axis=0)]
    parts, scale = whole_shares(shares)
    totals_F = counts_GF.sum(axis=0)
    num_parts = len(parts)
    factors_F = np.ones(len(totals_F))
    factors_F[-1] = size_weight
    unit = LARGEST // (num_parts * scale**2 * int(np.ceil(totals_F @ factors_F) + len(totals_F)))
    weights_F = np.array([max(1, round(unit * Fraction(f) / int(n))) for f, n in zip(factors_F, totals_F, strict=True)], dtype=np.int64)

    placed_KF = np.zeros((num_parts, counts_GF.shape[1]), dtype=np.int64)
    pinned = pinned_G >= 0
    np.add.at(placed_KF, pinned_G[pinned], counts_GF[pinned])
    kinds: dict[bytes, int] = {}  # ten times faster than numpy.unique(axis=0)
    free_GF = counts_GF[~pinned]
    row_of = np.array([kinds.setdefault(row.tobytes(), len(kinds)) for row in free_GF])
    rows_MF = np.stack([np.frombuffer(row, dtype=np.int64) for row in kinds])
    rows_G = np.full(len(counts_GF), -1)
    rows_G[~pinned] = row_of
    problem = Problem(
        rows_MF=rows_MF,
        many_M=np.bincount(row_of),
        weights_F=weights_F,
        scale=scale,
        start_KF=scale * placed_KF - np.array(parts)[:, None] * totals_F,
        pinned_K=np.bincount(pinned_G[pinned], minlength=num_parts),
        symmetric=len(set(parts)) == 1 and not pinned.any(),
    )
    return problem, rows_G


def whole_shares(shares: list[float]) -> tuple[list[int], int]:
    """Shares as integers, and their sum.

    >>> whole_shares([0.1, 0.9])
    ([1, 9], 10)
    """
    if len(set(shares)) == 1:
        return [1] * len(shares), len(shares)
    exact = [Fraction(float(s)).limit_denominator(1000) for s in shares[:-1]]
    exact.append(1 - sum(exact))
    scale = lcm(*(f.denominator for f in exact))
    return [int(f * scale) for f in exact], scale
