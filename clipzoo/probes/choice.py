"""Choice of hyper-parameters by cross-validation within the examples; no other image is used.

The examples are divided into at most five folds, stratified by class, with groups kept together. From a grid of values, the one whose
predictions for held-out examples have the lowest cost is chosen: ``Examples.criterion``, then the log loss, then the order of the grid. If
that is impossible, a fixed value is used, with a note.

Shapes: N examples · C classes · H grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.probes.base import Examples, softmax

MAX_FOLDS = 5
_DIGITS = 12  # costs that agree to so many digits after the point are equal


@dataclass(frozen=True)
class Choice:
    """Chosen values, with notes.

    Attributes:
        values: Hyper-parameters by name.
        notes: Remarks, one sentence each.
    """

    values: dict[str, float]
    notes: tuple[str, ...] = ()


def choose(
    examples: Examples,
    grid: Sequence[dict[str, float]],
    fallback: dict[str, float],
    held_out: Callable[[np.ndarray], Iterable[np.ndarray]],
) -> Choice:
    """The entry of ``grid`` with the lowest held-out cost.

    Args:
        examples: Examples, the only data that are used.
        grid: H entries with the same names. A single entry is used without evaluation.
        fallback: Values that are used if cross-validation is impossible.
        held_out: Function from the folds ``[N]`` of the examples to ``[N, C]`` logits for each entry of the grid in order, each example
            predicted from the other folds. It may end early: later entries are not chosen.
    """
    if len(grid) == 1:
        return Choice(dict(grid[0]))
    folds, problem = inner_folds(examples)
    if problem:
        values = ", ".join(f"{name}={value:g}" for name, value in fallback.items())
        return Choice(dict(fallback), (f"{problem}: nothing could be chosen by cross-validation, {values} was taken",))
    costs = [cost(examples, logits_NC) for logits_NC in held_out(folds)]
    return Choice(dict(grid[min(range(len(costs)), key=costs.__getitem__)]))


def cost(examples: Examples, logits_NC: np.ndarray) -> tuple[float, float]:
    """What chooses: the criterion (0 without one) and the log loss of held-out predictions, each lower is better."""
    deciding = 0.0
    if examples.criterion is not None:
        value = examples.criterion(examples.labels, softmax(logits_NC))
        deciding = math.inf if math.isnan(value) else round(value, _DIGITS)
    return deciding, float(log_loss(logits_NC, examples.labels, examples.weights))


def inner_folds(examples: Examples) -> tuple[np.ndarray, str]:
    """``[N]`` int64 fold of every example, and the reason if folds are impossible (otherwise an empty string).

    The largest groups are assigned first, each to the fold with the smallest share of its classes, then with the fewest examples. Every
    class with examples is then in at least two folds, so that it is never unknown when it is predicted.
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


def log_loss(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of -ln p(label) in float64.

    Args:
        logits: ``[…, N, C]`` logits; the mean is over N.
        labels: ``[N]``.
        weights: ``[N]`` weights in the mean; ``None`` for equal ones.
    """
    logits = logits.astype(np.float64)
    top = logits.max(axis=-1)
    total = np.log(np.exp(logits - top[..., None]).sum(axis=-1)) + top
    losses = total - np.take_along_axis(logits, np.broadcast_to(labels, total.shape)[..., None], axis=-1)[..., 0]
    return losses.mean(axis=-1) if weights is None else (losses * weights).sum(axis=-1) / weights.sum()
