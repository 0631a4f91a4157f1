"""Does the score follow the map? Pixels are taken away, or put back, in the order of the map.

Shapes: B images · S pixels on a side · K steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

BLUR = 0.1  # standard deviation of the blur that insertion starts from, as a fraction of the side


@torch.no_grad()
def deletion_and_insertion(
    score: Callable[[Tensor], Tensor], images_B3SS: Tensor, maps_BSS: Tensor, *, num_steps: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two curves of the score, ``[B, K + 1]`` each, over the shares 0, 1/K, … 1 of the pixels.

    Deletion replaces the highest pixels by the mean colour of the training (0 after normalisation): a good map lets the score fall soon.
    Insertion starts from the blurred image and restores the highest pixels: a good map lets the score rise soon. Equal pixels (those that
    the ReLU cut) come in random order. Random maps give the curves of chance.

    Args:
        score: Function from ``[B, 3, S, S]`` normalised images to ``[B]``.
        images_B3SS: Normalised images.
        maps_BSS: Their maps.
        num_steps: K.
        seed: Seed of the order of equal pixels.

    Source: Petsiuk, Das and Saenko 2018 (arXiv:1806.07421), algorithm 1. The score is any number, not only a probability.
    """
    rank_BSS = _ranks(maps_BSS, seed)
    size = images_B3SS.shape[-1]
    sigma = max(BLUR * size, 0.5)
    blurred_B3SS = gaussian_blur(images_B3SS, [2 * (size // 4) + 1] * 2, [sigma, sigma])
    deletion, insertion = [], []
    for step in range(num_steps + 1):
        first = (rank_BSS < round(step / num_steps * size * size))[:, None]
        deletion.append(score(torch.where(first, 0.0, images_B3SS)))
        insertion.append(score(torch.where(first, images_B3SS, blurred_B3SS)))
    return torch.stack(deletion, dim=1), torch.stack(insertion, dim=1)


def area_under(curves_BK: Tensor) -> Tensor:
    """``[B]``: the area under curves over the shares 0 … 1, by the trapezoidal rule: the mean height of a curve."""
    return torch.trapezoid(curves_BK, dim=1) / (curves_BK.shape[1] - 1)


def _ranks(maps_BSS: Tensor, seed: int) -> Tensor:
    """``[B, S, S]``: the position of every pixel when they are sorted from the highest to the lowest."""
    flat_BP = maps_BSS.flatten(1)
    shuffled_P = torch.randperm(flat_BP.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat_BP.device)
    order_BP = shuffled_P[flat_BP[:, shuffled_P].argsort(dim=1, descending=True, stable=True)]
    return order_BP.argsort(dim=1).view(maps_BSS.shape)
