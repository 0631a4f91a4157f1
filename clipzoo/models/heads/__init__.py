"""Heads: what stands between a tower's features and the joint space."""

from clipzoo.models.heads.base import Head
from clipzoo.models.heads.projection import LinearProjection, MLPProjection

__all__ = ["Head", "LinearProjection", "MLPProjection"]
