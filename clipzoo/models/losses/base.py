"""Base classes of all losses: those between image features and features of the distinct captions, and those over logits of classes.

Shapes: B cases of the batch · U distinct captions of the batch · C classes · D embedding width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from clipzoo.models.losses.gather import Pairs, gather
from clipzoo.models.pooling import in_full
from clipzoo.structures import Batch


class LogitLoss(nn.Module):
    """Base class of the losses over logits ``[B, C]``, for models with a classifier.

    Attributes:
        name: Name of the loss in the log.
        multi_label: Whether a case may have several labels (findings), so that every logit is the answer to a question of its own.
    """

    name: ClassVar[str]
    multi_label: ClassVar[bool] = False

    @property
    def balances(self) -> bool:
        """Whether the loss corrects class imbalance."""
        return False

    def connect(self, num_classes: int) -> LogitLoss:
        """Prepare for ``num_classes`` classes; returns the loss itself."""
        return self

    def fit(self, class_counts: Tensor) -> None:
        """Fit weights of classes to the training part; see ``Model.initialise`` for ``class_counts``."""

    def target(self, batch: Batch) -> Tensor:
        """What the logits of a batch are compared with."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'target'")

    def accuracy(self, logits_BC: Tensor, batch: Batch) -> Tensor:
        """Scalar share of right answers among the known ones of a batch; 0 if none are known."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'accuracy'")

    def describe(self) -> str:
        """A short description for the log."""
        return type(self).__name__


class Loss(nn.Module):
    """Base class of all losses between images and captions; subclasses implement ``compute``.

    A loss is a submodule of the model: its parameters, if any, are trained, saved and synchronised with the model's.

    Attributes:
        captions: Captions that a training batch must contain. ``'batch'``: the distinct ones among those drawn for its cases;
            ``'all'``: the whole caption table of the dataset, in every batch.
        multi_label: Whether a case may have several labels (findings), so that every class is a question of its own.
    """

    captions: ClassVar[Literal["batch", "all"]] = "batch"
    multi_label: ClassVar[bool] = False

    def __init__(self) -> None:  # otherwise the signature would be nn.Module's (*args, **kwargs), which accepts any config
        super().__init__()

    def forward(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The loss of a batch, computed in fp32 even under autocast: at scale 100, adjacent bf16 logits are 0.5 apart.

        Args:
            image_BD: ``[B, D]`` image features of unit length.
            text_UD: ``[U, D]`` features of unit length of the captions in ``batch.text``.
            logit_scale: Scalar factor of the cosine similarities, after ``exp``.
            batch: Batch that defines the positives: ``caption``, ``caption_ids``, ``caption_labels``, ``positive_ids``, ``labels``,
                ``findings``.

        Returns:
            A differentiable scalar, the mean over the cases. With ``torch.distributed``, it is the loss that a single process with the
            cases of all processes would compute, or its average over the processes is; the gradient is correct
            after averaging over the processes, as DistributedDataParallel does.
        """
        with torch.autocast(device_type=image_BD.device.type, enabled=False):
            return self.compute(in_full(image_BD), in_full(text_UD), in_full(logit_scale), batch)

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The same as ``forward``, with autocast off and features in fp32 (fp64 stays fp64)."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'compute'")


class PairLoss(Loss):
    """Base class of losses that compare the images and captions of a batch with each other, across all processes if there are several.

    The defaults exactly reproduce the loss and gradient of a single process, and so does ``local_loss``, with less memory and work. The
    names are open_clip's; the defaults are not.

    Args:
        local_loss: Whether each of W processes computes only the rows of its own B images and captions against all W B columns, instead of
            all W B rows. The reported loss is then that of its own rows; the average over the processes is the whole loss.
        gather_with_grad: ``False`` treats the features of other processes as constants and sends no gradient back, which is not the
            gradient of the loss. Without ``local_loss`` it is too small by the factor W for everything that features depend on, and correct
            for the logit scale and bias. With ``local_loss`` it omits other processes' terms for this process's features; unlike
            in open_clip, a process's own features keep their gradient as columns.
    """

    def __init__(self, local_loss: bool = False, gather_with_grad: bool = True):
        super().__init__()
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad

    def pairs(self, image_BD: Tensor, text_UD: Tensor, batch: Batch) -> Pairs:
        """The pairs that this process compares; see ``gather``."""
        return gather(image_BD, text_UD, batch, local_loss=self.local_loss, gather_with_grad=self.gather_with_grad)
