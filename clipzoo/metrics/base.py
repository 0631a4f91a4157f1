"""What every metric is: labels and probabilities in, one number out, and which way is up.

Shapes: N cases · C classes.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np


class Metric:
    """Base of all metrics; a subclass sets ``name``, writes ``score``, and sets ``greater_is_better`` where it must.

    Attributes:
        name: Key in ``history.json``, in the summary and in ``evaluation.select``.
        greater_is_better: Whether a higher value is the better one.
    """

    name: ClassVar[str]
    greater_is_better: ClassVar[bool] = True

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
