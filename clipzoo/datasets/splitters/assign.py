"""Assignment of groups to parts, both stratified and grouped, for folds, for a holdout and for the val part.

scikit-learn's ``StratifiedGroupKFold`` places the groups one by one and never moves a placed group. Here the greedy start is
improved by moves and swaps of groups until none helps, perturbed and improved again, and small instances are solved exactly.
Legend: G groups · C classes · K parts · M distinct groups · F features, the C classes and the size.
"""

from __future__ import annotations

import numpy as np

from clipzoo.datasets.splitters.exact import optimum
from clipzoo.datasets.splitters.problem import Problem, make_problem

SIZE_WEIGHT = 0.01  # classes first: part sizes only decide between equally even splits
ROUNDS = 30  # maximum number of perturbations
PAIR_SAMPLE = 500  # pairs of parts visited per sweep of swaps: all of them up to 32 parts
SWAP_SAMPLE = 200  # kinds of groups per part that are compared when searching for a swap


def unevenness(counts: np.ndarray, parts: np.ndarray, shares: list[float], size_weight: float = SIZE_WEIGHT) -> float:
    """The objective of ``assign``: Σ_c Σ_k (n_kc − N_c·s_k)² / N_c + size_weight · Σ_k (n_k − N·s_k)² / N.

    Here n_kc is the number of cases of class c in part k, N_c its sum over k, n_k and N are the sums over all classes, and s_k is the share
    of part k. Dividing by N_c gives one misplaced case of a rare class the same weight as many of a frequent one.

    Args:
        counts: ``[G, C]`` cases of each class in each group.
        parts: ``[G]`` part of each group, 0 … K-1.
        shares: K shares with sum 1.
        size_weight: Weight of the part sizes, relative to one class.
    """
    counts = np.asarray(counts, dtype=np.float64)
    total = 0.0
    for column, weight in [*((counts[:, c], 1.0) for c in range(counts.shape[1])), (counts.sum(axis=1), size_weight)]:
        if column.any():
            in_part = np.bincount(parts, weights=column, minlength=len(shares))
            total += weight * float(((in_part - column.sum() * np.asarray(shares)) ** 2).sum() / column.sum())
    return total


def assign(
    counts: np.ndarray,
    shares: list[float],
    rng: np.random.RandomState,
    *,
    size_weight: float = SIZE_WEIGHT,
    pinned: np.ndarray | None = None,
) -> np.ndarray:
    """Assign every group to a part such that ``unevenness`` is minimal and, if there are enough groups, no part is empty.

    Exact on small instances, and whenever every class is as even as integers allow; otherwise the best result of a seeded local search.
    Groups with the same counts are interchangeable; which of them goes where is drawn from ``rng``. The result is the same on every
    machine, as the search uses integers.

    Args:
        counts: ``[G, C]`` cases of each class in each group; no row is zero.
        shares: K shares with sum 1. Unequal shares are rounded to fractions with denominators of at most 1000.
        rng: Source of all randomness. A ``RandomState``, because numpy guarantees its streams across versions.
        size_weight: See ``unevenness``.
        pinned: ``[G]`` part of the groups with a fixed part, -1 for the others; ``None`` if none exist.

    Returns:
        ``[G]`` int64 part of each group.
    """
    counts = np.asarray(counts, dtype=np.int64)
    pinned = np.full(len(counts), -1) if pinned is None else np.asarray(pinned)
    parts = pinned.astype(np.int64)
    if not (pinned < 0).any():
        return parts
    problem, row_of_group = make_problem(counts, shares, size_weight, pinned)
    x_MK = _search(problem, rng)
    if problem.symmetric:
        x_MK = x_MK[:, rng.permutation(problem.num_parts)]

    # Shuffle the groups of one kind, then cut them into the numbers that each part gets.
    groups = rng.permutation(np.flatnonzero(pinned < 0))
    groups = groups[np.argsort(row_of_group[groups], kind="stable")]
    parts[groups] = np.repeat(np.tile(np.arange(problem.num_parts), len(x_MK)), x_MK.reshape(-1))
    return parts


