"""Attention weights of a forward pass, which fused kernels never return.

timm, open_clip, transformers and ``torch.nn.MultiheadAttention`` all call ``torch.nn.functional.scaled_dot_product_attention``. While
weights are captured, this function computes the softmax explicitly and keeps it, in the graph, so that its gradient can be asked for. (A
``MultiheadAttention`` that is asked for its weights returns a copy outside the graph; it is led to the same function.) The output is the
same up to rounding. Only calls from the thread that captures are affected, so that threads may share a model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

_FUSED, _MULTI_HEAD = F.scaled_dot_product_attention, F.multi_head_attention_forward
_LOCK = threading.Lock()
_CAPTURED: dict[int, list[Tensor]] = {}  # by thread


@contextmanager
def captured_attention() -> Iterator[list[Tensor]]:
    """Collect the attention weights of everything that this thread computes, in order: each ``[B, heads, L, S]``."""
    thread = threading.get_ident()
    found: list[Tensor] = []
    with _LOCK:
        if thread in _CAPTURED:
            raise RuntimeError("captured_attention is already active in this thread")
        _CAPTURED[thread] = found
        F.scaled_dot_product_attention, F.multi_head_attention_forward = _attention, _multi_head
    try:
        yield found
    finally:
        with _LOCK:
            del _CAPTURED[thread]
            if not _CAPTURED:
                F.scaled_dot_product_attention, F.multi_head_attention_forward = _FUSED, _MULTI_HEAD


def _attention(query: Tensor, key: Tensor, value: Tensor, *arguments: object, **options: object) -> Tensor:
    found = _CAPTURED.get(threading.get_ident())
    if found is None:
        return _FUSED(query, key, value, *arguments, **options)
    output, weights = explicit_attention(query, key, value, *arguments, **options)
    found.append(weights)
    return output


def _multi_head(
    *arguments: object, need_weights: bool = True, average_attn_weights: bool = True, **options: object
) -> tuple[Tensor, Tensor | None]:
    """``multi_head_attention_forward`` through ``scaled_dot_product_attention``, also if the weights are asked for."""
    found = _CAPTURED.get(threading.get_ident())
    if found is None or not need_weights:
        return _MULTI_HEAD(*arguments, need_weights=need_weights, average_attn_weights=average_attn_weights, **options)
    output, _ = _MULTI_HEAD(*arguments, need_weights=False, **options)
    return output, found[-1].mean(dim=1) if average_attn_weights else found[-1]


def explicit_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """The output ``[B, heads, L, D]`` of ``scaled_dot_product_attention``, whose arguments these are, and its weights ``[B, heads, L, S]``.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), equation 1.
    """
    if enable_gqa:  # groups of query heads share a key head
        key, value = (tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], dim=-3) for tensor in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = scores.softmax(dim=-1)
    return F.dropout(weights, dropout_p) @ value, weights
