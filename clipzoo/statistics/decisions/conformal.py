"""Prediction sets: the classes that cannot be excluded at a wanted coverage, fitted on the val part of a fold, applied to its test part.

The score of a class is its probability (LAC, "least ambiguous set-valued classifiers"), which gives the smallest sets on average.
Adaptive prediction sets (APS, Romano et al. 2020) even out the coverage between easy and hard cases instead, but need larger sets and
random numbers to be exact; coverage per class, which matters more with rare classes, comes from thresholds per class here.

Shapes: N cases · C classes · G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.proportions import ClusteredProportion, rao_scott_wilson

Conditional = Literal["marginal", "label"]

_ROUNDING = 1e-9  # in sums of weights and in (n + 1)(1 - alpha)


@dataclass(frozen=True, eq=False)
class ConformalThresholds:
    """Fitted thresholds.

    Attributes:
        thresholds: ``[C]`` float64 lowest probability at which a class is in the set; 0 if it always is.
        categories: ``[C]`` int64 codes; coverage is guaranteed for all classes of a category together.
        groups: ``[C]`` int64 groups in the category of each class, as fitted.
        alpha: Wanted share of sets without the true class.
        note: Which classes share a threshold, or that there were too few groups; empty otherwise.
    """

    thresholds: np.ndarray
    categories: np.ndarray
    groups: np.ndarray
    alpha: float
    note: str = ""


@dataclass(frozen=True)
class SetQuality:
    """What prediction sets achieved.

    Attributes:
        coverage: Share of sets with the true class.
        coverage_per_class: The same among the cases of each class.
        mean_size: Mean number of classes in a set.
        singletons: Share of sets with one class.
        empty: Share of sets with none: cases unlike all of val.
    """

    coverage: ClusteredProportion
    coverage_per_class: tuple[ClusteredProportion, ...]
    mean_size: float
    singletons: float
    empty: float


def fit_conformal(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    alpha: float = 0.1,
    conditional: Conditional = "label",
) -> ConformalThresholds:
    """Choose thresholds whose sets contain the true class of a new case with a probability of at least 1 - alpha.

    This holds exactly for a random case of a new group, whatever the model, if groups are exchangeable between val and test. It holds
    on average over val parts: for a given one, the coverage varies around it with the number of groups.

    Classes that val has fewer than ⌈1 / alpha⌉ - 1 groups of would be in every set. They share a threshold, for which the smallest other
    classes are added until there are enough groups; coverage then holds for these classes together, not for each.

    Args:
        labels: ``[N]`` int true classes of the val part; cases with -1 are excluded.
        probabilities: ``[N, C]`` float; a case with NaN counts as one whose class no threshold would include.
        groups: ``[N]`` int codes; ``None``: every case is a group. Groups weigh the same, however many cases they have.
        alpha: Between 0 and 1.
        conditional: One threshold for all classes, or coverage within each class (or small classes together).

    Raises:
        ConfigError: ``alpha`` or ``conditional`` is not allowed.
        DataError: The arrays differ in length.

    Source: Sadinle, Lei and Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels"; by class: Vovk 2012,
    "Conditional validity of inductive conformal predictors"; by group: Lee, Barber and Willett 2023, "Distribution-free inference with
    hierarchical data". With one case per group, the quantile is the usual one, ⌈(n + 1)(1 - alpha)⌉ / n.
    """
    groups_N = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _check(len(labels), len(probabilities), len(groups_N), alpha, conditional)
    labels_N, probabilities_NC = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    known = labels_N >= 0
    labels_N, probabilities_NC, groups_N = labels_N[known], probabilities_NC[known], groups_N[known]
    needed = ceil(1 / alpha - _ROUNDING) - 1
    num_classes = probabilities_NC.shape[1]
    groups_C = np.array([len(np.unique(groups_N[labels_N == c])) for c in range(num_classes)], dtype=np.int64)
    categories_C = _categories(labels_N, groups_N, groups_C, needed) if conditional == "label" else np.zeros(num_classes, dtype=np.int64)
    true_N = np.where(np.isfinite(probabilities_NC).all(axis=1), probabilities_NC[np.arange(len(labels_N)), labels_N], -np.inf)
    thresholds_C, in_category_C = np.zeros(num_classes), np.zeros(num_classes, dtype=np.int64)
    for category in np.unique(categories_C):
        rows, of_category = categories_C[labels_N] == category, categories_C == category
        thresholds_C[of_category] = _threshold(true_N[rows], groups_N[rows], alpha)
        in_category_C[of_category] = len(np.unique(groups_N[rows]))
    return ConformalThresholds(
        thresholds_C, categories_C, in_category_C, alpha, _note(categories_C, groups_C, in_category_C, needed, conditional)
    )


def prediction_sets(probabilities: np.ndarray, fitted: ConformalThresholds) -> np.ndarray:
    """``[N, C]`` bool: whether a class is in the set of a case; all are if the probabilities are NaN.

    Args:
        probabilities: ``[N, C]`` float of the test part, of the same model.
        fitted: Thresholds from the val part.
    """
    probabilities_NC = np.asarray(probabilities, dtype=np.float64)
    undefined_N = ~np.isfinite(probabilities_NC).all(axis=1)
    return (probabilities_NC >= fitted.thresholds) | undefined_N[:, None]


def set_quality(sets: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, level: float = 0.95) -> SetQuality:
    """Coverage that was reached, with intervals over groups, and how much the sets say.

    Args:
        sets: ``[N, C]`` bool, of all test parts, each with the thresholds of its fold.
        labels: ``[N]`` int true classes; cases with -1 are excluded.
        groups: ``[N]`` int codes.
        level: Confidence level.
    """
    known = np.asarray(labels) >= 0
    sets_NC, labels_N, groups_N = np.asarray(sets, dtype=bool)[known], np.asarray(labels)[known], np.asarray(groups)[known]
    hit_N = sets_NC[np.arange(len(labels_N)), labels_N]
    masks = [labels_N == c for c in range(sets_NC.shape[1])]
    size_N = sets_NC.sum(axis=1)
    mean_size, singletons, empty = (float(x.mean()) if len(x) else float("nan") for x in (size_N, size_N == 1, size_N == 0))
    return SetQuality(
        coverage=rao_scott_wilson(hit_N, groups_N, level=level),
        coverage_per_class=tuple(rao_scott_wilson(hit_N[mask], groups_N[mask], level=level) for mask in masks),
        mean_size=mean_size,
        singletons=singletons,
        empty=empty,
    )


def _check(num_labels: int, num_probabilities: int, num_groups: int, alpha: float, conditional: str) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(f"conformal: alpha is {alpha:g}. It must be between 0 and 1, such as 0.1 for a coverage of 90 %")
    if conditional not in ("marginal", "label"):
        raise ConfigError(f"conformal: conditional is {conditional!r}. Allowed are 'marginal' and 'label'")
    if not num_labels == num_probabilities == num_groups:
        raise DataError(f"conformal: {num_labels} labels, {num_probabilities} probabilities, {num_groups} groups. All need one per case")


def _threshold(true_N: np.ndarray, groups_N: np.ndarray, alpha: float) -> float:
    """Largest t such that the true class has a probability of t or more in 1 - alpha of the groups, counting a new group as below t.

    0 if no t is low enough, since the new group alone has a weight of 1 / (G + 1).
    """
    if not len(true_N):
        return 0.0
    _, codes_N, sizes_G = np.unique(groups_N, return_inverse=True, return_counts=True)
    weight_N = 1 / ((len(sizes_G) + 1) * sizes_G[codes_N.reshape(-1)])
    order = np.argsort(-true_N, kind="stable")
    reached = np.flatnonzero(np.cumsum(weight_N[order]) >= 1 - alpha - _ROUNDING)
    return max(float(true_N[order[reached[0]]]), 0.0) if len(reached) else 0.0


def _categories(labels_N: np.ndarray, groups_N: np.ndarray, groups_C: np.ndarray, needed: int) -> np.ndarray:
    """``[C]`` int64 codes: one of its own for each class with enough groups, 0 for the others together."""
    order = np.argsort(groups_C, kind="stable")
    joined = int((groups_C < needed).sum())  # the smallest classes
    while 0 < joined < len(order) and len(np.unique(groups_N[np.isin(labels_N, order[:joined])])) < needed:
        joined += 1
    categories_C = np.zeros(len(order), dtype=np.int64)
    categories_C[order[joined:]] = np.arange(len(order) - joined) + 1
    return np.unique(categories_C, return_inverse=True)[1].reshape(-1)


def _note(categories_C: np.ndarray, groups_C: np.ndarray, in_category_C: np.ndarray, needed: int, conditional: Conditional) -> str:
    if in_category_C.min(initial=needed) < needed:
        return f"{in_category_C.min()} groups are fewer than the {needed} needed: sets contain every class"
    if conditional == "marginal" or groups_C.min(initial=needed) >= needed:
        return ""
    shared = int((np.bincount(categories_C)[categories_C] > 1).sum())
    return f"{shared} classes share a threshold, as a class has fewer than {needed} groups: coverage holds for them together"
