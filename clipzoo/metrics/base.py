"""Base classes of all metrics, which map the table of a part to one number.

Shapes: N cases · C classes, or findings.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clipzoo.records.tables import FindingsTable, RetrievalTable


class Metric:
    """Base class of all metrics, and of classification metrics; subclasses set ``name``, implement ``score``, and set
    ``greater_is_better`` if necessary.

    Attributes:
        name: Key in ``history.json``, in the summary and in ``evaluation.select``. Defined by the class, or by the object if it depends on
            arguments.
        greater_is_better: Whether higher values are better.
        kind: Input of the metric: labels and probabilities, retrieval ranks, or findings and their probabilities.
    """

    name: str
    greater_is_better: ClassVar[bool] = True
    kind: ClassVar[Literal["classification", "retrieval", "findings"]] = "classification"

    def compute(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Compute the metric over the cases that have a label.

        Args:
            labels: ``[N]`` int true classes in [0, C); cases with -1 are ignored.
            probabilities: ``[N, C]`` float, rows summing to 1.

        Returns:
            NaN if the metric is undefined: no case has a label, or a probability is not finite.
        """
        known = labels >= 0
        if not known.any() or not np.isfinite(probabilities[known]).all():
            return float("nan")
        return float(self.score(labels[known], probabilities[known].astype(np.float64)))

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Like ``compute``, for at least one case, all labelled and finite, in float64."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'score'")


class RetrievalMetric(Metric):
    """Base class of retrieval metrics; subclasses set ``name`` and ``directions`` and implement ``score``.

    Attributes:
        directions: Directions of the queries: ``'image_to_text'``, ``'text_to_image'`` or both.
    """

    kind = "retrieval"
    directions: tuple[str, ...]

    def compute(self, table: RetrievalTable) -> float:
        """Compute the metric over the queries of its directions.

        Returns:
            NaN if the metric is undefined: a direction has no queries, or the features were not finite.
        """
        of_direction = [table.direction == direction for direction in self.directions]
        wanted = np.logical_or.reduce(of_direction)
        if not all(rows.any() for rows in of_direction) or not np.isfinite(table.positive_similarity[wanted]).all():
            return float("nan")
        return float(self.score(table.take(wanted)))

    def score(self, table: RetrievalTable) -> float:
        """Like ``compute``, for queries of its directions only, at least one of each, all with finite similarities."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'score'")


class FindingsMetric(Metric):
    """Base class of metrics of several labels per case; subclasses set ``name`` and implement ``score``."""

    kind = "findings"

    def compute(self, table: FindingsTable) -> float:
        """Compute the metric over all known answers.

        Returns:
            NaN if the metric is undefined: nothing is known, or a probability of a case with a known answer is not finite.
        """
        known = table.findings >= 0
        if not known.any() or not np.isfinite(table.probabilities[known]).all():
            return float("nan")
        return float(self.score(table.findings, table.probabilities.astype(np.float64)))

    def score(self, findings: np.ndarray, probabilities: np.ndarray) -> float:
        """Like ``compute``, for at least one known answer, all finite.

        Args:
            findings: ``[N, C]`` int8: 1 present, 0 absent, -1 unknown, which must not count.
            probabilities: ``[N, C]`` float64.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'score'")
