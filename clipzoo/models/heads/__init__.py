"""Heads: modules between a tower's features and the joint space, or the classes."""

from clipzoo.models.heads.base import Head
from clipzoo.models.heads.classifier import CosineHead, LinearHead, ResidualMLPHead
from clipzoo.models.heads.projection import LinearProjection, MLPProjection

__all__ = ["CosineHead", "Head", "LinearHead", "LinearProjection", "MLPProjection", "ResidualMLPHead"]
