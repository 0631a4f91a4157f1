"""Losses between image features and caption features."""

from clipzoo.models.losses.base import Loss, PairLoss
from clipzoo.models.losses.contrastive import ContrastiveLoss, MultiPositiveContrastiveLoss
from clipzoo.models.losses.cross_entropy import CaptionCrossEntropyLoss
from clipzoo.models.losses.sigmoid import SigmoidContrastiveLoss

__all__ = ["CaptionCrossEntropyLoss", "ContrastiveLoss", "Loss", "MultiPositiveContrastiveLoss", "PairLoss", "SigmoidContrastiveLoss"]
