"""Vision transformers."""

from __future__ import annotations

from typing import Literal

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.errors import ConfigError
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.models.lora import Adapters
from clipzoo.registries import BACKBONES

_PATCH = 16
_NAMES = {variant: f"vit_{variant}_patch{_PATCH}_224" for variant in ("tiny", "small", "base", "large")}


@BACKBONES.register_module()
class VisionTransformer(TimmBackbone):
    """Vision transformer with patches of 16 pixels, read at its class token.

    Args:
        variant: Size of the network.
        pretrained: As ``TimmBackbone``; ``True`` takes weights trained on ImageNet-21k and fine-tuned on ImageNet-1k.
        image_size: As ``TimmBackbone``; a multiple of 16. Position embeddings of loaded weights are resized to it.
        freeze: As ``TimmBackbone``.
        unfreeze_blocks: As ``TimmBackbone``.
        lora: As ``TimmBackbone``.

    Raises:
        ConfigError: ``image_size`` is no multiple of 16.

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929).
    """

    def __init__(
        self,
        variant: Literal["tiny", "small", "base", "large"] = "base",
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
    ):
        if image_size is not None and image_size % _PATCH:
            raise ConfigError(f"VisionTransformer: image_size={image_size} is no multiple of the patch size {_PATCH}")
        super().__init__(_NAMES[variant], pretrained, image_size, freeze, unfreeze_blocks, lora)
