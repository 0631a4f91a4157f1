"""Computing activations again in the backward pass in place of keeping them (gradient checkpointing).

Dropout is replayed: torch restores the generators before it computes a part again. Batch norm is not as simple, as each of its forward
passes in training moves the running statistics; ``count_once`` sees to it that the second one does not.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from clipzoo.errors import BuildError


def recomputed(block: nn.Module, *inputs: Tensor | None) -> Tensor:
    """``block(*inputs)``, of which only the inputs are kept for the backward pass."""
    return checkpoint(block, *inputs, use_reentrant=False) if torch.is_grad_enabled() else block(*inputs)


def count_once(module: nn.Module) -> None:
    """Let every batch norm in ``module`` count a batch once, however often its activations are computed."""
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.track_running_stats:
            part.register_forward_pre_hook(partial(_count_outside_backward, momentum=part.momentum))


def let_timm_recompute(network: nn.Module, where: str) -> None:
    """Switch on a timm network's own checkpoints between blocks.

    Raises:
        BuildError: It has none.
    """
    try:
        network.set_grad_checkpointing(True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise BuildError(
            f"train.gradient_checkpointing: timm's network in {where} cannot compute activations again. Leave it out, or choose another"
        ) from error
    count_once(network)


def _count_outside_backward(batch_norm: _BatchNorm, _inputs: tuple, *, momentum: float | None) -> None:
    # Set before every pass and never put back afterwards, as a repeated pass ends by an exception as soon as it has what it needs.
    # With momentum 0 the statistics stay what they are, bit for bit; what is kept for the backward pass must be the same tensors.
    repeated = torch._C._current_graph_task_id() != -1  # as torch.utils.checkpoint itself asks
    batch_norm.momentum = 0.0 if repeated else momentum
    if repeated and batch_norm.training:
        batch_norm.num_batches_tracked.sub_(1)
