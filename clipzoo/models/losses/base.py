"""What every loss is: image features and the features of the distinct captions in, one number out.

Shapes: B cases of the batch · U distinct captions of the batch · D embedding width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from clipzoo.models.base import in_full
from clipzoo.models.losses.gather import Pairs, gather
from clipzoo.structures import Batch


class Loss(nn.Module):
    """Base of all losses; a subclass writes ``compute``.

    A loss is a submodule of the model: its parameters, if it has any, are trained, saved and synchronised with the model's.

    Attributes:
        captions: Which captions a training batch must hold. ``'batch'``: the distinct ones among those drawn for its cases;
            ``'all'``: the whole caption table of the dataset, in every batch.
    """

    captions: ClassVar[Literal["batch", "all"]] = "batch"

    def __init__(self) -> None:  # without it the signature would be nn.Module's (*args, **kwargs), and a config could say anything
        super().__init__()

    def forward(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The loss of a batch, computed in fp32 even under autocast: at scale 100, logits in bf16 are 0.5 apart.

        Args:
            image_BD: ``[B, D]`` image features of length 1.
            text_UD: ``[U, D]`` features of length 1 of the captions in ``batch.text``.
            logit_scale: Scalar factor on the cosine similarities, ``exp`` applied already.
            batch: Who describes whom: ``caption``, ``caption_ids``, ``caption_labels``, ``positive_ids``, ``labels``.

        Returns:
            A differentiable scalar, the mean over the cases. Where ``torch.distributed`` runs, it is the loss that one process with the
            cases of all processes would compute, or one whose average over the processes is; its gradient is right
            once it is averaged over the processes, as DistributedDataParallel does.
        """
        with torch.autocast(device_type=image_BD.device.type, enabled=False):
            return self.compute(in_full(image_BD), in_full(text_UD), in_full(logit_scale), batch)

    def compute(self, image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> Tensor:
        """The same as ``forward``, with autocast off and features in fp32 (fp64 stays fp64)."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'compute'")


class PairLoss(Loss):
    """Base of the losses that compare the images and captions of a batch with each other; of all processes, where there are several.

    The defaults give one process's loss and gradient exactly, and so does ``local_loss``, with less memory and work. The names are
    open_clip's; the defaults are not.

    Args:
        local_loss: Each of W processes computes the rows of its own B images and captions against all W B columns, instead of all W B rows.
            The loss that it reports is then that of its own rows; their average over the processes is the whole loss.
        gather_with_grad: ``False`` treats the features of other processes as constants and sends no gradient back. That is not the
            gradient of the loss. Without ``local_loss`` it is too small by the factor W in all that features depend on, and right in the
            logit scale and bias. With ``local_loss`` it misses what other processes' images and captions say about this process's; unlike
            in open_clip, its own features keep their gradient as columns too.
    """

    def __init__(self, local_loss: bool = False, gather_with_grad: bool = True):
        super().__init__()
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad

    def pairs(self, image_BD: Tensor, text_UD: Tensor, batch: Batch) -> Pairs:
        """What this process has to compare; see ``gather``."""
        return gather(image_BD, text_UD, batch, local_loss=self.local_loss, gather_with_grad=self.gather_with_grad)
