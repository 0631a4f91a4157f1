"""A control for explanations: the same model with random weights in its image tower.

A map that hardly changes when the weights are random shows edges of the image, not what the model learned.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from clipzoo.explain.target import Member


def randomised(model: Member, blocks: int | None = None, seed: int = 0) -> Member:
    """A copy of a loaded model whose last ``blocks`` depth groups of the image tower have new random weights.

    Layers of torch start as their ``reset_parameters`` makes them; other parameters (tokens, positions, scales) are drawn with the mean and
    standard deviation that they have. Everything after the tower, and the text side, stay.

    Args:
        model: A loaded model; of an ensemble, one of its members.
        blocks: Number of depth groups from the end: 1, 2, … is the cascading randomisation of the source; ``None`` for all.
        seed: Seed of the weights.

    Source: Adebayo et al. 2018 (arXiv:1810.03292), section 3.1.
    """
    other = copy.copy(model)
    other.model = copy.deepcopy(model.model)
    tower = other.model.image_tower
    groups = tower.depth_groups()
    chosen = {name for group in groups[len(groups) - (len(groups) if blocks is None else blocks) :] for name in group}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in tower.named_modules():
            own = {f"{name}.{key}" if name else key: parameter for key, parameter in module.named_parameters(recurse=False)}
            _start_anew(module, [parameter for key, parameter in own.items() if key in chosen])
    return other


@torch.no_grad()
def _start_anew(module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """New values for these parameters of a module itself."""
    if parameters and hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    for parameter in parameters:
        spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
        parameter.copy_(torch.empty(parameter.shape).normal_(float(parameter.mean()), spread))
