"""EfficientNets."""

from __future__ import annotations

from typing import Literal

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.models.lora import Adapters
from clipzoo.registries import BACKBONES

# timm trained b0 to b5 itself; for b6 and b7 only weights ported from TensorFlow exist (same layers, 'SAME' padding).
# The form depends on the variant alone, so that random and pretrained towers of one name are the same function.
_NAMES = {f"b{i}": f"efficientnet_b{i}" if i <= 5 else f"tf_efficientnet_b{i}" for i in range(8)}


@BACKBONES.register_module()
class EfficientNet(TimmBackbone):
    """EfficientNet b0 to b7.

    Args:
        variant: b0 to b5 are timm's own networks and weights. b6 and b7 are the networks ported from TensorFlow, with asymmetric padding,
            because only these have weights.
        pretrained: See ``TimmBackbone``; ``True`` works for every variant.
        image_size: See ``TimmBackbone``. The published sizes are large: 528 pixels for b6 and 600 for b7; use 224 if memory is limited.
        freeze: See ``TimmBackbone``.
        unfreeze_blocks: See ``TimmBackbone``.
        lora: See ``TimmBackbone``.

    Source: Tan and Le 2019 (arXiv:1905.11946).
    """

    def __init__(
        self,
        variant: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"] = "b0",
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
    ):
        super().__init__(_NAMES[variant], pretrained, image_size, freeze, unfreeze_blocks, lora)
