"""Classifiers: from features of an image tower to one logit per class.

Shapes: N images · D features (``in_features``) · C classes (``out_features``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import Count, Positive, Share, Width
from clipzoo.models.heads.base import Head, linear
from clipzoo.models.temperature import check_temperature, clamp_learned
from clipzoo.registries import HEADS


@HEADS.register_module()
class LinearHead(Head):
    """One linear layer from features to logits.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Number of classes; ``None`` leaves it to the model.
        bias: Whether to add a bias.
        normalize: Whether to normalise features to unit length first. The head can then start from class captions.
        dropout: Share of features set to zero in training, in [0, 1).

    Raises:
        ConfigError: ``dropout`` is out of range.

    Source: the linear probe of Radford et al. 2021 (arXiv:2103.00020), section 3.2; initialisation from texts as in Wortsman et al. 2022
    (arXiv:2109.01903), section 3, which fine-tunes a classifier that starts with the zero-shot weights.
    """

    def __init__(
        self,
        in_features: Count | None = None,
        out_features: Count | None = None,
        bias: bool = True,
        normalize: bool = False,
        dropout: Share = 0.0,
    ):
        self.bias, self.normalize, self.dropout = bias, normalize, dropout
        super().__init__(in_features, out_features)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """One ``nn.Linear``."""
        return linear(in_features, out_features, bias=self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D]`` to ``[N, C]``."""
        features = F.normalize(features, dim=-1) if self.normalize else features
        return super().forward(F.dropout(features, self.dropout, self.training))

    def refuses_start(self) -> str:
        """See ``Head.refuses_start``."""
        return "" if self.normalize else _not_normalised(self)

    @torch.no_grad()
    def start_from(self, prototypes_CD: Tensor, logit_scale: float) -> None:
        """Set the weights to the prototypes divided by the temperature, and the bias to 0. See ``Head.start_from``."""
        if self.refuses_start():
            super().start_from(prototypes_CD, logit_scale)
        _set_linear(self.layers, prototypes_CD, logit_scale)


@HEADS.register_module()
class ResidualMLPHead(Head):
    """Two linear layers in a residual branch, then a linear layer to the logits: ``W (x + B gelu(A norm(x)))``.

    The last layer of the branch is initialised to 0, so that the head is initially linear.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Number of classes; ``None`` leaves it to the model.
        hidden_features: Width between the two layers; ``None`` means ``in_features``.
        dropout: Share of hidden values set to zero in training, in [0, 1).
        normalize: Whether to normalise features to unit length first. The head can then start from class captions.

    Raises:
        ConfigError: A width is not positive, or ``dropout`` is out of range.

    Source: a pre-norm residual block (Xiong et al. 2020, arXiv:2002.04745, section 3.1) whose branch starts at zero as in Goyal et al. 2017
    (arXiv:1706.02677), section 5.1.
    """

    def __init__(
        self,
        in_features: Count | None = None,
        out_features: Count | None = None,
        hidden_features: Width | None = None,
        dropout: Share = 0.0,
        normalize: bool = False,
    ):
        self.hidden_features, self.dropout, self.normalize = hidden_features, dropout, normalize
        super().__init__(in_features, out_features)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """The residual branch, and the layer to the logits."""
        hidden = self.hidden_features or in_features
        layers = [nn.LayerNorm(in_features), linear(in_features, hidden), nn.GELU(), nn.Dropout(self.dropout), linear(hidden, in_features)]
        nn.init.zeros_(layers[-1].weight)
        return nn.ModuleDict({"branch": nn.Sequential(*layers), "logits": linear(in_features, out_features)})

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D]`` to ``[N, C]``."""
        features = F.normalize(features, dim=-1) if self.normalize else features
        return self.layers["logits"](features + self.layers["branch"](features))

    def refuses_start(self) -> str:
        """See ``Head.refuses_start``."""
        return "" if self.normalize else _not_normalised(self)

    @torch.no_grad()
    def start_from(self, prototypes_CD: Tensor, logit_scale: float) -> None:
        """Initialise the layer to the logits as in ``LinearHead``, and the branch to output 0. See ``Head.start_from``."""
        if self.refuses_start():
            super().start_from(prototypes_CD, logit_scale)
        last = self.layers["branch"][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        _set_linear(self.layers["logits"], prototypes_CD, logit_scale)


@HEADS.register_module()
class CosineHead(Head):
    """One direction per class: the logit is the cosine between features and direction, divided by the temperature.

    Initialised from class captions, it predicts what zero-shot classification predicts. Only the directions matter, so that weight decay is
    not applied to them.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Number of classes; ``None`` leaves it to the model.
        temperature: Divisor of the cosines; the initial value if learned, or unless class captions define one.
        learn_temperature: Whether to learn the temperature, which then stays in [0.01, 1].

    Attributes:
        logit_scale: Scalar, the log of 1 / temperature. Stored in checkpoints whether learned or not.

    Raises:
        ConfigError: ``temperature`` is out of range.

    Source: Gidaris & Komodakis 2018 (arXiv:1804.09458), Eq. 3, who learn the factor rather than its logarithm. Range and initial value as
    in CLIP (Radford et al. 2021, arXiv:2103.00020, section 2.5).
    """

    def __init__(
        self,
        in_features: Count | None = None,
        out_features: Count | None = None,
        temperature: Positive = 0.07,
        learn_temperature: bool = True,
    ):
        super().__init__(in_features, out_features)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_temperature)

    check_together = staticmethod(check_temperature)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """One ``nn.Linear`` without bias, whose rows are the directions."""
        return linear(in_features, out_features, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D]`` to ``[N, C]``."""
        assert self.layers is not None, "a head without widths must be connected by its model before use"
        scale = self.logit_scale.to(features.dtype).exp()
        return scale * F.normalize(features, dim=-1) @ F.normalize(self.layers.weight.to(features.dtype), dim=-1).T

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are excluded from weight decay."""
        return {"layers.weight", "logit_scale"}

    def refuses_start(self) -> str:
        """See ``Head.refuses_start``."""
        return ""

    @torch.no_grad()
    def start_from(self, prototypes_CD: Tensor, logit_scale: float) -> None:
        """Set the directions to the prototypes, and the temperature to theirs. See ``Head.start_from``."""
        self.layers.weight.copy_(prototypes_CD)
        self.logit_scale.fill_(logit_scale)
        self.after_step()

    def after_step(self) -> None:
        """Clamp the learned temperature to its range."""
        clamp_learned(self.logit_scale)


def _not_normalised(head: Head) -> str:
    return f"{type(head).__name__} can only start from class captions with normalize=True: cosines require features of unit length"


def _set_linear(layer: nn.Linear, prototypes_CD: Tensor, logit_scale: float) -> None:
    layer.weight.copy_(math.exp(logit_scale) * prototypes_CD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
