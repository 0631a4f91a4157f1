"""What every metric is: what a part's table holds in, one number out, and which way is up.

Shapes: N cases · C classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clipzoo.records.tables import RetrievalTable


class Metric:
    """Base of the metrics of classification, and of all others; a subclass sets ``name``, writes ``score``, and sets
    ``greater_is_better`` where it must.

    Attributes:
        name: Key in ``history.json``, in the summary and in ``evaluation.select``. Of the class, or of the object where arguments are part
            of it.
        greater_is_better: Whether a higher value is the better one.
        kind: What it is computed from: labels and probabilities, or the ranks of retrieval.
    """

    name: str
    greater_is_better: ClassVar[bool] = True
    kind: ClassVar[Literal["classification", "retrieval"]] = "classification"

    def compute(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """The metric over the cases that have a label.

        Args:
            labels: ``[N]`` int true classes in [0, C); cases with -1 are left out.
            probabilities: ``[N, C]`` float, rows summing to 1.

        Returns:
            NaN where the metric is undefined: no case has a label, or a probability is not finite.
        """
        known = labels >= 0
        if not known.any() or not np.isfinite(probabilities[known]).all():
            return float("nan")
        return float(self.score(labels[known], probabilities[known].astype(np.float64)))

    def score(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """The same as ``compute``, of at least one case, all labelled and finite, in float64."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'score'")


class RetrievalMetric(Metric):
    """Base of the metrics of retrieval; a subclass sets ``name`` and ``directions`` and writes ``score``.

    Attributes:
        directions: The queries it is computed from: ``'image_to_text'``, ``'text_to_image'`` or both.
    """

    kind = "retrieval"
    directions: tuple[str, ...]

    def compute(self, table: RetrievalTable) -> float:
        """The metric over the queries of its directions.

        Returns:
            NaN where the metric is undefined: a direction has no queries, or the features were not finite.
        """
        of_direction = [table.direction == direction for direction in self.directions]
        wanted = np.logical_or.reduce(of_direction)
        if not all(rows.any() for rows in of_direction) or not np.isfinite(table.positive_similarity[wanted]).all():
            return float("nan")
        return float(self.score(table.take(wanted)))

    def score(self, table: RetrievalTable) -> float:
        """The same as ``compute``, of queries of its directions only, at least one of each, all with finite similarities."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'score'")
