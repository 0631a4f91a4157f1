"""Metrics of several labels per case as functions of case weights, for thousands of resamples at once.

Weights of 1 give the numbers of ``clipzoo.metrics.findings``. Unknown answers count in no metric.

Shapes: N cases · C findings · B resamples · T distinct scores of a finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipzoo.records.findings_table import FindingsTable
from clipzoo.statistics.cases import group_codes
from clipzoo.statistics.scores import Curve, Scores, mean_of_defined, ratio

OVERALL = ("mean_auroc", "mean_average_precision", "binary_log_loss", "micro_f1")
PER_FINDING = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "f1")
MEANS = {"mean_auroc": "auroc", "mean_average_precision": "average_precision"}

_SMALLEST = np.finfo(np.float64).eps  # scikit-learn's clipping of probabilities in the log loss
_BLOCK = 128  # resamples at a time


@dataclass(frozen=True, eq=False)
class FindingCases:
    """The cases of a table of which any finding is known.

    Attributes:
        classes: Names of the C findings.
        findings: ``[N, C]`` int8: 1 present, 0 absent, -1 unknown.
        probabilities: ``[N, C]`` float64.
        called: ``[N, C]`` int8: 1 called present, 0 called absent, -1 where there is no threshold.
        groups: ``[N]`` int64 codes in [0, G): cases that are resampled together.
    """

    classes: tuple[str, ...]
    findings: np.ndarray
    probabilities: np.ndarray
    called: np.ndarray
    groups: np.ndarray

    @classmethod
    def from_table(cls, table: FindingsTable, thresholds: Mapping[str, Mapping[str, float | None]] | None = None) -> FindingCases:
        """Call the findings of each case present or absent by the thresholds of its fold.

        Args:
            table: Cases; one with an empty group name is a group of its own.
            thresholds: Lowest probability that is called present, by fold and finding; ``None`` where there is none.
        """
        rows = np.flatnonzero((table.findings >= 0).any(axis=1))
        of_fold = {
            fold: np.array([np.nan if found.get(name) is None else found[name] for name in table.classes], dtype=np.float64)
            for fold, found in (thresholds or {}).items()
        }
        none = np.full(len(table.classes), np.nan)
        limits = np.array([of_fold.get(table.folds[row], none) for row in rows]).reshape(len(rows), len(table.classes))
        probabilities = table.probabilities[rows].astype(np.float64)
        called = np.where(np.isnan(limits), -1, probabilities >= limits).astype(np.int8)
        return cls(table.classes, table.findings[rows], probabilities, called, group_codes([table.groups[row] for row in rows]))

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def num_groups(self) -> int:
        """G."""
        return int(self.groups.max()) + 1 if len(self) else 0

    @property
    def finite(self) -> bool:
        """Whether the probabilities of all known answers are finite; otherwise all metrics are NaN."""
        return bool(np.isfinite(self.probabilities[self.findings >= 0]).all())

    @cached_property
    def curves(self) -> list[FindingCurve]:
        """One per finding."""
        return [FindingCurve.of(self.findings[:, c], self.probabilities[:, c]) for c in range(len(self.classes))]

    @cached_property
    def losses(self) -> np.ndarray:
        """``[N]`` float64 sum over the known answers of a case of -ln(probability of the right one)."""
        right = np.where(self.findings == 1, self.probabilities, 1 - self.probabilities)
        return np.where(self.findings >= 0, -np.log(np.clip(right, _SMALLEST, 1 - _SMALLEST)), 0).sum(axis=1)


@dataclass(frozen=True, eq=False)
class FindingCurve:
    """The known cases of a finding, by falling score.

    Attributes:
        rows: ``[n]`` int64 rows of the known cases, by falling score.
        present: ``[n]`` float64 1 where the finding is present.
        ends: ``[T]`` int64 last place of each distinct score.
        roc: What the AUROC needs, over the cases in the order of ``rows``.
    """

    rows: np.ndarray
    present: np.ndarray
    ends: np.ndarray
    roc: Curve

    @classmethod
    def of(cls, findings: np.ndarray, scores: np.ndarray) -> FindingCurve:
        """From ``[N]`` answers and ``[N]`` scores."""
        known = np.flatnonzero(findings >= 0)
        rows = known[np.argsort(-scores[known], kind="stable")]
        ordered, present = scores[rows], findings[rows] == 1
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(rows) else np.zeros(0, dtype=np.int64)
        return cls(rows, present.astype(np.float64), ends, Curve.of(ordered, present))

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """``[B]`` sum over the distinct scores of (recall gained there) times (precision there); NaN unless both answers occur.

        Args:
            weights: ``[B, N]`` multiplicities.

        Source: scikit-learn's ``average_precision_score``, without interpolation.
        """
        own = weights[:, self.rows].astype(np.float64)
        found = np.cumsum(own * self.present, axis=1)[:, self.ends]
        called = np.cumsum(own, axis=1)[:, self.ends]
        if not len(self.rows):
            return np.full(len(weights), np.nan)
        gained = np.diff(found, axis=1, prepend=0.0)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total = np.where(called[:, -1] > found[:, -1], found[:, -1], 0.0)
        return ratio((gained * precision).sum(axis=1), total)


def weighted_finding_scores(cases: FindingCases, weights: np.ndarray) -> Scores:
    """Every metric under every row of weights; per finding those of ``PER_FINDING``, NaN where undefined.

    Args:
        cases: N cases.
        weights: ``[B, N]`` multiplicities, 0 or more.
    """
    weights = np.asarray(weights)
    starts = range(0, max(len(weights), 1), _BLOCK)
    scores = Scores.join([_scores_of_block(cases, weights[first : first + _BLOCK].astype(np.float32)) for first in starts])
    if not cases.finite:
        for values in (*scores.overall.values(), *scores.per_class.values()):
            values[:] = np.nan
    return scores


def _scores_of_block(cases: FindingCases, weights: np.ndarray) -> Scores:
    present, absent, decided = cases.findings == 1, cases.findings == 0, cases.called >= 0
    called = cases.called == 1

    def count(where: np.ndarray) -> np.ndarray:  # [B, C]
        return weights.astype(np.float64) @ where.astype(np.float64)

    hits, false_alarms = count(present & called), count(absent & called)
    misses, rejections = count(present & decided & ~called), count(absent & decided & ~called)
    per_finding = {
        "auroc": np.stack([curve.roc.areas(weights[:, curve.rows]) for curve in cases.curves], axis=1),
        "average_precision": np.stack([curve.average_precision(weights) for curve in cases.curves], axis=1),
        "sensitivity": ratio(hits, hits + misses),
        "specificity": ratio(rejections, rejections + false_alarms),
        "ppv": ratio(hits, hits + false_alarms),
        "npv": ratio(rejections, rejections + misses),
        "f1": ratio(2 * hits, 2 * hits + false_alarms + misses),
    }
    likely = cases.probabilities >= 0.5
    right, wrong = count(present & likely).sum(axis=1), count((present & ~likely) | (absent & likely)).sum(axis=1)
    overall = {
        **{name: mean_of_defined(per_finding[of_finding]) for name, of_finding in MEANS.items()},
        "binary_log_loss": ratio(weights.astype(np.float64) @ cases.losses, count(cases.findings >= 0).sum(axis=1)),
        "micro_f1": ratio(2 * right, 2 * right + wrong),
    }
    return Scores(overall, per_finding)
