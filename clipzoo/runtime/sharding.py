"""Sharding of towers that do not fit on one GPU: every process keeps a part of their weights, gradients and optimizer state (FSDP2).

A tower is sharded block by block. A block's weights are gathered when its forward or backward pass begins and freed when it ends, so that
only one block at a time is whole. Everything outside the towers (projections, temperature, loss) is small and replicated.

Without sharding, the functions that save, load and clip do the same as those of torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.models.tower import Tower
from clipzoo.runtime import distributed

# Blocks that hold a larger share of a tower are divided further, if they can be.
_LARGEST_SHARE = 0.25


def shard(model: nn.Module, device: torch.device) -> nn.Module:
    """Shard the towers of ``model`` among all processes, in place; other gradients are averaged during the backward pass.

    Call it when the model has its weights (those of rank 0 are used) and before the optimizer is built. The model can no longer be copied.

    Raises:
        BuildError: The model has no towers, a tower cannot be sharded, or torch is too old.
    """
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_reshard_after_forward"):
        raise BuildError(f"runtime.strategy: 'fsdp' needs torch 2.8 or newer, but {torch.__version__} is installed. Use 'ddp'")
    # Features may be a view of a tower's last state, but heads and losses never write to it in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    towers = [module for module in model.modules() if isinstance(module, Tower)]
    if not towers:
        raise BuildError(f"runtime.strategy: 'fsdp' shards towers, but {type(model).__name__} has no towers. Use 'ddp'")
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # convolutions may be channels-last, which cannot be sharded by rows
    for value in model.state_dict().values():
        dist.broadcast(value, src=0)
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    for tower in towers:
        try:
            for block in blocks(tower):
                fsdp.fully_shard(block, mesh=mesh)
            fsdp.fully_shard(tower, mesh=mesh, reshard_after_forward=tower.frozen)
        except (ValueError, NotImplementedError) as error:
            raise BuildError(f"runtime.strategy: 'fsdp' cannot shard {tower.name} ({error}). Use 'ddp'") from error
    for parameter in model.parameters():
        if parameter.requires_grad and not is_sharded(parameter):
            parameter.register_post_accumulate_grad_hook(_average)
    return model


def blocks(tower: nn.Module) -> list[nn.Module]:
    """The parts of a tower that are gathered one at a time: elements of its lists and sequences of layers.

    If nested (stages of blocks), the outer ones, unless an element holds more than a quarter of the tower and can itself be divided.
    """
    largest = _LARGEST_SHARE * _size(tower)

    def inside(module: nn.Module) -> Iterator[nn.Module]:
        is_list = isinstance(module, (nn.ModuleList, nn.Sequential))
        for child in module.children():
            is_element = is_list and _size(child) > 0 and any(True for _ in child.children())
            smaller = [] if is_element and _size(child) <= largest else list(inside(child))
            yield from smaller or ([child] if is_element else [])

    return list(inside(tower))


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Gather all weights on every process, which may then call the model any number of times: their shares of a part differ in length.

    A collective operation. It needs memory for the whole weights, but not for their gradients and optimizer state.
    """
    divided = [module for module in model.modules() if hasattr(module, "unshard")]
    for module in divided:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in divided:
            module.set_reshard_after_forward(not isinstance(module, Tower) or module.frozen, recurse=False)
            module.reshard()


def is_sharded(value: object) -> bool:
    """Whether this process holds only a part of the tensor."""
    return hasattr(value, "full_tensor")  # a DTensor; importing its class costs time even if nothing is sharded


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This process's parts of sharded tensors, and other tensors unchanged."""
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float, table: nn.Parameter | None = None) -> Tensor:
    """Scale the gradients down so that their joint norm is at most ``max_norm``; return the original norm.

    Args:
        parameters: The parameters.
        max_norm: Largest norm.
        table: One of them, most of whose rows have the gradient 0. Rows of zeros do not change even the last digit of the norm.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters]
    divided = list(filter(is_sharded, gradients))
    if divided:
        square = torch.stack(torch._foreach_norm(local(divided))).square().sum()
        dist.all_reduce(square)
        norm = (square + sum(gradient.square().sum() for gradient in gradients if not is_sharded(gradient))).sqrt()
    else:
        others = [parameter.grad for parameter in parameters if parameter is not table]
        norms = torch._foreach_norm(others) if others else []
        if table is not None and table.grad is not None:
            norms = [*norms, _norm_by_rows(table.grad)]
        norm = torch.stack([one.to(norms[0]) for one in norms]).norm() if norms else torch.zeros(())
    factor = max_norm / (norm + 1e-6)  # the eps of clip_grad_norm_
    if norm.device.type != "cpu" or not factor >= 1:  # only there is it free to ask; also with NaN
        torch._foreach_mul_(local(gradients), factor.clamp(max=1))
    return norm


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """``model.state_dict()`` with whole tensors. A collective operation; only the main process gets the sharded ones, on the CPU."""
    return _whole(model.state_dict())


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict:
    """``optimizer.state_dict()`` with whole tensors; see ``model_state``."""
    return _whole(optimizer.state_dict())


def load_model_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """The inverse of ``model_state``; every process passes the whole state, with all keys."""
    model.load_state_dict({name: _parted(state[name], own) for name, own in model.state_dict().items()})


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """The inverse of ``optimizer_state``. Raises the same errors as ``load_state_dict`` if the state belongs to another optimizer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict] = state["state"]
    parted = {
        index: {name: _parted(value, parameters[index]) for name, value in values.items()}
        for index, values in moments.items()
        if index < len(parameters)
    }
    optimizer.load_state_dict({**state, "state": parted})


def _whole(value: object) -> object:
    if is_sharded(value):
        full = value.full_tensor()
        return full.cpu() if distributed.is_main() else torch.empty(0)
    if isinstance(value, dict):
        return type(value)((key, _whole(item)) for key, item in value.items())
    return value


def _parted(value: object, like: Tensor) -> object:
    """``value`` sharded in the same way as ``like``, if it has the same shape (moments do, step counts do not)."""
    if not (is_sharded(like) and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device, like.dtype), like.device_mesh, like.placements)


def _average(parameter: nn.Parameter) -> None:
    """Average the gradient over the processes. Gradients averaged and accumulated earlier are equal everywhere and stay unchanged."""
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def _norm_by_rows(gradient_VD: Tensor) -> Tensor:
    """The norm, summed over the rows in fp64: rounded to fp32 it does not depend on the order of the sum, nor on rows of zeros."""
    norms_V = torch.linalg.vector_norm(gradient_VD, dim=1)
    return norms_V.to(torch.float64 if gradient_VD.device.type != "mps" else torch.float32).square().sum().sqrt()


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
