"""Classification metrics, computed by scikit-learn.

The predicted class is that of the highest probability, the lowest index on ties. A class without cases has no recall and is excluded
from averages over classes; counting it as 0 would penalise a fold for classes it does not contain.
A class with cases that was never predicted has precision and F1 of 0, as in scikit-learn.

Shapes: N cases · C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipzoo.metrics.base import Metric
from clipzoo.registries import METRICS


@METRICS.register_module()
class Accuracy(Metric):
    """Share of cases whose predicted class is correct."""

    name = "accuracy"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return (labels == probabilities.argmax(axis=1)).mean()


@METRICS.register_module()
class BalancedAccuracy(Metric):
    """Mean recall of the classes that have cases, each with the same weight."""

    name = "balanced_accuracy"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return np.nanmean(_precision_recall_f1(labels, probabilities)[1])


@METRICS.register_module()
class MacroF1(Metric):
    """Mean F1 of the classes that have cases."""

    name = "macro_f1"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return np.nanmean(_precision_recall_f1(labels, probabilities)[2])


@METRICS.register_module()
class MacroPrecision(Metric):
    """Mean precision of the classes that have cases; 0 for a class that was never predicted."""

    name = "macro_precision"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return np.nanmean(_precision_recall_f1(labels, probabilities)[0])


@METRICS.register_module()
class MacroRecall(Metric):
    """Mean recall of the classes that have cases; equal to ``BalancedAccuracy``, under the usual name next to precision."""

    name = "macro_recall"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return np.nanmean(_precision_recall_f1(labels, probabilities)[1])


@METRICS.register_module()
class AUROC(Metric):
    """Area under the ROC curve, one-vs-rest, averaged over the classes that have both positive and negative cases.

    NaN if there is no such class, that is, if all cases belong to one class.
    """

    name = "auroc"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        areas = _one_vs_rest_auroc(labels, probabilities)
        return float("nan") if np.isnan(areas).all() else np.nanmean(areas)


@METRICS.register_module()
class LogLoss(Metric):
    """Mean of -ln(probability of the true class), in nats; probabilities are clipped at 2e-16."""

    name = "log_loss"
    greater_is_better = False

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        shares = probabilities / probabilities.sum(axis=1, keepdims=True)  # rows of a float32 softmax sum to 1 only up to 1e-7
        least = np.finfo(np.float64).eps
        return -np.log(shares[np.arange(len(labels)), labels].clip(least, 1 - least)).mean() if shares.shape[1] > 1 else 0.0


@METRICS.register_module()
class QuadraticWeightedKappa(Metric):
    """Agreement beyond chance of graded labels, by Cohen's kappa with quadratic weights: 1 is perfect, 0 is chance, below 0 is worse.

    A case predicted two grades off counts four times as much as one predicted one grade off. The grades are the classes in label order,
    so check that order: ``classes`` of the dataset sets it. NaN if all labels and predictions are of one class.

    Source: Cohen 1968, "Weighted kappa: nominal scale agreement with provision for scaled disagreement or partial credit".
    """

    name = "quadratic_weighted_kappa"

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        from sklearn.metrics import cohen_kappa_score

        predicted = probabilities.argmax(axis=1)
        if len(np.union1d(labels, predicted)) < 2:  # scikit-learn divides 0 by 0
            return float("nan")
        return cohen_kappa_score(labels, predicted, labels=np.arange(probabilities.shape[1]), weights="quadratic")


def per_class(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> list[dict[str, object]]:
    """One row per class, in the order of ``classes``.

    Args:
        labels: ``[N]`` int true classes; cases with -1 are ignored.
        probabilities: ``[N, C]`` float.
        classes: Names of the C classes.

    Returns:
        Dicts with ``class``, ``cases`` (number of cases), ``precision``, ``recall``, ``f1`` and ``auroc``; the scores of a class without
        cases are NaN, and so is the AUROC of a class that contains all cases. All scores are NaN if a probability is not finite.
    """
    known = labels >= 0
    labels, probabilities = labels[known], probabilities[known]
    cases = np.bincount(labels, minlength=len(classes))
    if np.isfinite(probabilities).all():
        scores = [*_precision_recall_f1(labels, probabilities), _one_vs_rest_auroc(labels, probabilities)]
    else:
        scores = [np.full(len(classes), np.nan)] * 4
    names = ("precision", "recall", "f1", "auroc")
    return [
        {"class": name, "cases": int(cases[c]), **{key: float(values[c]) for key, values in zip(names, scores, strict=True)}}
        for c, name in enumerate(classes)
    ]


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``[C, C]`` int64 counts: rows are true classes, columns predicted ones; cases with label -1 or with NaN are ignored."""
    known, num_classes = (labels >= 0) & ~np.isnan(probabilities).any(axis=1), probabilities.shape[1]
    pairs = labels[known].astype(np.int64) * num_classes + probabilities[known].argmax(axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def _precision_recall_f1(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``[3, C]`` precision, recall and F1 of every class; NaN for a class without cases."""
    choices, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    correct = labels[labels == choices]
    right, cases, predicted = (np.bincount(each.astype(np.int64), minlength=num_classes) for each in (correct, labels, choices))
    precision, recall = right / predicted.clip(1), right / cases.clip(1)  # 0 for a class that was never predicted
    return np.where(cases > 0, [precision, recall, 2 * right / (cases + predicted).clip(1)], np.nan)


def _one_vs_rest_auroc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``[C]`` one-vs-rest area under the ROC curve; NaN for a class with no cases or all cases.

    The area is the share of pairs of a positive and a negative case in which the positive one has the larger probability; ties count half.
    """
    areas = np.full(probabilities.shape[1], np.nan)
    for c in range(len(areas)):
        positives, negatives = probabilities[labels == c, c], np.sort(probabilities[labels != c, c])
        if len(positives) and len(negatives):
            below, not_above = (np.searchsorted(negatives, positives, side).sum() for side in ("left", "right"))
            areas[c] = (below + not_above) / (2 * len(positives) * len(negatives))
    return areas
