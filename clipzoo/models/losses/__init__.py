"""Contrastive losses between image and caption features, and classification losses over logits."""

from clipzoo.models.losses.base import LogitLoss, Loss, PairLoss
from clipzoo.models.losses.classification import ClassificationLoss, CrossEntropyLoss, FocalLoss
from clipzoo.models.losses.contrastive import ContrastiveLoss, MultiPositiveContrastiveLoss
from clipzoo.models.losses.cross_entropy import CaptionCrossEntropyLoss
from clipzoo.models.losses.findings import BinaryCrossEntropyLoss, ClassSigmoidLoss
from clipzoo.models.losses.sigmoid import SigmoidContrastiveLoss

__all__ = [
    "BinaryCrossEntropyLoss",
    "CaptionCrossEntropyLoss",
    "ClassSigmoidLoss",
    "ClassificationLoss",
    "ContrastiveLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LogitLoss",
    "Loss",
    "MultiPositiveContrastiveLoss",
    "PairLoss",
    "SigmoidContrastiveLoss",
]
