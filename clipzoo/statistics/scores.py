"""Classification metrics as functions of case weights, for thousands of resamples at once.

A weight is a multiplicity: weights 0, 1, 2 … give what scikit-learn gives for the repeated rows, and weights of 1 give the numbers of
``clipzoo.metrics``. The predicted class is that of the highest probability, the lowest index on ties.

Shapes: N cases · C classes · B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipzoo.statistics.cases import Cases

OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall", "auroc", "log_loss", "brier")
GRADED = "quadratic_weighted_kappa"  # computed on request only: it has a meaning where the order of the classes has one
PER_CLASS = ("sensitivity", "specificity", "ppv", "npv", "precision", "f1", "auroc")
MACRO = {
    "balanced_accuracy": "sensitivity",
    "macro_f1": "f1",
    "macro_precision": "precision",
    "macro_recall": "sensitivity",
    "auroc": "auroc",
}

_SMALLEST = np.finfo(np.float64).eps  # scikit-learn's clipping of probabilities in the log loss
_BLOCK = 128  # resamples at a time: 128 x 1000 float32 weights stay in the cache of a core


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of B resamples; NaN where a metric is undefined.

    Attributes:
        overall: ``[B]`` float64 values by metric.
        per_class: ``[B, C]`` float64 values by metric; empty for retrieval.
    """

    overall: dict[str, np.ndarray]
    per_class: dict[str, np.ndarray]

    @classmethod
    def join(cls, parts: list[Scores]) -> Scores:
        """Concatenate along B."""
        overall, per_class = ({name: np.concatenate([getattr(part, kind)[name] for part in parts]) for name in getattr(parts[0], kind)}
                              for kind in ("overall", "per_class"))  # fmt: skip
        return cls(overall, per_class)

    def take(self, row: int) -> Scores:
        """A single resample, with its axis B of length 1."""
        rows = slice(row, row + 1)
        return Scores({name: v[rows] for name, v in self.overall.items()}, {name: v[rows] for name, v in self.per_class.items()})


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What the metrics need of each case.

    Attributes:
        labels: ``[N]`` int64 true classes.
        predicted: ``[N]`` int64 predicted classes.
        losses: ``[N, 2]`` float64 log loss in nats and Brier score of each case.
        ranks: ``[N, C]`` int64 dense rank of the class probability among all cases; equal probabilities have the same rank.
        finite: Whether all probabilities are finite; otherwise all metrics are NaN.
        graded: Whether the classes are grades in order, for which kappa is computed too.
    """

    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    ranks: np.ndarray
    finite: bool
    graded: bool = False

    @classmethod
    def of(cls, cases: Cases, *, graded: bool = False) -> Outcomes:
        """Log loss: -ln(p of the true class), with p rescaled to sum to 1 and clipped at 2e-16, in nats.

        Brier score: sum over classes of (p - y)^2, in [0, 2]; for two classes, twice the binary one. Source: Brier 1950, equation 2.
        """
        probabilities, labels = cases.probabilities, cases.labels
        finite = bool(np.isfinite(probabilities).all())
        if not finite:
            probabilities = np.full_like(probabilities, 1 / max(len(cases.classes), 1))
        rows = np.arange(len(labels))
        with np.errstate(invalid="ignore"):
            true = (probabilities / probabilities.sum(axis=1, keepdims=True))[rows, labels]
        log_loss = -np.log(np.clip(true, _SMALLEST, 1 - _SMALLEST)) if len(cases.classes) > 1 else np.zeros(len(labels))
        brier = (probabilities**2).sum(axis=1) - 2 * probabilities[rows, labels] + 1
        ranks = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in probabilities.T]
        predicted = probabilities.argmax(axis=1) if len(labels) else np.zeros(0, dtype=np.int64)
        return cls(labels, predicted, np.stack([log_loss, brier], axis=1), np.stack(ranks, axis=1), finite, graded)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.ranks.shape[1]

    @classmethod
    def join(cls, first: Outcomes, second: Outcomes) -> Outcomes:
        """Concatenate the outcomes of two models. Ranks stay those within each model: scores of two models have no common scale."""
        columns = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("labels", "predicted", "losses"))
        # As shares of (0, 1), since models differ in the number of distinct probabilities.
        shares = np.concatenate([_mean_shares(ranks) for ranks in (first.ranks, second.ranks)])
        ranks = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in shares.T]
        return cls(*columns, np.stack(ranks, axis=1), first.finite and second.finite)

    @cached_property
    def counted(self) -> np.ndarray:
        """``[N, 3C]`` float32 indicators: correct and of class c, of class c, predicted as class c."""
        classes = np.arange(self.num_classes)
        of_class, as_class = self.labels[:, None] == classes, self.predicted[:, None] == classes
        return np.concatenate([of_class & as_class, of_class, as_class], axis=1).astype(np.float32)

    @cached_property
    def curves(self) -> list[Curve]:
        """What the AUROC of each class needs."""
        return [Curve.of(self.ranks[:, c], self.labels == c) for c in range(self.num_classes)]


def weighted_scores(outcomes: Outcomes, weights: np.ndarray) -> Scores:
    """Every classification metric under every row of weights.

    Per class: ``sensitivity`` (recall), ``specificity``, ``ppv`` and ``npv`` (NaN if never predicted or always), ``precision`` (like
    ``ppv``, but 0 if never predicted, and NaN for a class without cases), ``f1`` and the one-vs-rest ``auroc``, in which ties count half.
    Macro averages are over the classes for which the metric is defined.

    Args:
        outcomes: N cases.
        weights: ``[B, N]`` multiplicities, 0 or more; exact up to a total of 2^24 per row.
    """
    weights = np.asarray(weights)
    blocks = [_scores_of_block(outcomes, weights[first : first + _BLOCK].astype(np.float32)) for first in range(0, len(weights), _BLOCK)]
    scores = Scores.join(blocks or [_scores_of_block(outcomes, np.zeros((0, len(outcomes)), dtype=np.float32))])
    if not outcomes.finite:
        for values in (*scores.overall.values(), *scores.per_class.values()):
            values[:] = np.nan
    return scores


def point_scores(outcomes: Outcomes) -> Scores:
    """The metrics of the cases as they are, with B = 1."""
    return weighted_scores(outcomes, np.ones((1, len(outcomes))))


def _scores_of_block(outcomes: Outcomes, weights: np.ndarray) -> Scores:
    hits, cases, predictions = np.split((weights @ outcomes.counted).astype(np.float64), 3, axis=1)
    total = weights.sum(axis=1, dtype=np.float64)
    all_cases = total[:, None]
    true_negatives = all_cases - cases - predictions + hits
    has_cases = cases > 0
    per_class = {
        "sensitivity": ratio(hits, cases),
        "specificity": ratio(true_negatives, all_cases - cases),
        "ppv": ratio(hits, predictions),
        "npv": ratio(true_negatives, all_cases - predictions),
        "precision": np.where(has_cases, ratio(hits, np.maximum(predictions, 1e-30)), np.nan),
        "f1": np.where(has_cases, ratio(2 * hits, cases + predictions), np.nan),
        "auroc": np.stack([curve.areas(weights) for curve in outcomes.curves], axis=1),
    }
    losses = weights.astype(np.float64) @ outcomes.losses
    overall = {
        "accuracy": ratio(hits.sum(axis=1), total),
        **{name: mean_of_defined(per_class[of_class]) for name, of_class in MACRO.items()},
        "log_loss": ratio(losses[:, 0], total),
        "brier": ratio(losses[:, 1], total),
    }
    graded = {GRADED: _quadratic_weighted_kappa(outcomes, weights, cases, predictions)} if outcomes.graded else {}
    return Scores({**{name: overall[name] for name in OVERALL}, **graded}, per_class)


def _quadratic_weighted_kappa(outcomes: Outcomes, weights: np.ndarray, cases: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """``[B]`` Cohen's kappa with weights (i - j)^2 between the grades i and j; NaN where everything is of one grade.

    Observed disagreement is a sum over the cases. That expected by chance, the sum over i and j of (i - j)^2 n_i m_j / N, needs only the
    moments of the ``[B, C]`` counts n of labels and m of predictions.
    """
    grades = np.arange(cases.shape[1], dtype=np.float64)
    observed = weights.astype(np.float64) @ ((outcomes.labels - outcomes.predicted) ** 2).astype(np.float64)
    squares = (cases + predictions) @ grades**2
    expected = squares - 2 * ratio((cases @ grades) * (predictions @ grades), cases.sum(axis=1))
    return 1 - ratio(observed, np.where(expected > 1e-9 * (squares + 1), expected, 0))


@dataclass(frozen=True, eq=False)
class Curve:
    """What an AUROC needs: cases of a class (P of them) and the others, in the order of their scores.

    Attributes:
        positives: ``[P]`` rows of the cases of the class.
        negatives: ``[N - P]`` rows of the others, by rising score.
        below: ``[P]`` number of negatives with a lower score than each positive.
        not_above: ``[P]`` the same with those that have an equal score.
    """

    positives: np.ndarray
    negatives: np.ndarray
    below: np.ndarray
    not_above: np.ndarray

    @classmethod
    def of(cls, ranks: np.ndarray, of_class: np.ndarray) -> Curve:
        """From ``[N]`` ranks or scores, and ``[N]`` bool."""
        positives, negatives = np.flatnonzero(of_class), np.flatnonzero(~of_class)
        negatives = negatives[np.argsort(ranks[negatives], kind="stable")]
        below, not_above = (np.searchsorted(ranks[negatives], ranks[positives], side) for side in ("left", "right"))
        return cls(positives, negatives, below, not_above)

    def areas(self, weights: np.ndarray) -> np.ndarray:
        """``[B]`` weighted share of pairs of a positive and a negative in the right order, ties counting half.

        Source: Hanley and McNeil 1982; the sum over pairs is a cumulative sum over the negatives in order.
        """
        columns = np.ascontiguousarray(weights.T)
        cumulative = np.zeros((len(self.negatives) + 1, columns.shape[1]), dtype=np.float32)
        np.cumsum(columns[self.negatives], axis=0, out=cumulative[1:])
        positive = columns[self.positives]
        wins = (positive * (cumulative[self.below] + cumulative[self.not_above])).sum(axis=0, dtype=np.float64) / 2
        return ratio(wins, positive.sum(axis=0, dtype=np.float64) * cumulative[-1])


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole`` in float64, NaN where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN if there is nothing else."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _mean_shares(ranks: np.ndarray) -> np.ndarray:
    """``[N, C]`` mid-rank of every score among the N, divided by N; rounded, so that equal ones of two models are equal."""
    shares = np.empty(ranks.shape)
    for c, column in enumerate(ranks.T):
        counts = np.bincount(column)
        shares[:, c] = ((np.cumsum(counts) - (counts - 1) / 2) / len(column))[column]
    return shares.round(12)


def flattened(scores: Scores) -> Iterator[tuple[str, int | None, np.ndarray]]:
    """Metric, class (``None`` for overall ones) and ``[B]`` values of every number."""
    for name, values in scores.overall.items():
        yield name, None, values
    for name, values in scores.per_class.items():
        for c in range(values.shape[1]):
            yield name, c, values[:, c]
