"""Residual networks."""

from __future__ import annotations

from typing import Literal

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.models.lora import Adapters
from clipzoo.registries import BACKBONES

_NAMES = {depth: f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}


@BACKBONES.register_module()
class ResNet(TimmBackbone):
    """ResNet, in the version with the stride in the 3x3 convolution.

    Args:
        depth: Number of layers.
        pretrained: See ``TimmBackbone``; ``True`` loads timm's ImageNet-1k weights.
        image_size: See ``TimmBackbone``.
        freeze: See ``TimmBackbone``.
        unfreeze_blocks: See ``TimmBackbone``.
        lora: See ``TimmBackbone``.

    Source: He et al. 2016 (arXiv:1512.03385).
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50, 101, 152] = 18,
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
    ):
        super().__init__(_NAMES[depth], pretrained, image_size, freeze, unfreeze_blocks, lora)
