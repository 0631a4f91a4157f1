"""The batch that a contrastive loss sees: this process's, or that of all processes together.

Shapes: B cases and U distinct captions of one process, or of all of them once gathered · D embedding width.
K caption rows that each process sends (U padded to the same number everywhere) · W processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from clipzoo.structures import Batch, positives


@dataclass(frozen=True)
class Pairs:
    """Features, and who describes whom.

    Attributes:
        image_BD: ``[B, D]`` image features.
        text_UD: ``[U, D]`` caption features.
        caption_B: ``[B]`` int64 rows of ``text_UD``: the caption drawn for each case.
        positives_BU: ``[B, U]`` bool: does caption u describe case b; false in the columns that do not count.
            ``None`` where the batch has no ``positive_ids``.
        distinct_U: ``[U]`` bool: the rows of ``text_UD`` that count. The others are padding, or repeat an earlier row.
            ``None`` where all of them count (one process).
    """

    image_BD: Tensor
    text_UD: Tensor
    caption_B: Tensor
    positives_BU: Tensor | None
    distinct_U: Tensor | None


def gather(image_BD: Tensor, text_UD: Tensor, batch: Batch) -> Pairs:
    """Collect the features and captions of all processes, with gradient; without ``torch.distributed`` only rearrange the arguments.

    Every process must call this at the same step, with the same number of cases. The number of distinct captions may differ: at most
    B where captions are those of the batch, any number where every process has the same ones. A caption that several
    processes encoded counts once, the row of the lowest rank. No shape depends on values, so the device is not waited for.

    Gradients: afterwards every process computes the same loss from the same numbers, so each already knows the whole gradient of its own
    features and nothing is sent back. That gradient is multiplied by W, because DistributedDataParallel divides the sum over
    processes by W; gradients of parameters that act after the gathering (logit scale, bias) are whole on every process and the average
    leaves them as they are.
    """
    if num_processes() == 1:
        positives_BU = None if batch.positive_ids is None else batch.positives()
        return Pairs(image_BD, text_UD, batch.caption, positives_BU, distinct_U=None)
    num_cases, num_rows = len(image_BD), max(len(image_BD), len(text_UD))
    padding = num_rows - len(text_UD)
    features = _GatherFeatures.apply(torch.cat([image_BD, F.pad(text_UD, (0, 0, 0, padding))]))
    ids = _all_gather(torch.cat([batch.caption, F.pad(batch.caption_ids, (0, padding), value=-1)]))

    offsets = torch.arange(len(ids), device=ids.device)[:, None] * num_rows
    caption_B = (ids[:, :num_cases] + offsets).flatten()
    ids_U = ids[:, num_cases:].flatten()
    first_U = (ids_U[:, None] == ids_U[None, :]).int().argmax(dim=1)  # the first row with the same id
    distinct_U = (first_U == torch.arange(len(ids_U), device=ids.device)) & (ids_U >= 0)

    positives_BU = None
    if batch.positive_ids is not None:
        # Sent as a mask, not as ids: how many ids a case has may differ between processes.
        local = positives(batch.positive_ids, ids_U) & distinct_U
        positives_BU = _all_gather(local.to(torch.uint8)).flatten(0, 1).bool()
    return Pairs(features[:, :num_cases].flatten(0, 1), features[:, num_cases:].flatten(0, 1), first_U[caption_B], positives_BU, distinct_U)


def mean_over_cases(loss_B: Tensor, counts_B: Tensor) -> Tensor:
    """The mean of ``loss_B [B]`` over the cases where ``counts_B [B]`` is true; 0, with zero gradient, where no case counts.

    In several processes: this process's share of the mean over all of them, times W, so that the average over processes
    (of values, and by DistributedDataParallel of gradients) is that mean even if they hold different numbers of cases.
    """
    total = loss_B.masked_fill(~counts_B, 0).sum()
    count = counts_B.sum().to(loss_B.dtype)
    world = num_processes()
    if world > 1:
        dist.all_reduce(count)
    return total * world / count.clamp(min=1)


def num_processes() -> int:
    """W; 1 where ``torch.distributed`` is not in use."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _all_gather(values: Tensor) -> Tensor:
    """``[...]`` of every process to ``[W, ...]``, in order of rank, without gradient."""
    values = values.contiguous()
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values)
    return torch.stack(parts)


class _GatherFeatures(torch.autograd.Function):
    """``[R, D]`` of every process to ``[W, R, D]``; backward: the own part of the gradient, times W (see ``gather``)."""

    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        return _all_gather(features)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient[dist.get_rank()] * dist.get_world_size()
