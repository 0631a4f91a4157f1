"""Projections into the joint space of images and texts."""

from __future__ import annotations

from torch import nn

from clipzoo.config.arguments import Count, Share, Width
from clipzoo.models.heads.base import Head, linear
from clipzoo.registries import HEADS


@HEADS.register_module()
class LinearProjection(Head):
    """One linear layer, as in CLIP.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Width of the joint space; ``None`` leaves it to the model.
        bias: Whether to add a bias.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 2.3; initial standard deviation ``in_features ** -0.5`` as in OpenAI's code.
    """

    def __init__(self, in_features: Count | None = None, out_features: Count | None = None, bias: bool = False):
        self.bias = bias
        super().__init__(in_features, out_features)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """One ``nn.Linear``."""
        return linear(in_features, out_features, bias=self.bias)


@HEADS.register_module()
class MLPProjection(Head):
    """Two linear layers with GELU and dropout between them, for frozen towers.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Width of the joint space; ``None`` leaves it to the model.
        hidden_features: Width between the two layers; ``None`` means ``in_features``.
        dropout: Share of hidden values set to zero in training, in [0, 1).
    """

    def __init__(
        self,
        in_features: Count | None = None,
        out_features: Count | None = None,
        hidden_features: Width | None = None,
        dropout: Share = 0.0,
    ):
        self.hidden_features = hidden_features
        self.dropout = dropout
        super().__init__(in_features, out_features)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """Linear, GELU, dropout, linear."""
        hidden = self.hidden_features or in_features
        return nn.Sequential(linear(in_features, hidden), nn.GELU(), nn.Dropout(self.dropout), linear(hidden, out_features))
