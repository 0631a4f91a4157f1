"""StarNet: small networks whose blocks multiply two branches."""

from __future__ import annotations

from typing import Literal

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.errors import shortened
from clipzoo.lean_imports import lean
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.models.lora import Adapters
from clipzoo.registries import BACKBONES

with lean():
    import timm

_NAMES = {variant: f"starnet_{variant}" for variant in ("s1", "s2", "s3", "s4", "s050", "s100", "s150")}


@BACKBONES.register_module()
class StarNet(TimmBackbone):
    """StarNet, with 0.5 to 7.5 million parameters.

    Args:
        variant: ``'s1'`` to ``'s4'`` have published ImageNet-1k weights; ``'s050'``, ``'s100'`` and ``'s150'`` have none.
        pretrained: See ``TimmBackbone``.
        image_size: See ``TimmBackbone``.
        freeze: See ``TimmBackbone``.
        unfreeze_blocks: See ``TimmBackbone``.
        lora: See ``TimmBackbone``.

    Source: Ma et al. 2024 (arXiv:2403.19967).
    """

    def __init__(
        self,
        variant: Literal["s1", "s2", "s3", "s4", "s050", "s100", "s150"] = "s1",
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
    ):
        super().__init__(_NAMES[variant], pretrained, image_size, freeze, unfreeze_blocks, lora)

    def _with_weights(self) -> str:
        return f" Weights exist for {shortened(name for name in _NAMES.values() if timm.models.is_model_pretrained(name))}."
