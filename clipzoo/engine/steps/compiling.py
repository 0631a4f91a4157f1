"""Towers compiled by torch for the steps of training (``runtime.compile``).

Only the forward and backward passes of trained towers in training are compiled: evaluation, which has batches of other sizes, and
everything that is saved stay as they are. Compiled code is made for fixed shapes, as CUDA graphs need them: the number of captions and of
tokens of a batch is raised to the next of a few sizes, with repetitions of the first caption and with padding, whose features are dropped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.models.base import Model
from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.structures import Tokens

_SMALLEST = 8  # captions, and tokens
_STEPS_PER_DOUBLING = 2  # sizes 8, 12, 16, 24, 32, 48, 64 …
_MOST_SIZES = 1024  # of one tower; with captions up to 1024 and tokens up to 128 there are 15 x 9


def compile_towers(net: Model, mode: str) -> None:
    """Compile the towers of ``net`` that are trained, at their first step. Call it after copies of ``net`` were made.

    Args:
        net: The model.
        mode: A mode of ``torch.compile``.

    Raises:
        BuildError: The towers are not ones of clipzoo, or all of them are frozen.
    """
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    inductor.fallback_random = True  # the same dropout as without
    limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"  # before torch 2.7
    for name in (limit, f"accumulated_{limit}"):  # what is beyond them would not be compiled, and a restart meets sizes in another order
        setattr(dynamo, name, max(getattr(dynamo, name), _MOST_SIZES))
    towers = [tower for tower in (net.image_tower, net.text_tower) if tower is not None and not tower.frozen]
    if not towers:
        raise BuildError(f"runtime.compile: {type(net).__name__} has no tower that is trained. Remove it")
    for tower in towers:
        compiled = torch.compile(tower.forward, mode=None if mode == "default" else mode, dynamic=False)
        tower.forward = _InTraining(tower, compiled)


class _InTraining:
    """The forward of a tower: compiled in training, otherwise the one it had."""

    def __init__(self, tower: nn.Module, compiled: Callable[..., Tensor]):
        self.tower, self.compiled, self.plain = tower, compiled, tower.forward

    def __call__(self, inputs: Tensor | Tokens) -> Tensor:
        if not (self.tower.training and torch.is_grad_enabled() and len(inputs)):  # a batch without findings has no captions
            return self.plain(inputs)
        if isinstance(self.tower, TextEncoder):
            return self.compiled(enlarged(inputs, self.tower.context_length))[: len(inputs)]
        return self.compiled(inputs)

    def __deepcopy__(self, memo: dict) -> None:
        raise TypeError("a compiled tower cannot be copied; compile it afterwards")


def enlarged(tokens: Tokens, longest: int) -> Tokens:
    """``tokens`` with further rows, equal to the first, and further padding, so that few shapes occur.

    Args:
        tokens: U captions.
        longest: Largest number of tokens.
    """
    count, length = tokens.ids.shape
    rows, columns = _next_size(count), min(_next_size(length), max(longest, length))
    padding = tokens.ids[:1, :1].expand(count, columns - length)  # a token that is in use, as any is as good
    ids, more = torch.cat([tokens.ids, padding], dim=1), rows - count
    return Tokens(torch.cat([ids, ids[:1].expand(more, -1)]), torch.cat([tokens.lengths, tokens.lengths[:1].expand(more)]))


def _next_size(number: int) -> int:
    """The smallest size that is not less: 8, and then two for each doubling.

    >>> [_next_size(number) for number in (1, 8, 9, 12, 13, 17, 33, 100)]
    [8, 8, 12, 12, 16, 24, 48, 128]
    """
    size = _SMALLEST
    while size * 2 < number:
        size *= 2
    sizes = [size + size * part // _STEPS_PER_DOUBLING for part in range(_STEPS_PER_DOUBLING + 1)]
    return next(one for one in sizes if one >= number)
