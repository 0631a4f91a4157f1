"""The pairs compared by a contrastive loss: of this process, or of all processes together.

Shapes: B cases and U distinct captions of this process · N = W B cases and V captions of all W processes · D embedding width.
K caption rows that each process sends (U padded to the same number everywhere, so V = W K).
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
    """The queries of a process, what they are compared with, and the positives.

    With ``local_loss`` the queries are the process's own B images and U captions, compared with all V captions and N images. Otherwise
    everything is a query: B is N, and U is V. In one process everything is its own.

    Attributes:
        image_BD: ``[B, D]`` query images.
        text_UD: ``[U, D]`` query captions.
        all_image_ND: ``[N, D]`` images to compare with; query image b is row ``first + b``.
        all_text_VD: ``[V, D]`` captions to compare with.
        caption_B: ``[B]`` int64 rows of ``text_UD``: the caption drawn for each case.
        caption_N: ``[N]`` int64 rows of ``all_text_VD``: the caption drawn for each of all cases.
        distinct_V: ``[V]`` bool: the rows of ``all_text_VD`` that count. The others are padding or duplicates.
            ``None`` if all of them count (one process).
        first: See ``all_image_ND``.
        positive_ids: ``[B, M]`` positive ids of this process's own cases; ``None`` if the batch has none.
        ids_V: ``[V]`` int64 caption ids, -1 in padding.
    """

    image_BD: Tensor
    text_UD: Tensor
    all_image_ND: Tensor
    all_text_VD: Tensor
    caption_B: Tensor
    caption_N: Tensor
    distinct_V: Tensor | None
    first: int
    positive_ids: Tensor | None
    ids_V: Tensor

    @property
    def is_whole(self) -> bool:
        """Are this process's queries everything?"""
        return self.text_UD is self.all_text_VD

    def logits(self, logit_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled similarities ``[B, V]`` of images to captions, and ``[U, N]`` of captions to images."""
        to_text_BV = logit_scale * self.image_BD @ self.all_text_VD.T
        return to_text_BV, to_text_BV.T if self.is_whole else logit_scale * self.text_UD @ self.all_image_ND.T

    def positives(self) -> Tensor:
        """``[B, V]`` bool: whether caption v describes image b; false in ignored columns. Must be called by all processes or none."""
        positives_BV = positives(self.positive_ids, self.ids_V)
        if self.distinct_V is None:
            return positives_BV
        positives_BV = positives_BV & self.distinct_V
        # Sent as a mask rather than as ids, since the number of ids per case may differ between processes.
        return _all_gather(positives_BV.to(torch.uint8)).flatten(0, 1).bool() if self.is_whole else positives_BV

    def positives_of_captions(self, positives_BV: Tensor) -> Tensor:
        """``[U, N]`` bool: whether caption u describes image n. Must be called by all processes or none.

        Args:
            positives_BV: Result of ``positives``.
        """
        if self.is_whole:
            return positives_BV.T
        # Each process knows the captions of its own cases, and tells every other process which of its captions describe them.
        told_WBK = positives(self.positive_ids, self.ids_V).to(torch.uint8).unflatten(1, (num_processes(), -1)).transpose(0, 1).contiguous()
        heard_WBK = torch.empty_like(told_WBK)
        dist.all_to_all_single(heard_WBK, told_WBK)
        return heard_WBK.flatten(0, 1).T[: len(self.text_UD)].bool()


def gather(image_BD: Tensor, text_UD: Tensor, batch: Batch, *, local_loss: bool = False, gather_with_grad: bool = True) -> Pairs:
    """Collect the features and captions of all processes; without ``torch.distributed``, only rearrange the arguments.

    Every process must call this at the same step with the same number of cases. The number of distinct captions may differ: at most
    B for captions of the batch, any number if all processes have the same captions. A caption encoded by several
    processes counts once: the row of the lowest rank, or with ``local_loss`` a process's own row if it has one. No shape
    depends on values, so that the device is not synchronised.

    Gradients, which DistributedDataParallel averages over the processes (their sum divided by W):

    * By default every process computes the whole loss and knows the whole gradient of its own features; nothing is sent back. It is
      multiplied by W; gradients of parameters applied after the gathering (logit scale, bias) are complete on every process, and the
      average leaves them unchanged.
    * ``local_loss``: each process computes the loss of its own rows, whose average over the processes is the whole loss. Every process has
      a part of the gradient of all features; the parts are summed and sent back.
    * Without ``gather_with_grad`` the features of other processes are constants, and the average is used as it is.

    Args:
        image_BD: ``[B, D]`` features of this process's images.
        text_UD: ``[U, D]`` features of its captions.
        batch: Batch of this process.
        local_loss: Whether only this process's own images and captions are queries.
        gather_with_grad: Whether gradients of every process reach the features of all.
    """
    if num_processes() == 1:
        return Pairs(image_BD, text_UD, image_BD, text_UD, batch.caption, batch.caption, None, 0, batch.positive_ids, batch.caption_ids)
    num_cases, num_rows = len(image_BD), max(len(image_BD), len(text_UD))
    padding = num_rows - len(text_UD)
    back = ("sum" if local_loss else "whole") if gather_with_grad else "own"
    features = _GatherFeatures.apply(torch.cat([image_BD, F.pad(text_UD, (0, 0, 0, padding))]), back)
    ids = _all_gather(torch.cat([batch.caption, F.pad(batch.caption_ids, (0, padding), value=-1)]))

    offsets = torch.arange(len(ids), device=ids.device)[:, None] * num_rows
    ids_V = ids[:, num_cases:].flatten()
    chosen_V = _one_row_per_id(ids_V, slice(dist.get_rank() * num_rows, (dist.get_rank() + 1) * num_rows) if local_loss else slice(0))
    caption_N = chosen_V[(ids[:, :num_cases] + offsets).flatten()]
    distinct_V = (chosen_V == torch.arange(len(ids_V), device=ids.device)) & (ids_V >= 0)
    all_image_ND, all_text_VD = features[:, :num_cases].flatten(0, 1), features[:, num_cases:].flatten(0, 1)
    asked = (image_BD, text_UD) if local_loss else (all_image_ND, all_text_VD)
    return Pairs(
        *asked,
        all_image_ND,
        all_text_VD,
        caption_B=batch.caption if local_loss else caption_N,
        caption_N=caption_N,
        distinct_V=distinct_V,
        first=dist.get_rank() * num_cases if local_loss else 0,
        positive_ids=batch.positive_ids,
        ids_V=ids_V,
    )


def mean_over_cases(loss_B: Tensor, counts_B: Tensor) -> Tensor:
    """The mean of ``loss_B [B]`` over the cases where ``counts_B [B]`` is true; 0, with zero gradient, if no case counts.

    In several processes: this process's share of the mean over all of them, times W, so that the average over processes
    (of values, and by DistributedDataParallel of gradients) is that mean even if their numbers of cases differ.
    """
    total = loss_B.masked_fill(~counts_B, 0).sum()
    count = counts_B.sum().to(loss_B.dtype)
    world = num_processes()
    if world > 1:
        dist.all_reduce(count)
    return total * world / count.clamp(min=1)


def num_processes() -> int:
    """Number of processes, W; 1 if ``torch.distributed`` is not in use."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _one_row_per_id(ids_V: Tensor, preferred: slice) -> Tensor:
    """``[V]`` int64: among the rows with the same id as row v, the first one in ``preferred``, or else the first of all.

    Uses sorting rather than all pairs: for 32 000 captions that matrix would be larger than the logits.
    """
    place_V = torch.arange(len(ids_V), device=ids_V.device)
    key_V = 2 * ids_V + 1
    key_V[preferred] -= 1
    order_V = key_V.argsort(stable=True)  # rows with the same id are adjacent, preferred ones first
    sorted_V = ids_V[order_V]
    starts_V = F.pad(sorted_V[1:] != sorted_V[:-1], (1, 0), value=True)
    start_V = torch.where(starts_V, place_V, 0).cummax(dim=0).values
    return torch.empty_like(order_V).scatter_(0, order_V, order_V[start_V])


def _all_gather(values: Tensor) -> Tensor:
    """Gather ``[...]`` of every process to ``[W, ...]``, in order of rank, without gradient."""
    values = values.contiguous()
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values)
    return torch.stack(parts)


class _GatherFeatures(torch.autograd.Function):
    """Gathers ``[R, D]`` of every process to ``[W, R, D]``.

    In the backward pass ``gradient [W, R, D]`` is that of this process's loss, handled according to ``back``: ``'sum'``, the sum over the
    processes of their parts for this one; ``'own'``, the own part; ``'whole'``, the own part times W. See ``gather``.
    """

    @staticmethod
    def forward(ctx, features: Tensor, back: str) -> Tensor:
        ctx.back = back
        return _all_gather(features)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        rank = dist.get_rank()
        if ctx.back == "own":
            return gradient[rank], None
        if ctx.back == "whole":
            return gradient[rank] * dist.get_world_size(), None
        if dist.get_backend() == "nccl":
            own = torch.empty_like(gradient[rank])
            dist.reduce_scatter(own, list(gradient.contiguous()))
            return own, None
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)  # gloo in older torch versions has no reduce_scatter
        return summed[rank], None
