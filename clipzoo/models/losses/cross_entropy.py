"""Classification by captions: the class captions serve as the weights of the classifier.

Shapes: B cases · U captions of the whole table · C classes · D embedding width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from clipzoo.config.arguments import Share
from clipzoo.models.losses.base import Loss
from clipzoo.models.losses.gather import mean_over_cases
from clipzoo.models.prototypes import class_prototypes
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch


@LOSSES.register_module()
class CaptionCrossEntropyLoss(Loss):
    """Cross entropy over all classes, each represented by the mean direction of its captions: training matches prediction.

    Every batch contains the whole caption table, so that no class is missing from a small batch. Cases without a class (-1) are ignored.

    Args:
        label_smoothing: Share of the target, in [0, 1), spread evenly over all classes.

    Raises:
        ConfigError: ``label_smoothing`` is outside [0, 1).

    Source: the zero-shot classifier of Radford et al. 2021 (arXiv:2103.00020), section 3.1, trained; label smoothing as in
    Szegedy et al. 2016 (arXiv:1512.00567), section 7.
    """

    captions: ClassVar[Literal["batch", "all"]] = "all"

    def __init__(self, label_smoothing: Share = 0.0):
        super().__init__()
        self.label_smoothing = label_smoothing

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The mean over the cases with a class."""
        # C is unknown here without synchronising with the device. Every class has its own caption, so C <= U: assume U classes and
        # ignore those without captions.
        class_U = torch.arange(len(text_UD), device=text_UD.device)
        present_U = (batch.caption_labels[:, None] == class_U[None, :]).any(dim=0)
        logits_BU = logit_scale * image_BD @ class_prototypes(text_UD, batch.caption_labels, len(text_UD)).T

        normaliser_B = logits_BU.masked_fill(~present_U, float("-inf")).logsumexp(dim=1)
        true_B = logits_BU.gather(1, batch.labels.clamp(min=0)[:, None]).squeeze(1)
        mean_B = (logits_BU * present_U).sum(dim=1) / present_U.sum()
        target_B = (1 - self.label_smoothing) * true_B + self.label_smoothing * mean_B
        return mean_over_cases(normaliser_B - target_B, batch.labels >= 0)
