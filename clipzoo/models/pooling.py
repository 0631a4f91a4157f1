"""Means of features in full precision."""

from __future__ import annotations

import torch
from torch import Tensor


def in_full(values: Tensor) -> Tensor:
    """Convert to at least fp32; fp64 stays fp64."""
    return values if values.dtype == torch.float64 else values.float()


def mean_per_case(features_IF: Tensor, num_images_B: Tensor) -> Tensor:
    """``[B, F]`` means of the features of each case's images, which follow each other, in at least fp32."""
    cases = torch.arange(len(num_images_B), device=features_IF.device).repeat_interleave(num_images_B, output_size=len(features_IF))
    found = in_full(features_IF)
    sums = found.new_zeros(len(num_images_B), found.shape[1]).index_add(0, cases, found)
    return sums / num_images_B[:, None]
