"""Class prototypes: one direction per class, from the features of its captions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipzoo.models.pooling import in_full


def class_prototypes(text_SD: Tensor, labels_S: Tensor, num_classes: int) -> Tensor:
    """Average the captions of every class: normalise each, average, normalise again.

    No value is transferred from the device, so that a training step can call this without synchronisation.

    Args:
        text_SD: ``[S, D]`` caption features of any length; half precision is converted to fp32.
        labels_S: ``[S]`` int64 class of each caption in ``[0, num_classes)``; captions with -1 describe no class and are ignored.
        num_classes: Number of classes, C.

    Returns:
        ``[C, D]`` rows of unit length; zeros for a class without captions.

    Source: prompt ensembling of Radford et al. 2021 (arXiv:2103.00020), section 3.1.4.
    """
    with torch.autocast(device_type=text_SD.device.type, enabled=False):
        text_SD = F.normalize(in_full(text_SD), dim=-1)
        member_CS = labels_S[None, :] == torch.arange(num_classes, device=labels_S.device)[:, None]
        # The sum has the direction of the mean, and is normalised next. A product with zeros and ones is deterministic on every device.
        return F.normalize(member_CS.to(text_SD.dtype) @ text_SD, dim=-1)
