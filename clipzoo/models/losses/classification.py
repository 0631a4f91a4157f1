"""Losses over class logits, for models with a classifier and one class per case.

Shapes: B cases of the batch · C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipzoo.balance import Method, weight_of_a_case
from clipzoo.config.arguments import NotNegative, Positive, Share, checked
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.losses.base import LogitLoss
from clipzoo.models.losses.gather import mean_over_cases
from clipzoo.models.pooling import in_full
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch

ClassWeights = Method | list[Positive]


@checked
class ClassificationLoss(LogitLoss):
    """Base class of the losses for one class per case; subclasses implement ``compute``.

    With ``class_weights`` every case has the weight of its class. The weights are computed from the fold's training part only (``fit``)
    and scaled to mean 1 over its cases, so that the magnitude of the loss, and with it a suitable learning rate, does not change; the loss
    of a batch is the plain mean over its cases. Unlike in torch it is not divided by the sum of the batch's weights, so the average over
    processes is exactly the loss of one process with all their cases. The weights are stored in checkpoints.

    Args:
        class_weights: ``'inverse_freq'``, ``'inverse_sqrt'`` or ``'balanced'``, as in ``WeightedSampler`` with its default smooth factor
            of 1: a case of a class with n cases has the weight 1 / (n + 1), 1 / sqrt(n + 1), or 1 / n. Or C positive numbers, one per
            class in order. ``None`` weights all cases equally.

    Attributes:
        weight_C: ``[C]`` float32; ``None`` without ``class_weights``.

    Raises:
        ConfigError: ``class_weights`` is neither a method nor a list of positive numbers.
    """

    def __init__(self, class_weights: ClassWeights | None = None):
        super().__init__()
        self.class_weights = class_weights
        self.fitted = class_weights is None
        self.register_buffer("weight_C", None)

    @property
    def balances(self) -> bool:
        """Whether the loss corrects class imbalance."""
        return self.class_weights is not None

    def connect(self, num_classes: int) -> ClassificationLoss:
        """Prepare for the weights of ``num_classes`` classes; returns the loss itself.

        Raises:
            ConfigError: The number of ``class_weights`` differs.
        """
        if self.class_weights is not None and self.weight_C is None:
            if not isinstance(self.class_weights, str) and len(self.class_weights) != num_classes:
                raise ConfigError(
                    f"{type(self).__name__}: class_weights has {len(self.class_weights)} numbers, but there are {num_classes} classes"
                )
            self.weight_C = torch.ones(num_classes)
        return self

    def fit(self, class_counts: Tensor) -> None:
        """Set the class weights; no effect without ``class_weights``.

        Args:
            class_counts: ``[C]`` int64 number of cases per class in the training part only.

        Raises:
            BuildError: There are no cases.
        """
        if self.class_weights is None:
            return
        self.connect(len(class_counts))
        counts = class_counts.double().cpu()
        if not counts.sum() > 0:
            raise BuildError(f"{type(self).__name__}: no training case has a class, so there are no class weights. Remove class_weights")
        if isinstance(self.class_weights, str):
            weight = torch.from_numpy(weight_of_a_case(counts.numpy(), self.class_weights))
        else:
            weight = torch.tensor(self.class_weights, dtype=torch.float64)
        self.weight_C.copy_(weight * counts.sum() / (weight * counts).sum())
        self.fitted = True

    def target(self, batch: Batch) -> Tensor:
        """``[B]`` int64 classes."""
        return batch.labels

    def accuracy(self, logits_BC: Tensor, batch: Batch) -> Tensor:
        """The share of correct cases among those with a class."""
        right_B = logits_BC.argmax(dim=1) == batch.labels  # no prediction is -1
        return right_B.sum() / (batch.labels >= 0).sum().clamp(min=1)

    def forward(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """The mean loss over the cases with a class, in fp32 even under autocast; 0 if none exist.

        Args:
            logits_BC: ``[B, C]`` logits, with the temperature applied.
            labels_B: ``[B]`` int64 classes; cases with -1 are ignored.

        Returns:
            A differentiable scalar. With ``torch.distributed``, the average over the processes is the mean over all their cases.

        Raises:
            BuildError: ``class_weights`` have not been fitted.
        """
        if not self.fitted:
            raise BuildError(
                f"{type(self).__name__}: class_weights have not been fitted. Call fit with the training part's class counts first"
            )
        with torch.autocast(device_type=logits_BC.device.type, enabled=False):
            known_B = labels_B >= 0
            label_B = labels_B.clamp(min=0)
            loss_B = self.compute(in_full(logits_BC), label_B)
            if self.weight_C is not None:
                loss_B = loss_B * self.weight_C[label_B].to(loss_B.dtype)
            return mean_over_cases(loss_B, known_B)

    def compute(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """``[B]`` losses of the cases, before class weights; autocast is off, and logits are fp32 (fp64 stays fp64)."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'compute'")

    def describe(self) -> str:
        """A short description for the log."""
        if self.class_weights is None:
            return type(self).__name__
        kind = f"'{self.class_weights}'" if isinstance(self.class_weights, str) else "given"
        span = f", {self.weight_C.min():.3g} … {self.weight_C.max():.3g}" if self.fitted else ""
        return f"{type(self).__name__} with class weights {kind}{span}"

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.fitted = self.fitted or f"{prefix}weight_C" in state_dict


@LOSSES.register_module()
class CrossEntropyLoss(ClassificationLoss):
    """The negative log-probability of the true class.

    Args:
        label_smoothing: Share of the target, in [0, 1), spread evenly over all classes.
        class_weights: See ``ClassificationLoss``.

    Raises:
        ConfigError: ``label_smoothing`` is outside [0, 1), or ``class_weights`` is invalid.

    Source: label smoothing as in Szegedy et al. 2016 (arXiv:1512.00567), section 7. The weight of the case's class applies to its whole
    smoothed loss; torch weights each class's part of the smoothed target by that class's own weight.
    """

    name = "cross_entropy"

    def __init__(self, label_smoothing: Share = 0.0, class_weights: ClassWeights | None = None):
        super().__init__(class_weights)
        self.label_smoothing = label_smoothing

    def compute(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """``[B]`` cross entropies."""
        return F.cross_entropy(logits_BC, labels_B, reduction="none", label_smoothing=self.label_smoothing)


@LOSSES.register_module()
class FocalLoss(ClassificationLoss):
    """Cross entropy that down-weights cases of which the model is confident: ``-(1 - p)^gamma log p``.

    It focuses training on hard cases, which rare classes often contain; ``class_weights`` additionally balance the classes.

    Args:
        gamma: Focusing exponent, 0 or more; 0 is cross entropy.
        class_weights: See ``ClassificationLoss``; alpha in the paper.

    Raises:
        ConfigError: ``gamma`` is negative, or ``class_weights`` is invalid.

    Source: Lin et al. 2017 (arXiv:1708.02002), Eq. 5, with softmax instead of sigmoid, and the mean over the cases.
    """

    name = "focal"

    def __init__(self, gamma: NotNegative = 2.0, class_weights: ClassWeights | None = None):
        super().__init__(class_weights)
        self.gamma = gamma

    def compute(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """``[B]`` focal losses."""
        log_p_B = F.log_softmax(logits_BC, dim=1).gather(1, labels_B[:, None]).squeeze(1)
        # 1 - p without cancellation. Powers below 1 have an infinite slope at 0: the clamp keeps certain cases above 0, without gradient.
        doubt_B = (-torch.expm1(log_p_B)).clamp(min=torch.finfo(log_p_B.dtype).tiny)
        return -(doubt_B**self.gamma) * log_p_B
