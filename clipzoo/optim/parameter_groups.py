"""Parameter groups: weight decay and learning rate of every trainable parameter, each in exactly one group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError, did_you_mean, shortened

if TYPE_CHECKING:
    from torch import nn

# Position tables and class tokens, under their names in timm, open_clip and transformers.
UNDECAYED_NAMES = frozenset(
    {"positional_embedding", "position_embeddings", "pos_embed", "class_embedding", "cls_token", "dist_token", "reg_token"}
)

_KINDS = ("decay", "decay_sharded", "no_decay", "no_decay_sharded")


@dataclass(frozen=True)
class _Rate:
    """The learning rate of a parameter, and its origin.

    Attributes:
        place: Prefix of the names of such groups; empty for those at the rate of the whole model.
        lr: Learning rate.
    """

    place: str
    lr: float


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, module_lr: Mapping[str, float] | None = None, layer_decay: float | None = None
) -> list[dict]:
    """Divide the trainable parameters of ``model`` into decayed and undecayed ones, with their learning rates.

    Not decayed: parameters with at most one dimension (biases, weights of norms, layer scales, the logit scale and bias of a CLIP model),
    biases and norms of any shape, position embeddings and class tokens, and those named by a submodule's ``no_weight_decay()``, as in timm.
    Decayed: all other weights, including token embeddings. Frozen parameters are in no group, so that no decay changes them:
    call this after freezing, and after all layers have been created.

    Args:
        model: Model with the parameters; the groups keep their order.
        lr: Learning rate of parameters without an entry in ``module_lr``.
        weight_decay: Weight decay of the decayed groups.
        module_lr: Learning rates by prefix of the parameters' dotted names (``'image_encoder'``); the longest match counts.
        layer_decay: d in (0, 1]. In every tower the rate falls by the factor d from each depth group to the one below: group k of n from
            0, has the factor ``d ** (n - 1 - k)``, so that the last block has the full rate. ``None``: one rate for all depths.

    Returns:
        Groups for a ``torch.optim`` optimizer, none of them empty, each with ``name`` (``'decay'`` or ``'no_decay'``), ``params``, ``lr``,
        ``weight_decay``, and ``initial_lr``, which a schedule multiplies by its factor. At most two groups, and two more for each entry of
        ``module_lr`` (``'image_encoder decay'``) and each depth group (``'image_encoder block 3 decay'``). Where processes share the
        weights of the towers, these are in separate groups (``'decay_sharded'``, ``'no_decay_sharded'``).

    Raises:
        BuildError: No parameter is trainable; an entry of ``module_lr`` matches none; or there is no tower for ``layer_decay``.

    Source: the layer-wise decay of Bao et al. 2022 (arXiv:2106.08254), appendix.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not names:
        raise BuildError("optimizer: the model has no trainable parameters. Unfreeze a tower, a projection or the temperature")
    _check_named(module_lr or {}, names, [name for name, _ in model.named_parameters()])
    depths = {} if layer_decay is None else _depths(model)
    undecayed = set(_undecayed(model))
    groups: dict[tuple[_Rate, str], dict] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = _rate(name, lr, module_lr or {}, depths, layer_decay)
            # A sharded parameter is a DTensor, and torch's fused optimizers accept one kind at a time.
            kind = ("no_decay" if name in undecayed else "decay") + ("_sharded" if hasattr(parameter, "full_tensor") else "")
            label = f"{rate.place} {kind}".strip()
            decay = 0.0 if name in undecayed else weight_decay
            new = {"name": label, "params": [], "weight_decay": decay, "lr": rate.lr, "initial_lr": rate.lr}
            groups.setdefault((rate, kind), new)["params"].append(parameter)
    places = list(dict.fromkeys(rate for rate, _ in groups))
    return [groups[rate, kind] for rate in places for kind in _KINDS if (rate, kind) in groups]


def _rate(name: str, lr: float, module_lr: Mapping[str, float], depths: dict[str, tuple[str, int, int]], decay: float | None) -> _Rate:
    """The learning rate of the parameter ``name``, and its origin."""
    named = max((key for key in module_lr if _names(key, name)), key=len, default="")
    rate = module_lr.get(named, lr)
    if name not in depths:
        return _Rate(named, rate)
    tower, group, count = depths[name]
    words = [tower, f"block {group}"] if len(named) <= len(tower) else [tower, f"block {group}", named]
    return _Rate(" ".join(words), rate * decay ** (count - 1 - group))


def _depths(model: nn.Module) -> dict[str, tuple[str, int, int]]:
    """Parameter name → its tower, its depth group, and their number. A tower is any module that defines depth groups.

    Raises:
        BuildError: There is no tower, or one that does not define its groups.
    """
    depths: dict[str, tuple[str, int, int]] = {}
    for prefix, module in model.named_modules():
        if not callable(getattr(module, "depth_groups", None)):
            continue
        start = f"{prefix}." if prefix else ""
        try:
            groups = module.depth_groups()
        except NotImplementedError as error:
            raise BuildError(f"optimizer.layer_decay: {error}. Define one, or remove layer_decay") from error
        depths |= {start + name: (prefix, k, len(groups)) for k, group in enumerate(groups) for name in group}
    if not depths:
        raise BuildError(f"optimizer.layer_decay: {type(model).__name__} has no tower with depth groups. Remove it")
    return depths


def _check_named(module_lr: Mapping[str, float], trainable: list[str], every: list[str]) -> None:
    """Refuse a rate for parameters that do not exist or are not trained.

    Raises:
        BuildError: An entry matches nothing; the message suggests the closest trained module.
    """
    for key in module_lr:
        if any(_names(key, name) for name in trainable):
            continue
        if any(_names(key, name) for name in every):
            raise BuildError(f"optimizer.module_lr: everything in '{key}' is frozen. Unfreeze it, or remove its rate")
        modules = {".".join(name.split(".")[:end]) for name in trainable for end in range(1, name.count(".") + 2)}
        top = dict.fromkeys(name.partition(".")[0] for name in trainable)
        raise BuildError(
            f"optimizer.module_lr: no parameter name starts with '{key}'.{did_you_mean(key, sorted(modules))} "
            f"Available: {shortened(top)}, and their submodules"
        )


def _names(key: str, name: str) -> bool:
    return name == key or name.startswith(f"{key}.")


def _undecayed(model: nn.Module) -> Iterator[str]:
    """Names, as in ``model.named_parameters()``, of the parameters without decay."""
    for prefix, module in model.named_modules():
        start = f"{prefix}." if prefix else ""
        named = getattr(module, "no_weight_decay", None)
        yield from (start + name for name in (named() if callable(named) else ()))
        norm = "Norm" in type(module).__name__  # torch's and timm's norms have no common base class
        for name, parameter in module.named_parameters(recurse=False):
            parts = {name, *prefix.split(".")[-1:]}
            if norm or parameter.ndim <= 1 or "bias" in name.split("_") or parts & UNDECAYED_NAMES:
                yield start + name
