"""CLIP's own image towers: the vision transformer and the ResNet with attention pooling, with OpenAI's parameter names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Len
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import FilePath, Layers, Share, Whole, Width
from clipzoo.errors import ConfigError
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.spatial import Spatial, open_clip_spatial
from clipzoo.models.layout.modules import modified_resnet, vision_transformer
from clipzoo.models.layout.states import copied, load_strictly
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import count_once, recomputed
from clipzoo.models.tower import groups_by_layer
from clipzoo.models.weights import CLIPWeights
from clipzoo.models.weights.source import (
    VISION,
    ChannelMeans,
    ChannelSpreads,
    Fitting,
    Variant,
    VisionSize,
    joint_weights,
    openai_preprocessing,
    plain,
    preprocessing_for,
)
from clipzoo.registries import BACKBONES


@BACKBONES.register_module()
class CLIPVision(Backbone):
    """CLIP's image tower, whose features are in the joint space.

    Args:
        variant: Variant that defines all sizes below. ``None``: the sizes of the weights file, if any, otherwise those of ViT-B/32, or of
            RN50 if ``layers`` has four numbers.
        pretrained: ``True`` loads OpenAI's weights from the hub; a string is a file or folder with a whole CLIP in any format supported by
            ``clipzoo.models.weights``; ``False`` for random weights.
        image_size: Image size in pixels, a multiple of the patch size, or of 32 for a ResNet. ``None``: that of the weights or the variant.
            Loaded position embeddings are resized if necessary.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        patch_size: Patch size in pixels, for a vision transformer only.
        width: Width of the transformer; for a ResNet, of its first stage, a quarter of that stage's output channels.
        layers: Number of blocks; four numbers, one per stage, for a ResNet.
        heads: Number of attention heads; for a ResNet, those of its attention pooling.
        mlp_width: Width inside the transformer blocks' MLPs; ``None`` means four times the width, or that of the file.
        output_dim: Width of the features.
        quick_gelu: Activation: ``True`` for QuickGELU (OpenAI's weights), ``False`` for GELU (most others). ``None``: that of the weights,
            ``False`` for random ones; required for a local file that does not define it. Not for a ResNet.
        patch_dropout: Share of patches dropped from each training image (Li et al. 2022, arXiv:2212.00794), in [0, 1).
        fit: How non-square images are made square; see ``Preprocessing``. ``None``: as the weights were trained, ``'crop'`` if that is
            unknown, and ``'pad'`` for random weights.
        mean: Per-channel mean of images in [0, 1]. ``None``: that of the weights, or OpenAI's if they define none.
        std: Per-channel standard deviation; ``None`` likewise.
        interpolation: Interpolation for resizing images; ``None`` likewise.

    Raises:
        ConfigError: The sizes are incompatible.
        BuildError: Weights are missing, do not fit or contradict an argument, or their activation is unknown.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 2.4; the modules are open_clip's.
    """

    projected = True

    def __init__(
        self,
        variant: Variant | None = None,
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        patch_size: Width | None = None,
        width: Width | None = None,
        layers: Layers | Annotated[list[Layers], Len(4, 4)] | None = None,
        heads: Width | None = None,
        mlp_width: Width | None = None,
        output_dim: Width | None = None,
        quick_gelu: bool | None = None,
        patch_dropout: Share = 0.0,
        fit: Fitting | None = None,
        mean: ChannelMeans | None = None,
        std: ChannelSpreads | None = None,
        interpolation: Literal["bilinear", "bicubic"] | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        layers = tuple(layers) if isinstance(layers, (list, tuple)) else layers
        variant = variant or ("ViT-B/32" if pretrained is True else None)
        source = joint_weights("CLIPVision", variant, pretrained)
        weights = None if source is None else source.weights
        base = _base(variant, layers, weights)
        own = {"patch_size": patch_size, "width": width, "layers": layers, "heads": heads, "mlp_width": mlp_width, "output_dim": output_dim}
        self.size = _with_sizes(base, {**own, "image_size": image_size})
        self.name = next((name for name, size in VISION.items() if size == self.size), _describe(self.size))
        self.num_features = self.size.output_dim
        self.quick_gelu = None if self.size.resnet else _activation(quick_gelu, weights)
        self.net = _network(self.size, self.quick_gelu, patch_dropout)
        default = openai_preprocessing("pad" if weights is None else "crop")
        wanted = {"image_size": self.size.image_size, "fit": fit, "mean": mean, "std": std, "interpolation": interpolation}
        self.preprocessing = preprocessing_for("CLIPVision", weights and weights.preprocessing, default=default, **wanted)
        if source is not None:
            where = f"CLIPVision({source.origin})"
            load_strictly(self.net, with_positions(source.weights.visual, self.net), where)
            self.weights, self.space = source.origin, source.space
            self.logit_scale, self.logit_bias = source.weights.logit_scale, source.weights.logit_bias
        self._recompute = False
        self.apply_freeze()

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, num_features]`` in the joint space."""
        return run_resnet(self.net, images) if self._recompute and self.size.resnet else self.net(images)

    def depth_groups(self) -> list[list[str]]:
        """Stem and position embeddings, then one group per block; final norm, pooling and projection belong to the last block."""
        return visual_groups((name for name, _ in self.named_parameters()), resnet=self.size.resnet)

    def spatial(self) -> Spatial:
        """See ``Backbone.spatial``."""
        return open_clip_spatial(self.net)

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        size = self.size
        sizes = {"width": size.width, "heads": size.heads, "output_dim": size.output_dim, "quick_gelu": self.quick_gelu}
        if size.resnet:
            sizes |= {"variant": None, "layers": list(size.layers)}
        else:
            sizes |= {"variant": None, "layers": size.layers, "patch_size": size.patch_size, "mlp_width": size.mlp_width}
        return {"pretrained": False, **sizes, **plain(self.preprocessing)}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``Backbone.clip_layout``."""
        return copied(self.net), {"vision_heads": visual_heads(self.net)}

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        self._recompute = True
        self.net.set_grad_checkpointing(True)  # no effect for a ResNet, see ``run_resnet``
        count_once(self.net)


def run_resnet(network: nn.Module, images: Tensor) -> Tensor:
    """Run open_clip's ``ModifiedResNet``, keeping only the activations between blocks."""
    hidden = network.stem(images)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            hidden = recomputed(block, hidden)
    return network.attnpool(hidden)


def visual_heads(net: nn.Module) -> int:
    """Number of attention heads of a CLIP image tower; for a ResNet, those of its pooling."""
    return (net.attnpool if hasattr(net, "attnpool") else net.transformer.resblocks[0].attn).num_heads


def visual_groups(names: Iterable[str], *, resnet: bool) -> list[list[str]]:
    """Depth groups of open_clip's own image towers."""
    if not resnet:
        return groups_by_layer(names, r"resblocks\.(\d+)\.", r"conv1\.|_embedding$|ln_pre\.")
    groups: dict[tuple[int, int], list[str]] = {}
    pooling = []
    for name in names:
        found = re.search(r"layer(\d)\.(\d+)\.", name)
        if "attnpool." in name:
            pooling.append(name)
        else:
            groups.setdefault((int(found[1]), int(found[2])) if found else (0, 0), []).append(name)
    ordered = [groups[key] for key in sorted(groups)]
    return [*ordered[:-1], ordered[-1] + pooling]


def with_positions(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """``state`` with position embeddings for the network's image size; unchanged if the size is the same.

    Interpolated as in open_clip, also for ResNets, which open_clip itself supports at one size only.
    """
    own = network.state_dict()
    for key in ("positional_embedding", "attnpool.positional_embedding"):
        if key in state and key in own and len(state[key]) != len(own[key]) and state[key].shape[1:] == own[key].shape[1:]:
            return {**state, key: _resized(state[key], len(own[key]))}
    return state


def _resized(table_LD: Tensor, length: int) -> Tensor:
    """``[1 + old², D]`` to ``[1 + new², D]``; the first row represents the whole image."""
    old, new = round((len(table_LD) - 1) ** 0.5), round((length - 1) ** 0.5)
    grid = table_LD[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table_LD[:1], grid.permute(0, 2, 3, 1).reshape(new * new, -1)])


def _base(variant: str | None, layers: int | tuple[int, ...] | None, weights: CLIPWeights | None) -> VisionSize:
    """The sizes that arguments may override: those of the variant, the file, or a random tower.

    Raises:
        BuildError: The file contains the other kind of tower.
    """
    if weights is None:
        return VISION[variant or ("RN50" if isinstance(layers, tuple) else "ViT-B/32")]
    if variant is not None:
        weights.require(f"CLIPVision(variant='{variant}')", vision="resnet" if VISION[variant].resnet else "vit")
        return replace(VISION[variant], image_size=weights.image_size)
    mlp = weights.vision_mlp
    return VisionSize(
        image_size=weights.image_size,
        patch_size=weights.patch_size,
        width=weights.vision_width,
        layers=weights.vision_layers,
        heads=weights.vision_heads,
        output_dim=weights.embed_dim,
        mlp_width=None if mlp == 4 * weights.vision_width else mlp,
    )


def _with_sizes(base: VisionSize, arguments: dict) -> VisionSize:
    """``base`` updated with the given arguments.

    Raises:
        ConfigError: The sizes are incompatible.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if "layers" in given and isinstance(given["layers"], tuple) != base.resnet:
        kind = "a ResNet, whose layers are four numbers" if base.resnet else "a vision transformer, whose layers are one number"
        raise ConfigError(f"CLIPVision: layers={given['layers']!r}, but this is {kind}. Choose another variant, or remove variant")
    only_vit = [name for name in ("patch_size", "mlp_width") if base.resnet and name in given]
    if only_vit:
        raise ConfigError(f"CLIPVision: {only_vit[0]} applies to vision transformers only, and this is a ResNet. Remove it")
    size = replace(base, **given)
    if size.image_size % size.unit:
        raise ConfigError(
            f"CLIPVision: image_size={size.image_size} is not a multiple of {size.unit}" + (", the patch size" * (not size.resnet))
        )
    channels = size.width * (32 if size.resnet else 1)
    if channels % size.heads or size.width % 2:
        raise ConfigError(f"CLIPVision: {channels} channels (width={size.width}) are not divisible by heads={size.heads}")
    return replace(size, mlp_width=None) if size.mlp_width == 4 * size.width else size


def _activation(requested: bool | None, weights: CLIPWeights | None) -> bool:
    return bool(requested) if weights is None else weights.activation(requested, "CLIPVision")


def _network(size: VisionSize, quick_gelu: bool | None, patch_dropout: float) -> nn.Module:
    if size.resnet:
        if patch_dropout:
            raise ConfigError("CLIPVision: patch_dropout applies to vision transformers only, and this is a ResNet. Remove it")
        return modified_resnet(size.width, size.layers, size.image_size, size.output_dim, heads=size.heads)
    shape = (size.width, size.layers, size.mlp_width or 4 * size.width, size.patch_size, size.image_size, size.output_dim)
    return vision_transformer(*shape, heads=size.heads, quick_gelu=bool(quick_gelu), patch_dropout=patch_dropout)


def _describe(size: VisionSize) -> str:
    layers = "+".join(map(str, size.layers)) if size.resnet else size.layers
    return f"{layers} layers of width {size.width}"
