"""Optimal assignment of small instances, by dynamic programming over the kinds of groups.

Legend: S states · Z ways to spread one kind over the parts · K parts · F features.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from clipzoo.datasets.splitters.problem import Problem

WORK = 4_000_000  # numbers computed before the search gives up: a few tenths of a second


def optimum(problem: Problem, bound: int) -> np.ndarray | None:
    """The best ``x [M, K]`` with a cost below ``bound``; ``None`` if none exists, or if the search is too expensive.

    Equal states (up to the order of the parts, if all parts are alike) are kept once, and a state is dropped as soon as the excess of its
    placed cases over the targets costs ``bound`` or more: groups are only added, so that the excess never shrinks.
    """
    heavy_first = np.argsort(-(problem.rows_MF**2 * problem.weights_F).sum(axis=1), kind="stable")
    states_SKF = problem.start_KF[None]
    num_parts, work, layers = problem.num_parts, 0, []
    for row in heavy_first:
        many = int(problem.many_M[row])
        num_ways = comb(many + num_parts - 1, num_parts - 1)
        work += len(states_SKF) * num_ways * problem.start_KF.size
        if work > WORK:
            return None
        ways_ZK = _ways(many, num_parts)
        added_ZKF = problem.scale * ways_ZK[:, :, None] * problem.rows_MF[row]
        states_SKF = (states_SKF[:, None] + added_ZKF[None]).reshape(-1, *problem.start_KF.shape)
        kept_S = np.flatnonzero(_at_least(problem, states_SKF) < bound)
        if not len(kept_S):
            return None
        states_SKF, order_SK = _sorted_parts(states_SKF[kept_S], problem.symmetric)
        unique_S = _distinct(states_SKF)
        states_SKF = states_SKF[unique_S]
        parent_S, way_S = np.divmod(kept_S[unique_S], num_ways)
        layers.append((row, parent_S, ways_ZK[way_S], order_SK[unique_S]))

    empty_SK = (states_SKF[:, :, -1] == problem.start_KF[:, -1]) & (problem.pinned_K == 0)  # the last feature is the size
    costs_S = np.where(empty_SK.any(axis=1), bound, problem.cost(states_SKF))
    best = int(costs_S.argmin())
    return _trace_back(layers, best, problem) if costs_S[best] < bound else None


def _trace_back(layers: list, state: int, problem: Problem) -> np.ndarray:
    x_MK = np.zeros((len(problem.rows_MF), problem.num_parts), dtype=np.int64)
    part_K = np.arange(problem.num_parts)  # the actual part at each position of the state
    for row, parent_S, ways_SK, order_SK in reversed(layers):
        before_K = np.empty_like(part_K)
        before_K[order_SK[state]] = part_K
        x_MK[row, before_K] = ways_SK[state]
        part_K, state = before_K, parent_S[state]
    return x_MK


def _at_least(problem: Problem, states_SKF: np.ndarray) -> np.ndarray:
    """A lower bound on the cost of every completion of a state.

    The excess over the targets remains, and the other parts, which may share the deficit evenly, lack the same amount.
    """
    over_SKF = np.maximum(states_SKF, 0)
    excess_SF = over_SKF.sum(axis=1)
    others_SF = np.maximum(1, (states_SKF <= 0).sum(axis=1))
    return ((over_SKF**2).sum(axis=1) * problem.weights_F + excess_SF**2 // others_SF * problem.weights_F).sum(axis=1)


def _sorted_parts(states_SKF: np.ndarray, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    num_states, num_parts = states_SKF.shape[:2]
    if not symmetric:
        return states_SKF, np.broadcast_to(np.arange(num_parts), (num_states, num_parts))
    order_SK = np.argsort(states_SKF @ _mixers(states_SKF.shape[2]), axis=1, kind="stable")
    return np.take_along_axis(states_SKF, order_SK[:, :, None], axis=1), order_SK


def _distinct(states_SKF: np.ndarray) -> np.ndarray:
    """First positions of the distinct states, identified by 64-bit hashes (a collision among a million states once in ten million runs)."""
    flat = states_SKF.reshape(len(states_SKF), -1)
    return np.sort(np.unique(flat @ _mixers(flat.shape[1]), return_index=True)[1])


def _mixers(size: int) -> np.ndarray:
    """Fixed odd numbers; products with them wrap around in int64, which yields a hash."""
    return np.random.RandomState(0).randint(-(2**62), 2**62, size=size, dtype=np.int64) * 2 + 1


def _ways(many: int, num_parts: int) -> np.ndarray:
    """``[Z, K]``: all ways to distribute ``many`` equal items over the parts (stars and bars).

    >>> _ways(2, 2).tolist()
    [[0, 2], [1, 1], [2, 0]]
    """
    bars = np.array(list(combinations(range(many + num_parts - 1), num_parts - 1)), dtype=np.int64).reshape(-1, num_parts - 1)
    edges = np.concatenate([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), many + num_parts - 1)], axis=1)
    return np.diff(edges, axis=1) - 1
