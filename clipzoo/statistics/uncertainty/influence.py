"""How much each group moves each metric: the jackknife behind the standard errors, degrees of freedom and correlations.

Shapes: N cases · K blocks of groups (each a single group if there are at most 1000) · M metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.statistics.scores import Scores, flattened
from clipzoo.statistics.uncertainty.resampling import jackknife_weights, strata_of

Key = tuple[str, int | None]  # metric, and its class if it has one
Scorer = Callable[[np.ndarray], Scores]  # from weights [B, N]


@dataclass(frozen=True, eq=False)
class Influence:
    """Point values and jackknife deviations of all metrics.

    Attributes:
        points: Value of each metric.
        deviations: ``[K]`` float64 per metric, scaled so that the sum of squares is the variance; NaN where the metric is undefined
            without that block.
        strata: ``[K]`` int64 rarest class of each block; all 0 without labels.
    """

    points: dict[Key, float]
    deviations: dict[Key, np.ndarray]
    strata: np.ndarray

    @classmethod
    def of(cls, scorer: Scorer, groups: np.ndarray, labels: np.ndarray | None = None) -> Influence:
        """Leave out one group at a time.

        The variance is (K - 1) / K times the sum of squared deviations from the point value, which is never below the usual
        jackknife variance around the mean.

        Args:
            scorer: All metrics as a function of ``[B, N]`` case weights.
            groups: ``[N]`` int codes in [0, G).
            labels: ``[N]`` int classes, or ``None``.

        Source: Efron and Stein 1981; for clusters, Rust and Rao 1996, "Variance estimation for complex surveys using replication".
        """
        jackknife = jackknife_weights(groups, labels)
        num_blocks = len(jackknife.weights)
        scale = np.sqrt((num_blocks - 1) / num_blocks)
        points = {(name, c): float(values[0]) for name, c, values in flattened(scorer(np.ones((1, len(groups)), dtype=np.float32)))}
        left_out = {(name, c): values for name, c, values in flattened(scorer(jackknife.weights))}
        strata = np.zeros(num_blocks, dtype=np.int64)
        if labels is not None:
            of_group = strata_of(groups, labels)
            strata[:] = of_group.max()
            np.minimum.at(strata, jackknife.blocks, of_group)
        return cls(points, {key: scale * (points[key] - values) for key, values in left_out.items()}, strata)

    def variance(self, key: Key) -> float:
        """Squared standard error of a metric; NaN if it is undefined without one of the blocks, or if there is only one block."""
        deviations = self.deviations[key]
        return float((deviations**2).sum()) if len(deviations) > 1 else float("nan")

    def mean_deviations(self, keys: Sequence[Key]) -> np.ndarray:
        """``[K]`` deviations of the mean of metrics, in which undefined ones count as 0."""
        return np.nan_to_num(np.stack([self.deviations[key] for key in keys])).mean(axis=0)

    def degrees_of_freedom(self, deviations: np.ndarray) -> float:
        """Degrees of freedom of a variance that is the sum of the variances within strata, between 1 and K - 1.

        With most of the variance from a class with 8 groups, they are about 7, however many groups other classes have.

        Source: Satterthwaite 1946, equation 17.
        """
        squares = np.nan_to_num(deviations) ** 2
        most = float(max(len(squares) - 1, 1))
        shares = np.bincount(self.strata, weights=squares)
        own = np.maximum(np.bincount(self.strata) - 1, 1)
        if not squares.sum() > 0:
            return most
        shares = shares / squares.sum()
        return float(np.clip(1 / (shares**2 / own).sum(), 1, most))

    def effective_number(self, key: Key) -> float:
        """Effective number of blocks that contribute the variance of a metric, between 1 and K; NaN if it does not vary."""
        squares = np.nan_to_num(self.deviations[key]) ** 2
        return float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else float("nan")


def correlation(deviations: Sequence[np.ndarray]) -> np.ndarray:
    """``[M, M]`` correlations of the errors of M metrics, from ``[K]`` deviations of each; 0 where one does not vary."""
    columns = np.nan_to_num(np.stack(deviations, axis=1))
    lengths = np.sqrt((columns**2).sum(axis=0))
    columns /= np.where(lengths > 0, lengths, 1)
    found = columns.T @ columns
    np.fill_diagonal(found, 1)
    return found
