"""Losses for several labels per case: a yes/no question for every class, with unknown answers left out.

Shapes: B cases · C classes (findings) · U captions of the whole table · D embedding width.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import NotNegative, Positive, checked
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.losses.base import LogitLoss, Loss
from clipzoo.models.losses.gather import mean_over_cases
from clipzoo.models.pooling import in_full
from clipzoo.models.prototypes import class_prototypes
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch

PosWeight = Literal["balanced"] | list[Positive]


@LOSSES.register_module()
@checked
class BinaryCrossEntropyLoss(LogitLoss):
    """Binary cross entropy of every finding, averaged over all known answers of the batch.

    With ``pos_weight`` a present finding counts ``pos_weight`` times as much as an absent one. The weights of each finding are scaled to
    mean 1 over its known cases in the fold's training part, so that the magnitude of the loss, and with it a suitable learning rate, does
    not change, and a rare finding counts as much as a frequent one. They are stored in checkpoints. Probabilities are then not those of the
    data: a rare finding's are too large, a frequent one's too small. Choose thresholds on val, as the summary does.

    Args:
        pos_weight: ``'balanced'``: absent / present cases of the training part, for each finding. Or C positive numbers in the order of the
            findings. ``None`` weights all answers equally.
        gamma: Exponent that down-weights answers of which the model is confident: ``(1 - p)^gamma`` times the loss, where p is the
            probability of the right answer. 0 is plain cross entropy.

    Attributes:
        weight_2C: ``[2, C]`` float32 weights of absent and present; ``None`` without ``pos_weight``.

    Raises:
        ConfigError: ``pos_weight`` is neither ``'balanced'`` nor a list of positive numbers, or ``gamma`` is negative.

    Source: ``gamma`` as in Lin et al. 2017 (arXiv:1708.02002), Eq. 4, with ``pos_weight`` in the role of alpha.
    """

    name = "binary_cross_entropy"
    multi_label = True

    def __init__(self, pos_weight: PosWeight | None = None, gamma: NotNegative = 0.0):
        super().__init__()
        self.pos_weight, self.gamma = pos_weight, gamma
        self.fitted = pos_weight is None
        self.register_buffer("weight_2C", None)

    @property
    def balances(self) -> bool:
        """See ``LogitLoss.balances``."""
        return self.pos_weight is not None

    def connect(self, num_classes: int) -> BinaryCrossEntropyLoss:
        """Prepare for the weights of ``num_classes`` findings; returns the loss itself.

        Raises:
            ConfigError: The number of ``pos_weight`` differs.
        """
        if self.pos_weight is not None and self.weight_2C is None:
            if not isinstance(self.pos_weight, str) and len(self.pos_weight) != num_classes:
                raise ConfigError(
                    f"{type(self).__name__}: pos_weight has {len(self.pos_weight)} numbers, but there are {num_classes} findings"
                )
            self.weight_2C = torch.ones(2, num_classes)
        return self

    def fit(self, class_counts: Tensor) -> None:
        """Set the weights; no effect without ``pos_weight``. A finding that is never present, or never absent, keeps weights of 1.

        Args:
            class_counts: ``[2, C]`` int64 number of cases in the training part without and with each finding.

        Raises:
            BuildError: The counts are not those of findings.
        """
        if self.pos_weight is None:
            return
        if class_counts.ndim != 2:
            raise BuildError(f"{type(self).__name__}: pos_weight requires findings, but the data have one class per image")
        absent_C, present_C = class_counts.double().cpu()
        self.connect(len(absent_C))
        if isinstance(self.pos_weight, str):
            positive_C = absent_C / present_C.clamp(min=1)
        else:
            positive_C = torch.tensor(self.pos_weight, dtype=torch.float64)
        both_C = (absent_C > 0) & (present_C > 0)
        scale_C = (absent_C + present_C) / (absent_C + positive_C * present_C).clamp(min=1e-12)
        weight_2C = torch.stack([scale_C, scale_C * positive_C])
        self.weight_2C.copy_(torch.where(both_C, weight_2C, torch.ones_like(weight_2C)))
        self.fitted = True

    def target(self, batch: Batch) -> Tensor:
        """``[B, C]`` findings."""
        return batch.findings

    def accuracy(self, logits_BC: Tensor, batch: Batch) -> Tensor:
        """The share of known answers on the right side of a probability of 1/2."""
        right_BC = (logits_BC > 0) == (batch.findings == 1)
        known_BC = batch.findings >= 0
        return (right_BC & known_BC).sum() / known_BC.sum().clamp(min=1)

    def forward(self, logits_BC: Tensor, findings_BC: Tensor) -> Tensor:
        """The mean loss over the known answers, in fp32 even under autocast; 0 if none exist.

        Args:
            logits_BC: ``[B, C]`` logits.
            findings_BC: ``[B, C]`` 1 present, 0 absent; answers with -1 are ignored.

        Returns:
            A differentiable scalar. With ``torch.distributed``, the average over the processes is the mean over all their known answers.

        Raises:
            BuildError: ``pos_weight`` has not been fitted.
        """
        if not self.fitted:
            raise BuildError(f"{type(self).__name__}: pos_weight has not been fitted. Call fit with the training part's counts first")
        with torch.autocast(device_type=logits_BC.device.type, enabled=False):
            loss_BC = binary_losses(in_full(logits_BC), findings_BC, self.gamma)
            if self.weight_2C is not None:
                absent_C, present_C = self.weight_2C.to(loss_BC.dtype)
                loss_BC = loss_BC * torch.where(findings_BC == 1, present_C, absent_C)
            return mean_over_cases(loss_BC, findings_BC >= 0)

    def describe(self) -> str:
        """A short description for the log."""
        if self.pos_weight is None:
            return type(self).__name__
        kind = f"'{self.pos_weight}'" if isinstance(self.pos_weight, str) else "given"
        ratio_C = self.weight_2C[1] / self.weight_2C[0]
        span = f", {ratio_C.min():.3g} … {ratio_C.max():.3g}" if self.fitted else ""
        return f"{type(self).__name__} with pos_weight {kind}{span}"

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.fitted = self.fitted or f"{prefix}weight_2C" in state_dict


@LOSSES.register_module()
class ClassSigmoidLoss(Loss):
    """The sigmoid loss of CLIP against the captions of all classes: "does this image show this finding?", with unknown answers left out.

    Each class is the mean direction of its captions, and the logit is the cosine divided by the temperature, plus the learned
    ``logit_bias``. ``CLIP.predict`` returns the same logits, so that their sigmoid is the probability that was trained.
    Every batch contains the whole caption table; a case without any finding is a negative of all classes.

    Args:
        negatives_per_positive: Expected number of absent findings per present one, from which the bias starts: at minus its logarithm, the
            log odds of a "yes". Greater than 0.

    Raises:
        ConfigError: ``negatives_per_positive`` is not greater than 0.

    Source: SigLIP (Zhai et al. 2023, arXiv:2303.15343), Eq. 1. That divides the sum over all pairs by the number of images; this is the
    mean over the known pairs, smaller by the factor C if all are known.
    """

    captions: ClassVar[Literal["batch", "all"]] = "all"
    multi_label = True

    def __init__(self, negatives_per_positive: Positive = 9.0):
        super().__init__()
        self.logit_bias = nn.Parameter(torch.tensor(-math.log(negatives_per_positive)))

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The mean over the known answers."""
        prototypes_CD = class_prototypes(text_UD, batch.caption_labels, batch.findings.shape[1])
        logits_BC = logit_scale * image_BD @ prototypes_CD.T + self.logit_bias
        return mean_over_cases(binary_losses(logits_BC, batch.findings), batch.findings >= 0)


def binary_losses(logits_BC: Tensor, findings_BC: Tensor, gamma: float = 0.0) -> Tensor:
    """``[B, C]``: -ln p of the right answer, times ``(1 - p)^gamma``; unknown answers count as absent here and must be left out after."""
    sign_BC = torch.where(findings_BC == 1, 1.0, -1.0).to(logits_BC.dtype)
    loss_BC = -F.logsigmoid(sign_BC * logits_BC)
    if gamma == 0:
        return loss_BC
    # 1 - p without cancellation. Powers below 1 have an infinite slope at 0: the clamp keeps certain answers above 0, without gradient.
    return torch.sigmoid(-sign_BC * logits_BC).clamp(min=torch.finfo(logits_BC.dtype).tiny) ** gamma * loss_BC
