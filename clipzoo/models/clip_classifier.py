"""A CLIP image tower with a classifier, for use from Python."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.models.backbones import CLIPVision
from clipzoo.models.image_classifier import ImageClassifier, check_num_classes
from clipzoo.structures import Batch


class CLIPClassifier(ImageClassifier):
    """``ImageClassifier`` on the image tower of a CLIP, for a custom training loop.

    Called with images it returns logits, like any torch classifier. Configs use ``ImageClassifier`` instead.

    Args:
        num_classes: Number of classes; at least 2.
        clip_model_name: ``'ViT-B/32'``, ``'ViT-B/16'``, ``'ViT-L/14'``, ``'RN50'`` or another variant of ``CLIPVision``.
                ``None``: the sizes of the file in ``pretrained``.
        freeze_encoder: Whether to train the head only.
        device: Target device. ``None``: CUDA if available, otherwise the CPU.
        pretrained: ``True`` loads OpenAI's weights from the hub; a string is a local file or folder with a CLIP's weights; ``False`` for
            random weights.
        head: Classifier, a ``Head``. ``None``: ``LinearHead()``.

    Raises:
        ConfigError: There are fewer than two classes, or the variant is unknown.
        BuildError: The weights are unavailable.
    """

    def __init__(
        self,
        num_classes: int,
        clip_model_name: str | None = "ViT-B/32",
        freeze_encoder: bool = False,
        device: str | torch.device | None = None,
        *,
        pretrained: bool | str = True,
        head: nn.Module | None = None,
    ):
        check_num_classes("CLIPClassifier", num_classes)
        freeze: Literal["none", "all"] = "all" if freeze_encoder else "none"
        super().__init__(CLIPVision(clip_model_name, pretrained=pretrained, freeze=freeze), num_classes, head)
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def forward(self, batch: Batch | Tensor) -> dict[str, Tensor] | Tensor:
        """A batch to named losses, as in ``ImageClassifier``; images to logits.

        Args:
            batch: A ``Batch``; or ``[B, 3, H, W]`` float images, normalised by ``preprocessing``. Images of another size are resized to the
                tower's, with bicubic interpolation: the 64 pixels of Tiny ImageNet become the 224 of ViT-B/32.

        Returns:
            Named losses; or ``[B, num_classes]`` logits.
        """
        if isinstance(batch, Batch):
            return super().forward(batch)
        size = self.preprocessing.size
        if batch.shape[-2:] != (size, size):
            batch = F.interpolate(batch, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        return self.logits(self.image_encoder(batch))
