"""Gradient checkpointing: recomputing activations in the backward pass instead of storing them.

Dropout is replayed: torch restores the generators before recomputation. Batch norm needs care, as each of its forward passes in
training updates the running statistics; ``count_once`` prevents the second update.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from clipzoo.errors import BuildError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def recomputed(block: nn.Module, *inputs: Tensor | None) -> Tensor:
    """``block(*inputs)``, storing only the inputs for the backward pass."""
    return checkpoint(block, *inputs, use_reentrant=False) if torch.is_grad_enabled() else block(*inputs)


def count_once(module: nn.Module) -> None:
    """Make every batch norm in ``module`` count a batch once, however often its activations are computed."""
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.track_running_stats:
            part.register_forward_pre_hook(partial(_count_outside_backward, momentum=part.momentum))


def let_timm_recompute(network: nn.Module, where: str) -> None:
    """Enable a timm network's own checkpoints between blocks.

    Raises:
        BuildError: The network has none.
    """
    try:
        network.set_grad_checkpointing(True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise BuildError(
            f"train.gradient_checkpointing: the timm network in {where} does not support it. Remove this option, or choose another"
        ) from error
    count_once(network)


def _count_outside_backward(batch_norm: _BatchNorm, _inputs: tuple, *, momentum: float | None) -> None:
    # Set before every pass and never reset, since a repeated pass ends by an exception as soon as it has what it needs.
    # With momentum 0 the statistics do not change, bit for bit; the tensors stored for the backward pass must be the same.
    repeated = torch._C._current_graph_task_id() != -1  # same test as in torch.utils.checkpoint
    batch_norm.momentum = 0.0 if repeated else momentum
    if repeated and batch_norm.training:
        batch_norm.num_batches_tracked.sub_(1)


def recompute_layers(network: PreTrainedModel, where: str) -> None:
    """Enable transformers' own checkpoints between layers.

    Raises:
        BuildError: The network has none.
    """
    if not network.supports_gradient_checkpointing:
        raise BuildError(f"train.gradient_checkpointing: {where} does not support it. Remove this option, or choose another model")
    # transformers 5 renamed it, and warns about the old name.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})
