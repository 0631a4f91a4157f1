"""A CLIP image tower with a classifier, from Python alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.models.backbones import CLIPVision
from clipzoo.models.image_classifier import ImageClassifier, check_num_classes
from clipzoo.structures import Batch


class CLIPClassifier(ImageClassifier):
    """``ImageClassifier`` on the image tower of a CLIP, for a training loop of your own.

    Called with images it gives logits, as any torch classifier does. Configs have ``ImageClassifier`` in its place.

    Args:
        num_classes: At least 2.
        clip_model_name: ``'ViT-B/32'``, ``'ViT-B/16'``, ``'ViT-L/14'``, ``'RN50'`` or another variant of ``CLIPVision``.
            ``None``: the sizes of the file in ``pretrained``.
        freeze_encoder: Train the head only.
        device: Where to put it. ``None``: CUDA where there is one, otherwise the CPU.
        pretrained: ``True`` takes OpenAI's weights from the hub; a string is a local file or folder with a CLIP's weights; ``False`` starts
            at random.
        head: A ``Head``. ``None``: ``LinearHead()``.

    Raises:
        ConfigError: There are fewer than two classes, or no such variant.
        BuildError: The weights cannot be had.
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
        """A batch to named losses, as ``ImageClassifier``; images to logits.

        Args:
            batch: A ``Batch``; or ``[B, 3, H, W]`` float images, normalised as ``preprocessing`` says. Those of another size than the
                tower's are scaled to it, bicubic: the 64 pixels of Tiny ImageNet become ViT-B/32's 224.

        Returns:
            Named losses; or ``[B, num_classes]`` logits.
        """
        if isinstance(batch, Batch):
            return super().forward(batch)
        size = self.preprocessing.size
        if batch.shape[-2:] != (size, size):
            batch = F.interpolate(batch, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        return self.logits(self.image_encoder(batch))
