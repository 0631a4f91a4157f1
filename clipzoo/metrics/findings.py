"""Metrics of several labels per case (findings), computed by scikit-learn. Unknown answers do not count.

Shapes: N cases · C findings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipzoo.config.arguments import Share
from clipzoo.metrics.base import FindingsMetric
from clipzoo.registries import METRICS


@METRICS.register_module()
class MeanAUROC(FindingsMetric):
    """Area under the ROC curve of every finding, averaged over those that are present in some known case and absent in another.

    NaN if there is no such finding.
    """

    name = "mean_auroc"

    def score(self, findings: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return _mean(auroc_per_finding(findings, probabilities))


@METRICS.register_module()
class MeanAveragePrecision(FindingsMetric):
    """Average precision (AUPRC) of every finding, averaged over the same findings as ``MeanAUROC``.

    Chance is the share of present cases, so that values of data with other shares are not comparable.
    """

    name = "mean_average_precision"

    def score(self, findings: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        return _mean(average_precision_per_finding(findings, probabilities))


@METRICS.register_module()
class BinaryLogLoss(FindingsMetric):
    """Mean over all known answers of -ln(probability of the right one), in nats; probabilities are clipped at 2e-16."""

    name = "binary_log_loss"
    greater_is_better = False

    def score(self, findings: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        from sklearn.metrics import log_loss

        known = findings >= 0
        return log_loss(findings[known], probabilities[known], labels=[0, 1])


@METRICS.register_module()
class MicroF1(FindingsMetric):
    """F1 of all known answers of all findings together, which are called present from a fixed probability on.

    NaN if nothing is present and nothing is called present. Thresholds chosen on val, one for each finding, are in the summary.

    Args:
        threshold: Lowest probability that is called present. Its default gives the name ``micro_f1``, and 0.3 ``micro_f1_at_0.3``.

    Raises:
        ConfigError: ``threshold`` is out of range.
    """

    def __init__(self, threshold: Share = 0.5):
        self.threshold = threshold
        self.name = "micro_f1" if threshold == 0.5 else f"micro_f1_at_{threshold:g}"

    def score(self, findings: np.ndarray, probabilities: np.ndarray) -> float:
        """See the class."""
        from sklearn.metrics import f1_score

        known = findings >= 0
        called = probabilities[known] >= self.threshold
        return f1_score(findings[known], called) if called.any() or (findings == 1).any() else float("nan")


def auroc_per_finding(findings: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``[C]`` area under the ROC curve; NaN for a finding that is present in all known cases, or in none."""
    from sklearn.metrics import roc_auc_score

    return _per_finding(roc_auc_score, findings, probabilities)


def average_precision_per_finding(findings: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``[C]`` average precision; NaN for a finding that is present in all known cases, or in none."""
    from sklearn.metrics import average_precision_score

    return _per_finding(average_precision_score, findings, probabilities)


def _per_finding(function: Callable, findings: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    values = np.full(findings.shape[1], np.nan)
    for c in range(len(values)):
        known = findings[:, c] >= 0
        present = findings[known, c] == 1
        if present.any() and not present.all():
            values[c] = function(present, probabilities[known, c])
    return values


def _mean(values: np.ndarray) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
