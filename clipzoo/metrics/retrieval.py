"""Retrieval metrics: functions of a ``RetrievalTable``, using expectations for ties.

For a query, a items are ahead of its best match; t others and p matches are tied with it. Every order of these n = t + p items
is equally likely, so the place J of the first match among them has P(J > j) = C(t, j) / C(n, j), and its rank is a + J.
A model for which everything is equally similar scores exactly chance; counting ties in its favour would make it perfect.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from clipzoo.config.arguments import Count, checked
from clipzoo.metrics.base import RetrievalMetric
from clipzoo.records.tables import DIRECTIONS, RetrievalTable
from clipzoo.registries import METRICS
from clipzoo.statistics.retrieval_scores import expected_ranks, expected_reciprocal_ranks, hit_probabilities

Direction = Literal["image_to_text", "text_to_image"]

RETRIEVAL_DEFAULTS: tuple[dict, ...] = (
    *({"type": "Recall", "direction": direction, "k": k} for direction in DIRECTIONS for k in (1, 5, 10)),
    *({"type": name, "direction": direction} for name in ("MeanRank", "MedianRank", "MRR") for direction in DIRECTIONS),
    {"type": "RSum"},
    {"type": "PositiveSimilarity"},
    {"type": "NegativeSimilarity"},
    {"type": "SimilarityGap"},
)


@checked
class DirectedMetric(RetrievalMetric):
    """Base class of the metrics of one direction; subclasses define the end of the name in ``suffix``."""

    suffix: str

    def __init__(self, direction: Direction):
        self.directions = (direction,)
        short = {"image_to_text": "i2t", "text_to_image": "t2i"}[direction]
        self.name = f"{short}_{self.suffix}"


@METRICS.register_module()
class Recall(DirectedMetric):
    """R@K: share of queries with a match among the first K, in [0, 1]. One hit is enough, however many matches there are.

    Args:
        direction: ``'image_to_text'`` (captions are searched for an image) or ``'text_to_image'`` (images for a caption).
        k: Number of searched results, K; limited to the size of the gallery.
    """

    def __init__(self, direction: Direction, k: Count):
        self.k = k
        self.suffix = f"r{k}"
        super().__init__(direction)

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return hit_probabilities(table, self.k).mean()


@METRICS.register_module()
class MeanRank(DirectedMetric):
    """Mean rank of the first match of a query; 1 is the best.

    Args:
        direction: See ``Recall``.
    """

    suffix = "mean_rank"
    greater_is_better = False

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return expected_ranks(table).mean()


@METRICS.register_module()
class MedianRank(DirectedMetric):
    """Median rank of the first match of a query; 1 is the best, and halves are possible.

    Args:
        direction: See ``Recall``.
    """

    suffix = "median_rank"
    greater_is_better = False

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return np.median(expected_ranks(table))


@METRICS.register_module()
class MRR(DirectedMetric):
    """Mean reciprocal rank of the first match of a query, in (0, 1].

    Args:
        direction: See ``Recall``.
    """

    suffix = "mrr"

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return expected_reciprocal_ranks(table).mean()


@METRICS.register_module()
class RSum(RetrievalMetric):
    """Sum of R@1, R@5 and R@10 in both directions, in percent: 0 to 600."""

    name = "rsum"
    directions = DIRECTIONS

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return 100 * sum(Recall(direction, k).compute(table) for direction in DIRECTIONS for k in (1, 5, 10))


@METRICS.register_module()
class PositiveSimilarity(RetrievalMetric):
    """Mean cosine between an image and its captions, averaged over the captions of each image, then over images."""

    name = "positive_similarity"
    directions = DIRECTIONS[:1]

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return table.positive_similarity.mean()


@METRICS.register_module()
class NegativeSimilarity(RetrievalMetric):
    """Mean cosine between an image and other captions, averaged over those captions, then over images."""

    name = "negative_similarity"
    directions = DIRECTIONS[:1]
    greater_is_better = False

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return _mean_of_defined(table.negative_similarity)


@METRICS.register_module()
class SimilarityGap(RetrievalMetric):
    """Mean over images of the difference between positive and negative similarity; 0 if nothing was learned, at most 2."""

    name = "similarity_gap"
    directions = DIRECTIONS[:1]

    def score(self, table: RetrievalTable) -> float:
        """See the class."""
        return _mean_of_defined(table.positive_similarity - table.negative_similarity)


def _mean_of_defined(values: np.ndarray) -> float:
    """Mean without NaN; an image that matches every caption of its gallery has no negatives."""
    defined = values[~np.isnan(values)]
    return defined.mean() if len(defined) else float("nan")
