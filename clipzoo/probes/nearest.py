"""Voting by the most similar examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipzoo.config.arguments import Count
from clipzoo.probes.base import Examples, FittedProbe, Probe
from clipzoo.probes.choice import choose
from clipzoo.registries import PROBES

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
_ROWS = 1024


@PROBES.register_module()
class KNearest(Probe):
    """The k examples with the highest cosine similarity vote: probabilities are shares of votes.

    Votes are equal, or weighted by ``Examples.weights`` where classes count equally.

    Equal to scikit-learn's ``KNeighborsClassifier(metric='cosine')``. On ties in similarity, earlier examples vote. The predicted
    class is the one with most votes, the lowest index on ties.

    Args:
        k: Number of neighbours, at most that of the examples. ``None`` chooses among 1, 3, 5, 10, 20, 50 within the examples; if that is
            impossible, 1 is used. For the choice (not for the probabilities) one additional vote is shared by all classes, so that a class
            without a vote has a finite log loss.
    """

    name = "knn"

    def __init__(self, k: Count | None = None):
        self.k = k

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        values = [k for k in NEIGHBOURS if k <= len(examples)] if self.k is None else [min(self.k, len(examples))]
        choice = choose(examples, [{"k": k} for k in values], {"k": 1}, lambda folds: _held_out(examples, folds, values))
        k, labels, weights = int(choice.values["k"]), examples.labels, examples.weights

        def probabilities(features_MD: np.ndarray) -> np.ndarray:
            rows = nearest(features_MD @ examples.features.T, k)
            votes = labels[rows][..., None] == np.arange(examples.num_classes)
            if weights is None:
                return votes.mean(axis=1)
            weighed = (votes * weights[rows][..., None]).sum(axis=1)
            return weighed / weighed.sum(axis=1, keepdims=True)

        return FittedProbe(probabilities, choice.values, choice.notes)


def nearest(similarity_MN: np.ndarray, k: int) -> np.ndarray:
    """``[M, k]`` columns of the k highest values of each row, best first; earlier columns on ties."""
    M, N = similarity_MN.shape
    limit = np.partition(similarity_MN, N - k, axis=1)[:, N - k, None]
    tied = similarity_MN == limit
    room = k - (similarity_MN > limit).sum(axis=1, keepdims=True)
    taken = (similarity_MN > limit) | (tied & (np.cumsum(tied, axis=1) <= room))
    columns = np.nonzero(taken)[1].reshape(M, k)
    order = np.argsort(-np.take_along_axis(similarity_MN, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _held_out(examples: Examples, folds: np.ndarray, values: list[int]) -> Iterator[np.ndarray]:
    """Logarithms of the votes, with one vote more that all classes share; ends before a k that exceeds the number of voters."""
    N, C = len(folds), examples.num_classes
    fewest = int(N - np.bincount(folds).max())  # number of voters when the largest fold is held out
    usable = [k for k in values if k <= fewest]
    weights = np.ones(N) if examples.weights is None else examples.weights
    votes = np.empty((len(usable), N, C))
    for start in range(0, N, _ROWS):
        rows = slice(start, start + _ROWS)
        similarity = np.where(folds[rows, None] == folds, -np.inf, examples.features[rows] @ examples.features.T)
        best = nearest(similarity, usable[-1])
        cast = np.zeros((len(best), C))
        for rank, column in enumerate(best.T, start=1):
            np.add.at(cast, (np.arange(len(best)), examples.labels[column]), weights[column])
            if rank in usable:
                votes[usable.index(rank), rows] = cast
    for votes_NC in votes:
        yield np.log(votes_NC + 1 / C)
