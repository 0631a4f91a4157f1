"""Weights that resample groups (patients), never single cases: cluster bootstrap and jackknife.

Which metric needs which: without strata, the share of every class varies between resamples as it would between samples of patients,
which accuracy, predictive values and losses depend on. Strata fix those shares, so that intervals of these metrics come out too narrow;
for sensitivity, balanced accuracy and AUROC both are equal to first order. Intervals therefore resample without strata.
In either case a resample that misses a class is drawn again.

Shapes: N cases · G groups · C classes · B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipzoo.errors import DataError

_TRIES = 100  # a class with one of many groups is missed by 37 % of resamples
_MIN_STRATUM = 2  # groups; a single one would never vary


@dataclass(frozen=True, eq=False)
class Jackknife:
    """Leave-one-out weights.

    Attributes:
        weights: ``[K, N]`` float32; row k leaves block k out.
        blocks: ``[G]`` int64 block of each group; a block is one group, if there are not more than the limit.
    """

    weights: np.ndarray
    blocks: np.ndarray


def bootstrap_weights(
    groups: np.ndarray, labels: np.ndarray | None = None, *, num_resamples: int, seed: int, stratified: bool = False
) -> np.ndarray:
    """Multiplicities of the cases in bootstrap resamples of whole groups.

    Args:
        groups: ``[N]`` int codes in [0, G).
        labels: ``[N]`` int classes, each of which is in every resample; ``None`` without classes, as in retrieval.
        num_resamples: B, 1 or more.
        seed: Seed of the draws, 0 or more.
        stratified: Draw as many groups of each stratum as there are (see ``strata_of``).

    Returns:
        ``[B, N]`` float32 whole numbers.

    Source: Davison and Hinkley 1997, section 3.8 (resampling of whole clusters, scheme 1).
    """
    num_groups = _num_groups(groups)
    generator = np.random.default_rng(seed)
    strata = strata_of(groups, labels) if stratified and labels is not None else np.zeros(num_groups, dtype=np.int64)
    present = _presence(groups, labels)
    drawn = np.empty((num_resamples, num_groups), dtype=np.float32)
    missing = np.arange(num_resamples)
    for _ in range(_TRIES):
        drawn[missing] = _draw(strata, len(missing), generator)
        missing = missing[(drawn[missing] @ present == 0).any(axis=1)]
        if not len(missing):
            break
    for row in missing:  # many classes with a group each: one of its groups is put in
        for c in np.flatnonzero(drawn[row] @ present == 0):
            drawn[row, generator.choice(np.flatnonzero(present[:, c]))] = 1
    return drawn[:, groups]


def jackknife_weights(groups: np.ndarray, labels: np.ndarray | None = None, *, max_blocks: int = 1000) -> Jackknife:
    """Weights that leave out one group at a time, or one block of groups if there are more than ``max_blocks``.

    Args:
        groups: ``[N]`` int codes in [0, G).
        labels: ``[N]`` int classes; groups with the same rarest class are spread evenly over the blocks.
        max_blocks: Largest K, 2 or more.

    Source: Kott 2001, "The delete-a-group jackknife", for blocks.
    """
    num_groups = _num_groups(groups)
    num_blocks = min(num_groups, max_blocks)
    order = np.argsort(strata_of(groups, labels), kind="stable") if labels is not None else np.arange(num_groups)
    blocks = np.empty(num_groups, dtype=np.int64)
    blocks[order] = np.arange(num_groups) % num_blocks
    weights = np.ones((num_blocks, len(groups)), dtype=np.float32)
    weights[blocks[groups], np.arange(len(groups))] = 0
    return Jackknife(weights, blocks)


def strata_of(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``[G]`` int64 stratum of each group: the rarest class among its cases, that is, the one with the fewest groups.

    The composition of a group would be finer, but combinations such as "one of each" are often unique, and a stratum of one group does
    not vary. Strata of a single group are joined with the next rarest stratum.
    """
    present = _presence(groups, labels)
    num_groups_of = present.sum(axis=0)
    rarity = np.argsort(np.argsort(num_groups_of, kind="stable"), kind="stable")  # 0: the rarest class
    strata = np.where(present > 0, rarity, len(rarity)).min(axis=1)
    for stratum in range(len(rarity)):
        larger = strata > stratum
        if 0 < (strata == stratum).sum() < _MIN_STRATUM and larger.any():
            strata[strata == stratum] = strata[larger].min()
    return np.unique(strata, return_inverse=True)[1].reshape(-1)


def _num_groups(groups: np.ndarray) -> int:
    if not len(groups):
        raise DataError("resampling: no cases. At least one labelled case is needed")
    return int(groups.max()) + 1


def _presence(groups: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """``[G, C]`` float32: 1 where a group has a case of a class, for the classes that exist; without labels all are of one class."""
    codes = np.zeros(len(groups), dtype=np.int64) if labels is None else np.unique(labels, return_inverse=True)[1].reshape(-1)
    present = np.zeros((int(groups.max()) + 1, int(codes.max()) + 1), dtype=np.float32)
    present[groups, codes] = 1
    return present


def _draw(strata: np.ndarray, num: int, generator: np.random.Generator) -> np.ndarray:
    """``[num, G]`` int multiplicities: within each stratum, as many groups as it has, with replacement."""
    drawn = np.zeros((num, len(strata)), dtype=np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=num)
    return drawn
