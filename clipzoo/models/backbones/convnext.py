"""ConvNeXt."""

from __future__ import annotations

from typing import Literal

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.models.lora import Adapters
from clipzoo.registries import BACKBONES

_NAMES = {variant: f"convnext_{variant}" for variant in ("tiny", "small", "base", "large")}


@BACKBONES.register_module()
class ConvNeXt(TimmBackbone):
    """ConvNeXt, the first version.

    Args:
        variant: Size of the network.
        pretrained: See ``TimmBackbone``; ``True`` loads weights trained on ImageNet-12k or -22k and fine-tuned on ImageNet-1k.
        image_size: See ``TimmBackbone``.
        freeze: See ``TimmBackbone``.
        unfreeze_blocks: See ``TimmBackbone``.
        lora: See ``TimmBackbone``.

    Source: Liu et al. 2022 (arXiv:2201.03545).
    """

    def __init__(
        self,
        variant: Literal["tiny", "small", "base", "large"] = "tiny",
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
    ):
        super().__init__(_NAMES[variant], pretrained, image_size, freeze, unfreeze_blocks, lora)
