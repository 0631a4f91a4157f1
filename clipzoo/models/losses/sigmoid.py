"""The sigmoid loss: every pair of image and caption is a binary question.

Shapes: B query images · V distinct captions to compare with · D embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import Positive
from clipzoo.models.losses.base import PairLoss
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch


@LOSSES.register_module()
class SigmoidContrastiveLoss(PairLoss):
    """Binary cross entropy of "this caption describes this image" over all B x U pairs, summed and divided by B.

    Its only parameter, ``logit_bias``, is added to all logits. It starts at -ln(``negatives_per_positive``), the log odds of a "yes",
    so that the first steps are not spent on learning that most answers are "no".

    Args:
        negatives_per_positive: Expected number of non-matching captions in a batch per matching one: the number of classes minus one for
            class captions, the cases of a step in all processes minus one for distinct captions. Greater than 0.
        local_loss: See ``PairLoss``.
        gather_with_grad: See ``PairLoss``.

    Raises:
        ConfigError: ``negatives_per_positive`` is not greater than 0.

    Source: SigLIP (Zhai et al. 2023, arXiv:2303.15343), Eq. 1; its bias of -10 is about -ln(32 767), for 32 768 cases. Every caption that
    describes the image counts as a "yes", and a repeated caption once.
    """

    def __init__(self, negatives_per_positive: Positive = 31.0, local_loss: bool = False, gather_with_grad: bool = True):
        super().__init__(local_loss, gather_with_grad)
        self.logit_bias = nn.Parameter(torch.tensor(-math.log(negatives_per_positive)))

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The sum over all pairs, divided by the number of cases (not of pairs)."""
        pairs = self.pairs(image_BD, text_UD, batch)
        logits_BV = logit_scale * pairs.image_BD @ pairs.all_text_VD.T + self.logit_bias
        sign_BV = torch.where(pairs.positives(), 1.0, -1.0).to(logits_BV.dtype)
        loss_BV = -F.logsigmoid(sign_BV * logits_BV)
        if pairs.distinct_V is not None:
            loss_BV = loss_BV * pairs.distinct_V
        return loss_BV.sum() / len(loss_BV)
