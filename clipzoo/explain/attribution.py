"""Maps of what a score follows from: Grad-CAM of feature maps, and relevance of patches through attention.

Both differentiate a score per image, such as the similarity to a sentence, or the difference between two; a positive factor of it, such
as 1 / temperature, only scales the map. Neither needs captum or pytorch-grad-cam: captum has no relevance through attention, and its
``LayerGradCam``, with which the tests compare, takes neither maps of ``[B, H, W, C]`` nor the outputs of transformers.

Shapes: B images · C channels · H, W rows and columns of the map · L tokens · S source tokens of an attention pooling.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.explain.attention import captured_attention
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.spatial import FeatureMap, Patches
from clipzoo.models.tower import full_name

Method = Literal["grad_cam", "relevance"]
Score = Callable[[Tensor], Tensor]  # [B, F] outputs of the tower to [B]
SMALLEST_SIDE = 4  # a map of fewer rows or columns hardly says where; an earlier stage is used then


def spatial_of(tower: Backbone, wanted: Literal["auto", "grad_cam", "relevance"] = "auto") -> tuple[FeatureMap, ...] | Patches:
    """Where a tower keeps position: feature maps, for Grad-CAM, or patches, for relevance through attention.

    Raises:
        BuildError: The tower does not say, or ``wanted`` is the method for the other kind.
    """
    spatial = tower.spatial()
    if spatial is None:
        raise BuildError(
            f"explain: {full_name(tower)} cannot be explained: it declares neither feature maps nor patches with a known pooling "
            "(Backbone.spatial)"
        )
    if wanted not in ("auto", method_for(spatial)):
        kind = "is a transformer over patches" if isinstance(spatial, Patches) else "has feature maps"
        raise BuildError(f"explain: method '{wanted}' does not fit {full_name(tower)}, which {kind}. Use '{method_for(spatial)}' or 'auto'")
    return spatial


def method_for(spatial: tuple[FeatureMap, ...] | Patches) -> Method:
    """The method that explains such a tower."""
    return "relevance" if isinstance(spatial, Patches) else "grad_cam"


def attribute(tower: Backbone, spatial: tuple[FeatureMap, ...] | Patches, images: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Signed Grad-CAM maps, or relevance of patches, ``[B, H, W]``, and the scores ``[B]``; gradients must be enabled.

    The tower is not changed, and need not have trainable parameters. Its test views are not used.

    Args:
        tower: Image tower in evaluation mode.
        spatial: Result of ``spatial_of``.
        images: ``[B, 3, size, size]``, normalised.
        score: Function from the tower's outputs ``[B, F]`` to one number per image.

    Raises:
        BuildError: The maps have a single position, or the attention weights are hidden.
    """
    inputs = images.detach().requires_grad_()  # a graph also through a frozen tower
    if isinstance(spatial, Patches):
        with captured_attention() as attention:
            score_B = score(tower(inputs))
        return relevance(_checked(attention, spatial, tower), score_B, spatial), score_B.detach()
    with captured_maps(spatial) as maps:
        score_B = score(tower(inputs))
    chosen = _last_large(spatial, maps, tower)
    return grad_cam(maps[chosen.name], score_B, channels_last=chosen.channels_last), score_B.detach()


def grad_cam(maps: Tensor, score_B: Tensor, *, channels_last: bool = False) -> Tensor:
    """``[B, H, W]``: the sum of the channels, each weighted with the mean of its gradient, *before* the ReLU, so with both signs.

    The map for the negative score is the negative map.

    Args:
        maps: ``[B, C, H, W]`` in the graph of the score.
        score_B: ``[B]`` scores.
        channels_last: Whether ``maps`` is ``[B, H, W, C]``.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), equations 1 and 2.
    """
    (gradient,) = torch.autograd.grad(score_B.sum(), maps)
    space, channels = ((1, 2), 3) if channels_last else ((2, 3), 1)
    return (gradient.mean(dim=space, keepdim=True) * maps).sum(dim=channels).detach()


