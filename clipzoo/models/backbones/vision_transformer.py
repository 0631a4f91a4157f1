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
    """Vision transformer with patches of 16 pixels, pooled at its class token.

    Args:
        variant: Size of the network.
        pretrained: See ``TimmBackbone``; ``True`` loads weights trained on ImageNet-21k and fine-tuned on ImageNet-1k.
        image_size: See ``TimmBackbone``; a multiple of 16. Position embeddings of loaded weights are resized if necessary.
        freeze: See ``TimmBackbone``.
        unfreeze_blocks: See ``TimmBackbone``.
        lora: See ``TimmBackbone``.

    Raises:
        ConfigError: ``image_size`` is not a multiple of 16.

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
            raise ConfigError(f"VisionTransformer: image_size={image_size} is not a multiple of the patch size {_PATCH}")
        super().__init__(_NAMES[variant], pretrained, image_size, freeze, unfreeze_blocks, lora)
