"""The tensor names of the package efficientnet_pytorch, converted to timm's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# In a block with an expansion, and in one without; timm numbers its normalisation layers in the order of use.
_EXPANDED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
    **{"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"},
}
_PLAIN = {**_EXPANDED, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def is_efficientnet_pytorch(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of efficientnet_pytorch, in which most EfficientNets outside timm are published."""
    return "_conv_stem.weight" in state and any(key.startswith("_blocks.") for key in state)


def to_timm(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The same tensors under timm's names; tensors without an equivalent keep their names.

    Args:
        state: State dict of efficientnet_pytorch, whose blocks are numbered throughout.
        network: The EfficientNet of timm, whose blocks are numbered within stages.
    """
    places = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(network.blocks) for block in range(len(blocks))]
    renamed = {}
    for key, value in state.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if found and int(found[1]) < len(places):
            names = _EXPANDED if f"_blocks.{found[1]}._expand_conv.weight" in state else _PLAIN
            key = f"{places[int(found[1])]}.{names.get(found[2], found[2])}.{found[3]}"
        else:
            part, _, kind = key.partition(".")
            key = f"{_AROUND.get(part, part)}.{kind}"
        renamed[key] = value
    return renamed