def relevance(attention: Sequence[Tensor], score_B: Tensor, patches: Patches) -> Tensor:
    """``[B, H, W]``, at least 0: the relevance of every patch to the score, through all attention layers.

    The gradient is cut at 0 in every layer, so the map for the negative score is not the negative map.

    Args:
        attention: Weights of the self-attention layers, ``[B, heads, L, L]`` each, followed by those of an attention pooling,
            ``[B, heads, 1, S]``, if there is one; all in the graph of the score.
        score_B: ``[B]`` scores.
        patches: Layout of the tokens.

    Source: Chefer, Gur and Wolf 2021 (arXiv:2103.15679), equations 5 and 6. They read the row of the class token; a mean over tokens is
    read as the mean of their rows, without the identity that the rollout starts from, and an attention pooling through its own weights.
    """
    gradients = torch.autograd.grad(score_B.sum(), list(attention))
    steps = [(gradient * weights).clamp(min=0).mean(dim=1).detach() for gradient, weights in zip(gradients, attention, strict=True)]
    layers, pooling = steps[: patches.layers], steps[patches.layers :]
    rollout_BLL = torch.eye(layers[0].shape[-1], device=score_B.device, dtype=layers[0].dtype).repeat(len(layers[0]), 1, 1)
    for step_BLL in layers:
        rollout_BLL = rollout_BLL + step_BLL @ rollout_BLL
    read_BL = _read(rollout_BLL, pooling, patches)
    return read_BL[:, patches.prefix :].unflatten(1, (patches.rows, patches.columns))


def _read(rollout_BLL: Tensor, pooling: Sequence[Tensor], patches: Patches) -> Tensor:
    """``[B, L]``: the relevance of every token to the output."""
    if patches.pooling == "attention":
        (step_B1S,) = pooling
        return (step_B1S @ rollout_BLL[:, -step_B1S.shape[-1] :]).squeeze(1)
    if patches.pooling == "class_token":
        return rollout_BLL[:, 0]
    gained_BLL = rollout_BLL - torch.eye(rollout_BLL.shape[-1], device=rollout_BLL.device, dtype=rollout_BLL.dtype)
    return gained_BLL[:, patches.prefix if patches.pooling == "patches" else 0 :].mean(dim=1)


def _checked(attention: list[Tensor], patches: Patches, tower: Backbone) -> list[Tensor]:
    """The captured weights, if they are those of all layers.

    Raises:
        BuildError: Some layers compute attention in another way, or over other tokens.
    """
    length = patches.prefix + patches.rows * patches.columns
    shapes = [tuple(weights.shape[-2:]) for weights in attention if weights.ndim == 4]
    readable = ([(1, length)], [(1, length - patches.prefix)]) if patches.pooling == "attention" else ([],)
    if shapes[: patches.layers] != [(length, length)] * patches.layers or shapes[patches.layers :] not in readable:
        raise BuildError(
            f"explain: {full_name(tower)} cannot be explained: the weights of its {patches.layers} attention layers over {length} tokens "
            f"are hidden, as they are not computed by torch's scaled_dot_product_attention (found: {shapes})"
        )
    return attention


@contextmanager
def captured_maps(candidates: Sequence[FeatureMap]) -> Iterator[dict[str, Tensor]]:
    """Collect the feature maps that this thread computes, by name, in the graph."""
    thread = threading.get_ident()
    found: dict[str, Tensor] = {}

    def hook(one: FeatureMap) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: object = None) -> None:
            value = {"input": inputs[0], "output": output}.get(one.at)
            value = output.last_hidden_state if one.at == "last_hidden_state" else value
            if threading.get_ident() == thread and isinstance(value, Tensor) and value.ndim == 4:
                if one.channels in (None, value.shape[3 if one.channels_last else 1]):
                    found[one.name] = value

        return keep

    handles = [
        one.module.register_forward_pre_hook(hook(one)) if one.at == "input" else one.module.register_forward_hook(hook(one))
        for one in candidates
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _last_large(candidates: Sequence[FeatureMap], maps: dict[str, Tensor], tower: Backbone) -> FeatureMap:
    """The last map with at least ``SMALLEST_SIDE`` rows and columns, or else the last with more than one position.

    Raises:
        BuildError: Every map is a single position, or none was computed.
    """
    computed = [one for one in candidates if one.name in maps]
    sides = [min(maps[one.name].shape[1:3] if one.channels_last else maps[one.name].shape[2:]) for one in computed]
    for smallest in (SMALLEST_SIDE, 2):
        for one, side in zip(computed, sides, strict=True):
            if side >= smallest:
                return one
    problem = "it computes no feature map of rows and columns"
    if computed:
        problem = f"at {tower.preprocessing.size} px its feature maps have a single position. Use a larger image_size"
    raise BuildError(f"explain: {full_name(tower)} cannot be explained: {problem}")
