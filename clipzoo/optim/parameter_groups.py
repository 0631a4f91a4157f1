"""Which parameters of a model are decayed: every trainable one is in exactly one group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError

if TYPE_CHECKING:
    from torch import nn

# Tables with one row per position, and class tokens, under the names that timm, open_clip and transformers give them.
UNDECAYED_NAMES = frozenset(
    {"positional_embedding", "position_embeddings", "pos_embed", "class_embedding", "cls_token", "dist_token", "reg_token"}
)


def parameter_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """Sort the trainable parameters of ``model`` into those that are decayed and those that are not.

    Not decayed: everything with at most one dimension (biases, weights of norms, layer scales, the logit scale and bias of a CLIP model),
    biases and norms of any shape, position embeddings and class tokens, and what a submodule's ``no_weight_decay()`` names, as timm's
    models do. Decayed: all other weights, token embeddings among them. Frozen parameters are in no group, so that no decay moves them:
    call this after freezing, and once all layers exist.

    Args:
        model: Where the parameters come from; the groups keep its order.
        lr: Learning rate of both groups.
        weight_decay: Of the decayed group.

    Returns:
        At most two groups for a ``torch.optim`` optimizer, none of them empty, each with ``name`` (``'decay'`` or ``'no_decay'``),
        ``params``, ``lr``, ``weight_decay``, and ``initial_lr``, which a schedule multiplies by its factor. Where processes share the
        weights of the towers, these stand in groups of their own (``'decay_sharded'``, ``'no_decay_sharded'``).

    Raises:
        BuildError: No parameter is trainable.
    """
    undecayed = set(_undecayed(model))
    groups = {
        decayed + sharded: {"name": decayed + sharded, "params": [], "weight_decay": weight_decay if decayed == "decay" else 0.0}
        for decayed in ("decay", "no_decay")
        for sharded in ("", "_sharded")
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # A parameter that processes share is a DTensor, and torch's fused optimizers take one kind at a time.
            kind = "_sharded" if hasattr(parameter, "full_tensor") else ""
            groups[("no_decay" if name in undecayed else "decay") + kind]["params"].append(parameter)
    filled = [{**group, "lr": lr, "initial_lr": lr} for group in groups.values() if group["params"]]
    if not filled:
        raise BuildError("optimizer: the model has no trainable parameter. Leave a tower, a projection or the temperature unfrozen")
    return filled


def _undecayed(model: nn.Module) -> Iterator[str]:
    """Names, as ``model.named_parameters()`` gives them, of the parameters that are not decayed."""
    for prefix, module in model.named_modules():
        start = f"{prefix}." if prefix else ""
        named = getattr(module, "no_weight_decay", None)
        yield from (start + name for name in (named() if callable(named) else ()))
        norm = "Norm" in type(module).__name__  # torch's and timm's norms have no common base class
        for name, parameter in module.named_parameters(recurse=False):
            parts = {name, *prefix.split(".")[-1:]}
            if norm or parameter.ndim <= 1 or "bias" in name.split("_") or parts & UNDECAYED_NAMES:
                yield start + name
