"""Labels that are probably wrong, ranked, from out-of-fold probabilities: a list to look at, never to correct by itself.

Shapes: N cases · C classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipzoo.errors import ConfigError, DataError

Method = Literal["self_confidence", "normalised_margin", "cleanlab"]

_METHODS = ("self_confidence", "normalised_margin", "cleanlab")


@dataclass(frozen=True, eq=False)
class LabelRanking:
    """Labelled cases, the most suspicious first.

    Attributes:
        rows: ``[N]`` int64 row of each case in the arrays that were given.
        given: ``[N]`` int64 given class.
        suggested: ``[N]`` int64 class with the largest probability; may be the given one.
        scores: ``[N]`` float64 quality of the label, in [0, 1], low if suspicious.
        is_issue: ``[N]`` bool: confident learning counts the label as wrong.
    """

    rows: np.ndarray
    given: np.ndarray
    suggested: np.ndarray
    scores: np.ndarray
    is_issue: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def rank_labels(labels: np.ndarray, probabilities: np.ndarray, *, method: Method = "self_confidence") -> LabelRanking:
    """Rank labels by how little the model, which did not train on the case, believes them.

    Args:
        labels: ``[N]`` int given classes; cases with -1 are excluded.
        probabilities: ``[N, C]`` float out-of-fold probabilities; cases with NaN are excluded.
        method: ``'self_confidence'``: by the probability of the given class. ``'normalised_margin'``: by its lead over the largest other
            probability. ``'cleanlab'``: what the package counts as wrong comes first, then by self-confidence.

    Raises:
        ConfigError: The method is unknown, or cleanlab is not installed.
        DataError: The arrays differ in length.

    Source: Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels"; ``is_issue`` is the confident
    joint off its diagonal, and ``'cleanlab'`` prunes by the noise rate instead, which flags more labels. In
    ``benchmarks/label_errors.py`` self-confidence and cleanlab find about as many planted errors, and the margin fewer on noisy images.
    """
    if method not in _METHODS:
        raise ConfigError(f"suspicious labels: method is {method!r}. Allowed are {', '.join(map(repr, _METHODS))}")
    labels_N, probabilities_NC = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if len(labels_N) != len(probabilities_NC):
        raise DataError(f"suspicious labels: {len(labels_N)} labels, {len(probabilities_NC)} rows of probabilities. Both need one per case")
    rows = np.flatnonzero((labels_N >= 0) & np.isfinite(probabilities_NC).all(axis=1))
    labels_N, probabilities_NC = labels_N[rows].astype(np.int64), probabilities_NC[rows]
    if not len(rows) or probabilities_NC.shape[1] < 2:  # no other class to suggest
        is_issue_N = np.zeros(len(rows), dtype=bool)
    else:
        is_issue_N = (_found_by_cleanlab if method == "cleanlab" else confident_joint_issues)(labels_N, probabilities_NC)
    scores_N = _lead(labels_N, probabilities_NC) if method == "normalised_margin" else probabilities_NC[np.arange(len(rows)), labels_N]
    order = np.lexsort((scores_N, ~is_issue_N)) if method == "cleanlab" else np.argsort(scores_N, kind="stable")
    suggested_N = probabilities_NC.argmax(axis=1) if len(rows) else np.zeros(0, dtype=np.int64)
    return LabelRanking(rows[order], labels_N[order], suggested_N[order], scores_N[order], is_issue_N[order])


def confident_joint_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``[N]`` bool: off the diagonal of the confident joint.

    A case counts towards a class if its probability reaches the mean over the cases labelled so; towards the most probable of several. Its
    label is counted as wrong if that is another class. Labels must be known and probabilities finite.

    Source: Northcutt et al. 2021, the confident joint.
    """
    num_classes = probabilities.shape[1]
    own_N = probabilities[np.arange(len(labels)), labels]
    counts_C = np.bincount(labels, minlength=num_classes)
    sums_C = np.bincount(labels, weights=own_N, minlength=num_classes)
    expected_C = np.divide(sums_C, counts_C, out=np.full(num_classes, np.inf), where=counts_C > 0)
    reached_NC = probabilities >= expected_C - 1e-12  # of equal probabilities, rounding must not lift the mean above them
    return reached_NC.any(axis=1) & (np.where(reached_NC, probabilities, -1).argmax(axis=1) != labels)


def _lead(labels_N: np.ndarray, probabilities_NC: np.ndarray) -> np.ndarray:
    """``[N]`` (p of the given class - largest other p + 1) / 2."""
    own_N = probabilities_NC[np.arange(len(labels_N)), labels_N]
    others_NC = np.where(np.arange(probabilities_NC.shape[1]) == labels_N[:, None], -np.inf, probabilities_NC)
    return (own_N - np.maximum(others_NC.max(axis=1, initial=-np.inf), 0) + 1) / 2


def _found_by_cleanlab(labels_N: np.ndarray, probabilities_NC: np.ndarray) -> np.ndarray:
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        message = "suspicious labels: method 'cleanlab' requires the package cleanlab. Run pip install cleanlab, or use 'self_confidence'"
        raise ConfigError(message) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it flags nothing in a class without cases
        return find_label_issues(labels_N, probabilities_NC, n_jobs=1)
