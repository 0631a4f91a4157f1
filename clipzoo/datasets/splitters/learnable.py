"""Adjustments that give every class a training group, and enough val cases, if possible. Legend: G groups · C classes · K folds."""

from __future__ import annotations

import numpy as np

from clipzoo.datasets.splitters.assign import unevenness


def alone_in_a_class(counts: np.ndarray) -> np.ndarray:
    """``[G]`` bool: groups that are the only one of some class."""
    present_GC = counts > 0
    return present_GC[:, present_GC.sum(axis=0) == 1].any(axis=1)


def leave_every_class(counts: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return groups to training until every class keeps one, the smallest suitable group first.

    Never returns the last group: that would require a class all of whose groups were taken and which has only one of them, and such
    groups are pinned.

    Args:
        counts: ``[G, C]``.
        taken: ``[G]`` bool; groups taken out.
    """
    taken = taken.copy()
    present_GC = counts > 0
    while True:
        missing_C = present_GC.any(axis=0) & ~present_GC[~taken].any(axis=0)
        if not missing_C.any():
            return taken
        able = np.flatnonzero(taken & present_GC[:, missing_C.argmax()])
        taken[able[counts[able].sum(axis=1).argmin()]] = False


def top_up(counts: np.ndarray, taken: np.ndarray, rng: np.random.RandomState, *, num_classes: int, at_least: int) -> np.ndarray:
    """Take further groups until every class has ``at_least`` cases among the taken ones; draws nothing if they are there already.

    A group is taken only if at least as many cases of each of its classes stay. The smallest suitable group comes first, so that the part
    grows as little as possible; equal ones are drawn from ``rng``.

    Args:
        counts: ``[G, C]``; columns from ``num_classes`` on are ignored.
        taken: ``[G]`` bool; groups taken out so far. If there are none, none can be spared, and none is taken.
        rng: Source of the draws.
        num_classes: C, without a column of cases that have no class.
        at_least: Cases of every class.
    """
    taken, labelled_GC = taken.copy(), counts[:, :num_classes]
    if not taken.any() or (labelled_GC[taken].sum(axis=0) >= at_least).all():
        return taken
    order_G = rng.permutation(len(counts))
    lacks_C = labelled_GC[taken].sum(axis=0) < at_least
    while lacks_C.any():
        stay_GC = labelled_GC[~taken].sum(axis=0) - labelled_GC
        spared_G = ~taken & ((labelled_GC == 0) | (stay_GC >= at_least)).all(axis=1)
        label = int(lacks_C.argmax())
        able = [group for group in order_G if spared_G[group] and labelled_GC[group, label]]
        if able:
            taken[min(able, key=lambda group: counts[group].sum())] = True
        lacks_C &= labelled_GC[taken].sum(axis=0) < at_least
        lacks_C[label] &= bool(able)
    return taken


def spread_every_class(counts: np.ndarray, folds: np.ndarray, num_folds: int) -> np.ndarray:
    """Move groups until no class with several groups has all of them in one fold, where it would be tested without being learned.

    The most even assignment almost always satisfies this; exceptions occur if one group contains several classes of very unequal size.
    If no single move helps, the assignment is kept, and the notes of the folds say so.

    Args:
        counts: ``[G, C]``.
        folds: ``[G]`` fold of each group.
        num_folds: K.
    """
    folds = folds.copy()
    shares = [1 / num_folds] * num_folds
    stuck = _in_one_fold(counts, folds, num_folds)
    while stuck.any():
        held = (counts[:, stuck.argmax()] > 0).nonzero()[0]
        candidates = []
        for group in held:
            for fold in range(num_folds):
                moved = folds.copy()
                moved[group] = fold
                left = int(_in_one_fold(counts, moved, num_folds).sum())
                if left < stuck.sum():
                    cost = round(unevenness(counts, moved, shares), 9)  # the last digits differ between machines
                    candidates.append((left, cost, int(group), fold))
        if not candidates:
            return folds
        _, _, group, fold = min(candidates)
        folds[group] = fold
        stuck = _in_one_fold(counts, folds, num_folds)
    return folds


def _in_one_fold(counts: np.ndarray, folds: np.ndarray, num_folds: int) -> np.ndarray:
    """``[C]`` bool: classes with several groups, all in the same fold."""
    present_GC = counts > 0
    in_fold_KC = np.stack([present_GC[folds == k].sum(axis=0) for k in range(num_folds)])
    groups_C = present_GC.sum(axis=0)
    return (groups_C > 1) & (in_fold_KC == groups_C).any(axis=0)
