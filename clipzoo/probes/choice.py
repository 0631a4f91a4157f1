"""How hyper-parameters are chosen: by cross-validation inside the examples. No other image has a say.

The examples are dealt into at most five folds, stratified by class, groups kept together. Of a grid of values the one is taken whose
predictions for the held-out examples have the lowest log loss, the first among equals. Where that is impossible a fixed value is taken, and
that is said.

Shapes: N examples · C classes · H grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.probes.base import Examples

MAX_FOLDS = 5


@dataclass(frozen=True)
class Choice:
    """Values in use, and what should be said of them.

    Attributes:
        values: Hyper-parameters by name.
        notes: One sentence each.
    """

    values: dict[str, float]
    notes: tuple[str, ...] = ()


def choose(
    examples: Examples,
    grid: Sequence[dict[str, float]],
    fallback: dict[str, float],
    losses: Callable[[np.ndarray], np.ndarray],
) -> Choice:
    """The entry of ``grid`` with the lowest held-out log loss.

    Args:
        examples: All that may be looked at.
        grid: H entries with the same names. One alone is taken without a look.
        fallback: What is taken where cross-validation is impossible.
        losses: The folds ``[N]`` of the examples to ``[H]`` mean log losses, each example predicted from the other folds.
    """
    if len(grid) == 1:
        return Choice(dict(grid[0]))
    folds, problem = inner_folds(examples)
    if problem:
        values = ", ".join(f"{name}={value:g}" for name, value in fallback.items())
        return Choice(dict(fallback), (f"{problem}: nothing could be chosen by cross-validation, {values} was taken",))
    return Choice(dict(grid[int(np.argmin(losses(folds)))]))


def inner_folds(examples: Examples) -> tuple[np.ndarray, str]:
    """``[N]`` int64, the fold of every example, and what makes it impossible (an empty string where nothing does).

    The largest groups are dealt first, each to the fold that has the smallest share of its classes, then the fewest examples. Every class
    that has examples is then in two folds or more, so that none is ever unknown where it is asked for.
    """
    labels, C = examples.labels, examples.num_classes
    groups = np.arange(len(labels)) if examples.groups is None else np.unique(examples.groups, return_inverse=True)[1]
    counts_GC = np.zeros((groups.max() + 1, C))
    np.add.at(counts_GC, (groups, labels), 1)
    groups_of_class = (counts_GC > 0).sum(axis=0)
    present = groups_of_class > 0
    if present.sum() == 1:
        return np.zeros_like(labels), "there is one class only"
    if groups_of_class[present].min() < 2:
        what = "one example" if examples.counts[present].min() < 2 else "examples of one group only"
        return np.zeros_like(labels), f"a class has {what}"
    num_folds = int(min(MAX_FOLDS, groups_of_class.max()))
    share_GC = counts_GC / np.maximum(counts_GC.sum(axis=0), 1)
    held_KC, sizes_K = np.zeros((num_folds, C)), np.zeros(num_folds)
    fold_of_group = np.zeros(len(counts_GC), dtype=np.int64)
    for group in np.argsort(-counts_GC.sum(axis=1), kind="stable"):
        inside = np.flatnonzero(counts_GC[group])
        shares_K = held_KC[:, inside] @ share_GC[group, inside]
        fold = np.lexsort((sizes_K, np.round(shares_K, 12)))[0]
        fold_of_group[group] = fold
        held_KC[fold, inside] += share_GC[group, inside]
        sizes_K[fold] += counts_GC[group, inside].sum()
    if ((held_KC > 0).sum(axis=0)[present] < 2).any():
        return np.zeros_like(labels), "the groups of a class cannot be dealt into two folds"
    return fold_of_group[groups], ""


def log_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of -ln p(label) in float64.

    Args:
        logits: ``[…, N, C]``; the mean is over N.
        labels: ``[N]``.
    """
    logits = logits.astype(np.float64)
    top = logits.max(axis=-1)
    total = np.log(np.exp(logits - top[..., None]).sum(axis=-1)) + top
    return (total - np.take_along_axis(logits, np.broadcast_to(labels, total.shape)[..., None], axis=-1)[..., 0]).mean(axis=-1)
