"""Metrics of predictions and ranks. The import loads neither scikit-learn nor torch; the first computation does."""

from clipzoo.metrics.base import FindingsMetric, Metric, RetrievalMetric
from clipzoo.metrics.classification import (
    AUROC,
    Accuracy,
    BalancedAccuracy,
    LogLoss,
    MacroF1,
    MacroPrecision,
    MacroRecall,
    QuadraticWeightedKappa,
    confusion_matrix,
    per_class,
)
from clipzoo.metrics.findings import BinaryLogLoss, MeanAUROC, MeanAveragePrecision, MicroF1
from clipzoo.metrics.ranking import QueryRanks, Ranks, Similarities, rank, retrieval_table
from clipzoo.metrics.retrieval import (
    MRR,
    RETRIEVAL_DEFAULTS,
    MeanRank,
    MedianRank,
    NegativeSimilarity,
    PositiveSimilarity,
    Recall,
    RSum,
    SimilarityGap,
)

__all__ = [
    "AUROC",
    "Accuracy",
    "BalancedAccuracy",
    "BinaryLogLoss",
    "FindingsMetric",
    "LogLoss",
    "MRR",
    "MacroF1",
    "MacroPrecision",
    "MacroRecall",
    "MeanAUROC",
    "MeanAveragePrecision",
    "MeanRank",
    "MedianRank",
    "Metric",
    "MicroF1",
    "NegativeSimilarity",
    "PositiveSimilarity",
    "QuadraticWeightedKappa",
    "QueryRanks",
    "RETRIEVAL_DEFAULTS",
    "RSum",
    "Ranks",
    "Recall",
    "RetrievalMetric",
    "Similarities",
    "SimilarityGap",
    "confusion_matrix",
    "per_class",
    "rank",
    "retrieval_table",
]
