"""The reference networks of a CLIP's towers: open_clip's modules for CLIP's own towers, Hugging Face's for a BERT.

The libraries are imported inside the functions, as open_clip and transformers take seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from clipzoo.lean_imports import lean

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import BertModel

Shapes = dict[str, tuple[int, ...]]


def vision_transformer(
    width: int,
    layers: int,
    mlp: int,
    patch: int,
    image_size: int,
    embed_dim: int,
    *,
    heads: int = 1,
    quick_gelu: bool = False,
    patch_dropout: float = 0.0,
) -> nn.Module:
    """CLIP's vision transformer; neither the number of heads nor the activation changes a tensor's shape."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    return VisionTransformer(
        image_size=image_size,
        patch_size=patch,
        width=width,
        layers=layers,
        heads=heads,
        mlp_ratio=_ratio(mlp, width),
        output_dim=embed_dim,
        patch_dropout=patch_dropout,
        act_layer=QuickGELU if quick_gelu else nn.GELU,
    )


def modified_resnet(width: int, layers: tuple[int, ...], image_size: int, embed_dim: int, *, heads: int = 1) -> nn.Module:
    """CLIP's ResNet: a stem of three convolutions, four stages of bottlenecks, and attention pooling."""
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet(list(layers), embed_dim, heads, image_size, width)


def text_transformer(width: int, layers: int, mlp: int, context_length: int, vocab_size: int, embed_dim: int) -> nn.Module:
    """CLIP's text transformer."""
    from open_clip.transformer import TextTransformer

    return TextTransformer(
        context_length=context_length,
        vocab_size=vocab_size,
        width=width,
        heads=1,
        layers=layers,
        mlp_ratio=_ratio(mlp, width),
        output_dim=embed_dim,
    )


def bert(config: dict) -> BertModel:
    """A BERT with random weights, without a pooling layer, which would be unused and break distributed training.

    Args:
        config: Fields of ``BertConfig``.
    """
    with lean():
        from transformers import BertConfig, BertModel

    # The class itself rather than ``from_config``: the weights are fp32 whatever precision a config names.
    own = {key: value for key, value in config.items() if key not in ("attn_implementation", "dtype", "torch_dtype")}
    return BertModel(BertConfig(**own, attn_implementation="sdpa"), add_pooling_layer=False)


def shapes_on_meta(build: Callable[[], nn.Module]) -> Shapes:
    """Tensor shapes of the network that ``build`` makes, without memory for its weights."""
    with torch.device("meta"):
        state = build().state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def _ratio(mlp: int, width: int) -> float:
    """``mlp_ratio`` for a wanted width of the MLP; open_clip truncates the product."""
    return (mlp + 0.5) / width
