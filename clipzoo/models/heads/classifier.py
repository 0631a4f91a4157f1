"""Classifiers: features of an image tower in, one logit per class out.

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
    """One linear map from features to logits.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Number of classes; ``None`` leaves it to the model.
        bias: Add a bias.
        normalize: Bring features to length 1 first. The head can then start from class captions.
        dropout: Share of the features set to zero in training, in [0, 1).

    Raises:
        ConfigError: ``dropout`` is out of range.

    Source: the linear probe of Radford et al. 2021 (arXiv:2103.00020), section 3.2; the start from texts is that of Wortsman et al.
    2022 (arXiv:2109.01903), section 3, which fine-tunes a classifier whose weights are the zero-shot ones.
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
        """Weights: the prototypes over the temperature; bias 0. See ``Head.start_from``."""
        if self.refuses_start():
            super().start_from(prototypes_CD, logit_scale)
        _set_linear(self.layers, prototypes_CD, logit_scale)


@HEADS.register_module()
class ResidualMLPHead(Head):
    """Two linear maps beside a short cut, then a linear map to the logits: ``W (x + B gelu(A norm(x)))``.

    The last map of the branch starts at 0, so that the head starts as a linear one and training bends it from there.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Number of classes; ``None`` leaves it to the model.
        hidden_features: Width between the two maps; ``None`` means ``in_features``.
        dropout: Share of hidden values set to zero in training, in [0, 1).
        normalize: Bring features to length 1 first. The head can then start from class captions.

    Raises:
        ConfigError: A width is not positive, or ``dropout`` out of range.

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
        """The branch, and the map to the logits."""
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
        """The map to the logits is that of ``LinearHead``; the branch gives 0 again. See ``Head.start_from``."""
        if self.refuses_start():
            super().start_from(prototypes_CD, logit_scale)
        last = self.layers["branch"][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        _set_linear(self.layers["logits"], prototypes_CD, logit_scale)


@HEADS.register_module()
class CosineHead(Head):
    """One direction per class: the logit is the cosine between features and direction, over the temperature.

    Started from class captions it predicts what zero-shot classification predicts. Only the directions count, so their lengths are not
    decayed.

    Args:
        in_features: Width of the tower's features; ``None`` leaves it to the model.
        out_features: Number of classes; ``None`` leaves it to the model.
        temperature: Cosines are divided by it; at the start, where it is learned or class captions bring their own.
        learn_temperature: Learn it; it then stays in [0.01, 1].

    Attributes:
        logit_scale: Scalar, the log of 1 / temperature. In the checkpoint whether learned or not.

    Raises:
        ConfigError: ``temperature`` is out of range.

    Source: Gidaris & Komodakis 2018 (arXiv:1804.09458), Eq. 3; they learn the factor, not its logarithm. Range and start as in CLIP
    (Radford et al. 2021, arXiv:2103.00020, section 2.5).
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
        assert self.layers is not None, "a head without widths is connected by its model before it is used"
        scale = self.logit_scale.to(features.dtype).exp()
        return scale * F.normalize(features, dim=-1) @ F.normalize(self.layers.weight.to(features.dtype), dim=-1).T

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the optimizer shall not decay."""
        return {"layers.weight", "logit_scale"}

    def refuses_start(self) -> str:
        """See ``Head.refuses_start``."""
        return ""

    @torch.no_grad()
    def start_from(self, prototypes_CD: Tensor, logit_scale: float) -> None:
        """Directions: the prototypes, with their temperature. See ``Head.start_from``."""
        self.layers.weight.copy_(prototypes_CD)
        self.logit_scale.fill_(logit_scale)
        self.after_step()

    def after_step(self) -> None:
        """Keep the learned temperature in its range."""
        clamp_learned(self.logit_scale)


def _not_normalised(head: Head) -> str:
    return f"{type(head).__name__} starts from class captions only with normalize=True: cosines need features of length 1"


def _set_linear(layer: nn.Linear, prototypes_CD: Tensor, logit_scale: float) -> None:
    layer.weight.copy_(math.exp(logit_scale) * prototypes_CD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
