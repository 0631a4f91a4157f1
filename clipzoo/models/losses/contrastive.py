"""Softmax losses between images and captions: the standard CLIP loss, and one with multiple positives.

Shapes: B images and U distinct captions as queries · N images and V captions to compare with (B and U in one process) ·
D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipzoo.models.losses.base import PairLoss
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch


@LOSSES.register_module()
class ContrastiveLoss(PairLoss):
    """The standard CLIP loss: image i matches the caption drawn for it and nothing else in the batch.

    Repeated captions are false negatives of each other: the loss cannot fall below the mean over the cases of
    ln(number of cases with the same caption). ``MultiPositiveContrastiveLoss`` avoids this.

    Source: Radford et al. 2021 (arXiv:2103.00020), Figure 3. Each distinct caption is encoded once and its column of logits repeated;
    value and gradient equal those of encoding every repeat.
    """

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The mean of the image-to-text and the text-to-image cross entropy."""
        pairs = self.pairs(image_BD, text_UD, batch)
        to_text_BV, to_image_UN = pairs.logits(logit_scale)
        target_B = torch.arange(len(to_text_BV), device=to_text_BV.device) + pairs.first
        image_to_text = F.cross_entropy(to_text_BV[:, pairs.caption_N], target_B)
        return (image_to_text + F.cross_entropy(to_image_UN[pairs.caption_B], target_B)) / 2


@LOSSES.register_module()
class MultiPositiveContrastiveLoss(PairLoss):
    """The CLIP loss with multiple positives: all captions that describe an image, and all images that a caption describes.

    Image to text: softmax over the U distinct captions; target 1/n on each of the n captions of the batch that describe the case;
    mean over the cases. Text to image: softmax over the B images; target 1/n on each of the n cases that the caption describes;
    mean over the B drawn captions, so that a caption counts as often as it was drawn, like its images. If no caption
    describes two cases, both terms equal those of ``ContrastiveLoss`` exactly.

    The text-to-image term is at least the mean of ln(n), as a caption cannot distinguish its n images: a constant without gradient.

    Source: UniCL (Yang et al. 2022, arXiv:2204.03610), L_i2t and L_t2i, with the sum over positives outside the log (SupCon, Khosla et al.
    2020, arXiv:2004.11362, Eq. 2). As in CLIP the sum of the two directions is halved; a repeated caption counts once in
    the image-to-text softmax.
    """

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The mean of the two directions; every case must have its drawn caption among its ``positive_ids``."""
        pairs = self.pairs(image_BD, text_UD, batch)
        to_text_BV, to_image_UN = pairs.logits(logit_scale)
        positives_BV = pairs.positives()
        image_to_text_B = _cross_entropy(to_text_BV, positives_BV, pairs.distinct_V)
        text_to_image_U = _cross_entropy(to_image_UN, pairs.positives_of_captions(positives_BV), None)
        drawn_U = torch.zeros_like(text_to_image_U).index_add_(0, pairs.caption_B, torch.ones_like(image_to_text_B))
        return (image_to_text_B.mean() + (drawn_U * text_to_image_U).sum() / drawn_U.sum()) / 2


def _cross_entropy(logits_RC: Tensor, positives_RC: Tensor, counts_C: Tensor | None) -> Tensor:
    """``[R]`` cross entropy of each row, with target 1/n on each of its n positives, over the columns that count (``None``: all)."""
    # Cross entropy with targets t that sum to 1 is logsumexp(z) - sum(t z): no 0 times -inf where columns are masked.
    counted_RC = logits_RC if counts_C is None else logits_RC.masked_fill(~counts_C, float("-inf"))
    target_RC = positives_RC.to(logits_RC.dtype)
    target_RC = target_RC / target_RC.sum(dim=1, keepdim=True).clamp(min=1)
    return counted_RC.logsumexp(dim=1) - (target_RC * logits_RC).sum(dim=1)
