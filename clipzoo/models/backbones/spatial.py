"""Where a tower keeps position: its feature maps, or its patches. Explanations read it (``clipzoo/explain/``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

Pooling = Literal["class_token", "patches", "tokens", "attention"]


@dataclass(frozen=True)
class FeatureMap:
    """A feature map of a convolutional (or windowed) tower.

    Attributes:
        name: Name in messages, such as ``'layer4'``.
        module: Module at which the map is found.
        at: Whether the map is the module's ``'input'``, its ``'output'``, or the ``'last_hidden_state'`` of its output, as in transformers.
        channels_last: Whether the map is ``[B, H, W, C]`` rather than ``[B, C, H, W]``.
        channels: Number of its channels; ``None`` if unknown. A map with another number is not the declared one.
    """

    name: str
    module: nn.Module
    at: Literal["input", "output", "last_hidden_state"] = "output"
    channels_last: bool = False
    channels: int | None = None


@dataclass(frozen=True)
class Patches:
    """The patches of a vision transformer, and how its output is read from them.

    Attributes:
        rows: Number of rows of patches.
        columns: Number of columns of patches.
        prefix: Number of tokens in front of the patches: class token and registers.
        layers: Number of self-attention layers.
        pooling: What the output is: the first token, the mean of the patches, the mean of all tokens, or an attention pooling over them.
    """

    rows: int
    columns: int
    prefix: int
    layers: int
    pooling: Pooling


Spatial = tuple[FeatureMap, ...] | Patches | None


def timm_spatial(net: nn.Module) -> Spatial:
    """The patches of a timm transformer; else what a timm network pools, and before it the stages that its ``feature_info`` names."""
    patches = _timm_patches(net)
    if patches is not None:
        return patches
    pool = _timm_pool(net)
    # timm's pooling of [B, H, W, C] is over the dimensions 1 and 2.
    last = getattr(net, "output_fmt", "") == "NHWC" or (pool is not None and getattr(pool.pool, "dim", None) == (1, 2))
    maps = [] if pool is None else [FeatureMap("the input of the pooling", pool, "input", last)]
    modules = dict(net.named_modules())
    for info in reversed(list(getattr(net, "feature_info", None) or ())):
        name = info.get("module", "")
        if name and name in modules:
            maps.append(FeatureMap(name, modules[name], "output", last, info["num_chs"]))
    return tuple(maps) or None


def _timm_pool(net: nn.Module) -> nn.Module | None:
    from timm.layers import SelectAdaptivePool2d

    for owner in (net, getattr(net, "head", None)):
        pool = getattr(owner, "global_pool", None)
        if isinstance(pool, SelectAdaptivePool2d) and not pool.is_identity():
            return pool
    return None


def _timm_patches(net: nn.Module) -> Patches | None:
    """Of a plain transformer: one grid of patches, and blocks that all see it."""
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    prefix, blocks, pool = (getattr(net, name, None) for name in ("num_prefix_tokens", "blocks", "global_pool"))
    if grid is None or not isinstance(prefix, int) or blocks is None or not isinstance(pool, str):
        return None
    if hasattr(net, "dist_token"):  # DeiT's output is the mean of two tokens
        return None
    average: Pooling = "tokens" if getattr(net, "pool_include_prefix", False) else "patches"
    pooling: dict[str, Pooling] = {"token": "class_token", "avg": average, "map": "attention"}
    return Patches(*grid, prefix, len(blocks), pooling[pool]) if pool in pooling else None


def open_clip_spatial(net: nn.Module) -> Spatial:
    """The patches of open_clip's own transformer, or the stages of its ResNet."""
    if hasattr(net, "attnpool"):
        return tuple(FeatureMap(name, getattr(net, name)) for name in ("layer4", "layer3", "layer2", "layer1"))
    pooling: dict[str, Pooling] = {"tok": "class_token", "avg": "patches"}
    if net.attn_pool is not None or net.pool_type not in pooling:  # CoCa's poolers have many queries
        return None
    return Patches(*net.grid_size, 1, len(net.transformer.resblocks), pooling[net.pool_type])
