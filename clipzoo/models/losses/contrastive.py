"""Softmax losses between images and captions: the standard one, and the one that knows repeated captions.

Shapes: B cases · U distinct captions · D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipzoo.models.losses.base import Loss
from clipzoo.models.losses.gather import gather
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch


@LOSSES.register_module()
class ContrastiveLoss(Loss):
    """The standard CLIP loss: image i belongs to the caption drawn for it and to nothing else in the batch.

    Where captions repeat, the copies are false negatives of each other: the loss cannot fall below the mean over the cases of
    ln(number of cases with the same caption). ``MultiPositiveContrastiveLoss`` has no such error.

    Source: Radford et al. 2021 (arXiv:2103.00020), Figure 3. We encode each distinct caption once and repeat its column of the logits;
    value and gradient are those of encoding every repeat.
    """

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The mean of the image-to-text and the text-to-image cross entropy."""
        pairs = gather(image_BD, text_UD, batch)
        logits_BU = logit_scale * pairs.image_BD @ pairs.text_UD.T
        logits_BB = logits_BU[:, pairs.caption_B]
        target_B = torch.arange(len(logits_BB), device=logits_BB.device)
        return (F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.T, target_B)) / 2


@LOSSES.register_module()
class MultiPositiveContrastiveLoss(Loss):
    """The CLIP loss with every caption that describes an image as its positive, and every image that a caption describes as its own.

    Image to text: softmax over the U distinct captions; target 1/n on each of the n captions of the batch that describe the case;
    mean over the cases. Text to image: softmax over the B images; target 1/n on each of the n cases that the caption describes;
    mean over the B drawn captions, so a caption weighs as often as it was drawn, just as its images do. Where no caption
    describes two cases, both are those of ``ContrastiveLoss``, exactly.

    The text-to-image part has a floor, the mean of ln(n): one caption cannot tell its n images apart. It is a constant without gradient.

    Source: UniCL (Yang et al. 2022, arXiv:2204.03610), L_i2t and L_t2i, with the sum over positives outside the log (SupCon, Khosla et al.
    2020, arXiv:2004.11362, Eq. 2). We halve the sum of the two directions as CLIP does, and count a repeated caption once in
    the image-to-text softmax.
    """

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The mean of the two directions; every case must have its drawn caption among its ``positive_ids``."""
        pairs = gather(image_BD, text_UD, batch)
        logits_BU = logit_scale * pairs.image_BD @ pairs.text_UD.T
        positives_BU = pairs.positives_BU.to(logits_BU.dtype)
        drawn_U = F.one_hot(pairs.caption_B, len(pairs.text_UD)).sum(dim=0).to(logits_BU.dtype)

        # Cross entropy with targets t that sum to 1 is logsumexp(z) - sum(t z): no 0 times -inf where columns are masked.
        rows_BU = logits_BU if pairs.distinct_U is None else logits_BU.masked_fill(~pairs.distinct_U, float("-inf"))
        target_BU = positives_BU / positives_BU.sum(dim=1, keepdim=True).clamp(min=1)
        image_to_text_B = rows_BU.logsumexp(dim=1) - (target_BU * logits_BU).sum(dim=1)
        target_BU = positives_BU / positives_BU.sum(dim=0, keepdim=True).clamp(min=1)
        text_to_image_U = logits_BU.logsumexp(dim=0) - (target_BU * logits_BU).sum(dim=0)
        return (image_to_text_B.mean() + (drawn_U * text_to_image_U).sum() / drawn_U.sum()) / 2