def _search(problem: Problem, rng: np.random.RandomState) -> np.ndarray:
    """``[M, K]`` number of groups of each kind in each part."""
    enough = problem.lower_bound()
    rounds = max(1, min(ROUNDS, 10_000 // len(problem.rows_MF), 1000 // problem.num_parts))
    best, best_cost = None, None
    for number in range(rounds):
        state = _State(problem, _greedy(problem, rng) if number % 10 == 0 else best)
        if number % 10:
            state.shake(rng)
        state.descend(rng)
        cost = int(problem.cost(state.deviation_KF))
        if best_cost is None or cost <= best_cost:
            best, best_cost = state.x_MK, cost
        if best_cost <= enough:
            return best
    better = optimum(problem, best_cost)
    return best if better is None else better


def _greedy(problem: Problem, rng: np.random.RandomState) -> np.ndarray:
    """Assign whole shares of every kind first, then the remaining groups one by one, largest first, each to the part that lacks it most."""
    lacks_K = np.maximum(-problem.start_KF[:, -1], 0)  # the last feature is the size
    x_MK = problem.many_M[:, None] * lacks_K // max(1, int(lacks_K.sum()))
    rest = np.repeat(np.arange(len(x_MK)), problem.many_M - x_MK.sum(axis=1))
    value_M = (problem.rows_MF**2 * problem.weights_F).sum(axis=1)
    rest = rest[np.argsort(-value_M[rest] * (1 + 0.5 * rng.random_sample(len(rest))), kind="stable")]
    deviation_KF = problem.deviation(x_MK)
    weighted_MF = problem.rows_MF * problem.weights_F
    for i in rest:
        k = int(np.argmin(deviation_KF @ weighted_MF[i]))
        x_MK[i, k] += 1
        deviation_KF[k] += problem.scale * problem.rows_MF[i]
    return x_MK


class _State:
    """An assignment that can be improved.

    Moving v from part a to part b changes the cost by 2·scale·(p_b − p_a + scale·Σ w·v²), where p_k = Σ w·v·deviation_k; swapping v for
    u does the same with v − u instead of v. The ``gain`` arrays omit the factor 2·scale; a negative gain lowers the cost.
    """

    def __init__(self, problem: Problem, x_MK: np.ndarray):
        self.problem = problem
        self.x_MK = x_MK.copy()
        self.deviation_KF = problem.deviation(x_MK)
        self.groups_K = x_MK.sum(axis=0) + problem.pinned_K
        self.weighted_MF = problem.rows_MF * problem.weights_F
        self.own_M = problem.scale * (self.weighted_MF * problem.rows_MF).sum(axis=1)
        self._fill_empty_parts()

    def move(self, row: int, a: int, b: int) -> None:
        """Take one group of kind ``row`` from part ``a`` to part ``b``."""
        self.x_MK[row, a] -= 1
        self.x_MK[row, b] += 1
        self.groups_K[a] -= 1
        self.groups_K[b] += 1
        step_F = self.problem.scale * self.problem.rows_MF[row]
        self.deviation_KF[a] -= step_F
        self.deviation_KF[b] += step_F

    def descend(self, rng: np.random.RandomState) -> None:
        """Move and swap groups until nothing lowers the cost (swaps are sampled if there are very many kinds of groups or parts)."""
        self._moves()
        pairs = np.stack(np.triu_indices(self.problem.num_parts, 1), axis=1)
        improved = True
        while improved:
            improved = False
            for a, b in _at_most(pairs, PAIR_SAMPLE, rng).tolist():
                while self._swap(a, b, rng):
                    improved = True
            improved = self._moves() or improved

    def shake(self, rng: np.random.RandomState) -> None:
        """Move a few groups to random parts."""
        for _ in range(min(20, max(2, int(self.problem.many_M.sum()) // 20))):
            cells = np.flatnonzero(self.x_MK)
            row, a = divmod(int(cells[rng.randint(len(cells))]), self.problem.num_parts)
            b = int(rng.randint(self.problem.num_parts))
            if a != b and self.groups_K[a] > 1:
                self.move(row, a, b)

    def _fill_empty_parts(self) -> None:
        for b in np.flatnonzero(self.groups_K == 0):
            gain_MK = self._gains_to(int(b))
            row, a = divmod(int(np.argmin(gain_MK)), self.problem.num_parts)
            if self.groups_K[a] > 1:
                self.move(row, a, int(b))

    def _gains_to(self, b: int) -> np.ndarray:
        product_MK = self.weighted_MF @ self.deviation_KF.T
        allowed_MK = (self.x_MK > 0) & (self.groups_K > 1)
        return np.where(allowed_MK, product_MK[:, [b]] - product_MK + self.own_M[:, None], np.iinfo(np.int64).max)

    def _moves(self) -> bool:
        product_MK = self.weighted_MF @ self.deviation_KF.T
        rows_M = np.arange(len(product_MK))
        lowest = np.iinfo(np.int64).min // 4
        moved = False
        while True:
            from_MK = np.where((self.x_MK > 0) & (self.groups_K > 1), product_MK, lowest)
            a_M, b_M = from_MK.argmax(axis=1), product_MK.argmin(axis=1)
            gain_M = product_MK[rows_M, b_M] - from_MK[rows_M, a_M] + self.own_M
            row = int(gain_M.argmin())
            if gain_M[row] >= 0:
                return moved
            a, b = int(a_M[row]), int(b_M[row])
            self.move(row, a, b)
            change_M = self.problem.scale * (self.weighted_MF @ self.problem.rows_MF[row])
            product_MK[:, a] -= change_M
            product_MK[:, b] += change_M
            moved = True

    def _swap(self, a: int, b: int, rng: np.random.RandomState) -> bool:
        rows_a, rows_b = (_at_most(np.flatnonzero(self.x_MK[:, k]), SWAP_SAMPLE, rng) for k in (a, b))
        if not len(rows_a) or not len(rows_b):
            return False
        difference_F = self.deviation_KF[b] - self.deviation_KF[a]
        gain_a = self.weighted_MF[rows_a] @ difference_F + self.own_M[rows_a]
        gain_b = self.own_M[rows_b] - self.weighted_MF[rows_b] @ difference_F
        both = 2 * self.problem.scale * (self.weighted_MF[rows_a] @ self.problem.rows_MF[rows_b].T)
        gain = gain_a[:, None] + gain_b[None, :] - both
        i, j = divmod(int(gain.argmin()), len(rows_b))
        if gain[i, j] >= 0:
            return False
        self.move(int(rows_a[i]), a, b)
        self.move(int(rows_b[j]), b, a)
        return True


def _at_most(rows: np.ndarray, limit: int, rng: np.random.RandomState) -> np.ndarray:
    return rows if len(rows) <= limit else rows[np.sort(rng.permutation(len(rows))[:limit])]
