"""Which parameters of a model are decayed, and how fast each learns: every trainable one is in exactly one group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError, did_you_mean, shortened

if TYPE_CHECKING:
    from torch import nn

# Tables with one row per position, and class tokens, under the names that timm, open_clip and transformers give them.
UNDECAYED_NAMES = frozenset(
    {"positional_embedding", "position_embeddings", "pos_embed", "class_embedding", "cls_token", "dist_token", "reg_token"}
)

_KINDS = ("decay", "decay_sharded", "no_decay", "no_decay_sharded")


@dataclass(frozen=True)
class _Rate:
    """What sets the learning rate of a parameter.

    Attributes:
        place: Names the groups of such parameters; empty for those at the rate of the whole model.
        lr: The rate.
    """

    place: str
    lr: float


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, module_lr: Mapping[str, float] | None = None, layer_decay: float | None = None
) -> list[dict]:
    """Sort the trainable parameters of ``model`` into those that are decayed and those that are not, at their learning rates.

    Not decayed: everything with at most one dimension (biases, weights of norms, layer scales, the logit scale and bias of a CLIP model),
    biases and norms of any shape, position embeddings and class tokens, and what a submodule's ``no_weight_decay()`` names, as timm's
    models do. Decayed: all other weights, token embeddings among them. Frozen parameters are in no group, so that no decay moves them:
    call this after freezing, and once all layers exist.

    Args:
        model: Where the parameters come from; the groups keep its order.
        lr: Learning rate of whatever ``module_lr`` does not name.
        weight_decay: Of the decayed groups.
        module_lr: Learning rates by the beginning of parameters' dotted names (``'image_encoder'``); the longest that fits counts.
        layer_decay: d in (0, 1]. In every tower the rate falls by d from each depth group to the one below it: group k of n, from 0, has
            ``d ** (n - 1 - k)`` of it, so the last block has the whole. ``None``: one rate for all depths.

    Returns:
        Groups for a ``torch.optim`` optimizer, none of them empty, each with ``name`` (``'decay'`` or ``'no_decay'``), ``params``, ``lr``,
        ``weight_decay``, and ``initial_lr``, which a schedule multiplies by its factor. At most two groups, and two more for each entry of
        ``module_lr`` (``'image_encoder decay'``) and each depth group (``'image_encoder block 3 decay'``). Where processes share the
        weights of the towers, these stand in groups of their own (``'decay_sharded'``, ``'no_decay_sharded'``).

    Raises:
        BuildError: No parameter is trainable; none is named by an entry of ``module_lr``; or ``layer_decay`` finds no tower.

    Source: the decay over depth is that of Bao et al. 2022 (arXiv:2106.08254), appendix.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not names:
        raise BuildError("optimizer: the model has no trainable parameter. Leave a tower, a projection or the temperature unfrozen")
    _check_named(module_lr or {}, names, [name for name, _ in model.named_parameters()])
    depths = {} if layer_decay is None else _depths(model)
    undecayed = set(_undecayed(model))
    groups: dict[tuple[_Rate, str], dict] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = _rate(name, lr, module_lr or {}, depths, layer_decay)
            # A parameter that processes share is a DTensor, and torch's fused optimizers take one kind at a time.
            kind = ("no_decay" if name in undecayed else "decay") + ("_sharded" if hasattr(parameter, "full_tensor") else "")
            label = f"{rate.place} {kind}".strip()
            decay = 0.0 if name in undecayed else weight_decay
            new = {"name": label, "params": [], "weight_decay": decay, "lr": rate.lr, "initial_lr": rate.lr}
            groups.setdefault((rate, kind), new)["params"].append(parameter)
    places = list(dict.fromkeys(rate for rate, _ in groups))
    return [groups[rate, kind] for rate in places for kind in _KINDS if (rate, kind) in groups]


def _rate(name: str, lr: float, module_lr: Mapping[str, float], depths: dict[str, tuple[str, int, int]], decay: float | None) -> _Rate:
    """Of the parameter ``name``, and the place that it comes from."""
    named = max((key for key in module_lr if _names(key, name)), key=len, default="")
    rate = module_lr.get(named, lr)
    if name not in depths:
        return _Rate(named, rate)
    tower, group, count = depths[name]
    words = [tower, f"block {group}"] if len(named) <= len(tower) else [tower, f"block {group}", named]
    return _Rate(" ".join(words), rate * decay ** (count - 1 - group))


def _depths(model: nn.Module) -> dict[str, tuple[str, int, int]]:
    """Parameter name → its tower, the depth group it is in, and how many there are. A tower is whatever knows its depth groups.

    Raises:
        BuildError: There is no tower, or one whose groups are not written.
    """
    depths: dict[str, tuple[str, int, int]] = {}
    for prefix, module in model.named_modules():
        if not callable(getattr(module, "depth_groups", None)):
            continue
        start = f"{prefix}." if prefix else ""
        try:
            groups = module.depth_groups()
        except NotImplementedError as error:
            raise BuildError(f"optimizer.layer_decay: {error}. Write one, or leave layer_decay out") from error
        depths |= {start + name: (prefix, k, len(groups)) for k, group in enumerate(groups) for name in group}
    if not depths:
        raise BuildError(f"optimizer.layer_decay: {type(model).__name__} has no tower with depth groups. Leave it out")
    return depths


def _check_named(module_lr: Mapping[str, float], trainable: list[str], every: list[str]) -> None:
    """Refuse a rate for parameters that do not exist or do not learn.

    Raises:
        BuildError: With the closest module that learns.
    """
    for key in module_lr:
        if any(_names(key, name) for name in trainable):
            continue
        if any(_names(key, name) for name in every):
            raise BuildError(f"optimizer.module_lr: everything in '{key}' is frozen. Unfreeze it, or leave its rate out")
        modules = {".".join(name.split(".")[:end]) for name in trainable for end in range(1, name.count(".") + 2)}
        top = dict.fromkeys(name.partition(".")[0] for name in trainable)
        raise BuildError(
            f"optimizer.module_lr: no parameter's name begins with '{key}'.{did_you_mean(key, sorted(modules))} "
            f"There are {shortened(top)}, and what is in them"
        )


def _names(key: str, name: str) -> bool:
    return name == key or name.startswith(f"{key}.")


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
