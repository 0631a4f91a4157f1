"""The preprocessing of ``Preprocessing`` as tensor operations, to the grey level: it can be part of an exported graph.

Pillow and torch resize uint8 images in two passes, one along each side, with weights in fixed point, and round to whole grey levels
after each pass. Each pass is therefore a product with a matrix of integers, followed by a rounding. Sums stay below 2^53, so that fp64
computes them exactly, on every machine and in every runtime.

Shapes: B images · H, W height and width of the image · S side of the square.
"""

from __future__ import annotations

import functools
import random

import torch
from torch import Tensor, nn

from clipzoo.errors import ConfigError
from clipzoo.structures import Preprocessing

_PILLOW_SCALE = 2.0**22  # one unit of Pillow's weights for 8 bits
_INT16 = 2.0**15  # torch's weights are as precise as 16 bits allow


class Pixels(nn.Module):
    """RGB images to the input of a tower: identical to ``evaluation_transform`` before the normalisation, and equal up to fp32 after it.

    Args:
        preprocessing: What the image tower requires.

    Raises:
        ConfigError: ``fit`` or ``interpolation`` is unknown.

    Source: the resampling of Pillow (libImaging/Resample.c, 8 bits per channel), and for ``fit='pad'`` torch's uint8 version of it.
    """

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        for name, value, allowed in (
            ("fit", preprocessing.fit, ("pad", "crop", "squash")),
            ("interpolation", preprocessing.interpolation, ("bilinear", "bicubic")),
        ):
            if value not in allowed:
                raise ConfigError(f"preprocessing: unknown {name} {value!r}. Known: {', '.join(allowed)}")
        self.size, self.fit, self.interpolation = preprocessing.size, preprocessing.fit, preprocessing.interpolation
        self.in_either_order = preprocessing.fit != "pad" and columns_can_be_first()
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std)[:, None, None], persistent=False)

    def forward(self, images_BHW3: Tensor) -> Tensor:
        """``[B, H, W, 3]`` uint8, upright RGB, to ``[B, 3, S, S]`` float32, normalised."""
        return (self.grey_levels(images_BHW3).float() / 255 - self.mean) / self.std

    def grey_levels(self, images_BHW3: Tensor) -> Tensor:
        """``[B, H, W, 3]`` uint8 to ``[B, 3, S, S]`` fp64 with whole numbers in 0 … 255."""
        num_rows, num_columns = images_BHW3.shape[1], images_BHW3.shape[2]
        height, width = (torch.scalar_tensor(length, dtype=torch.float64) for length in (num_rows, num_columns))
        down_SH, down = self._weights(torch.arange(num_rows, dtype=torch.float64), height, other=width)
        across_SW, across = self._weights(torch.arange(num_columns, dtype=torch.float64), width, other=height)
        levels_B3HW = images_BHW3.permute(0, 3, 1, 2).double()
        found = _rounded(down_SH @ _rounded(levels_B3HW @ across_SW.T, across), down)
        if not self.in_either_order:
            return found
        other = _rounded(_rounded(down_SH @ levels_B3HW, down) @ across_SW.T, across)
        return torch.where(self._columns_first(height, width), other, found)

    def _columns_first(self, height: Tensor, width: Tensor) -> Tensor:
        """Scalar bool: whether Pillow resizes along the columns before it resizes along the rows."""
        new_height, new_width = self._placement(height, width)[0], self._placement(width, height)[0]
        return (new_height < height) & (height - new_height > 2 * (width - new_width))

    def _weights(self, places_N: Tensor, length: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """``[S, N]`` integers by which one side of an image is resized, cropped or padded, and the number that means 1.

        Args:
            places_N: 0, 1, 2 … along this side.
            length: Scalar length of this side, N.
            other: Scalar length of the other side.
        """
        scaled, first = self._placement(length, other)
        places_S = torch.arange(self.size, dtype=torch.float64) + first  # in the resized image
        ratio = length / scaled
        centres_S = (places_S + 0.5) * ratio
        weights_SN = self._filter((places_N - centres_S[:, None] + 0.5).abs() / ratio.clamp(min=1))
        inside_S = (places_S >= 0) & (places_S < scaled)  # the rest is padding, which is black
        weights_SN = torch.where(inside_S[:, None], weights_SN, 0.0)
        total_S = weights_SN.sum(dim=1, keepdim=True)
        weights_SN = weights_SN / torch.where(total_S == 0, 1.0, total_S)
        unit = _largest_unit(weights_SN.max()) if self.fit == "pad" else torch.tensor(_PILLOW_SCALE, dtype=torch.float64)
        return weights_SN.sign() * (weights_SN.abs() * unit + 0.5).floor(), unit

    def _placement(self, length: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The length of a side after resizing, and the place in it where the square begins; negative with padding."""
        size = torch.tensor(float(self.size), dtype=torch.float64)
        if self.fit == "squash":
            return size, torch.zeros_like(size)
        if self.fit == "crop":
            scaled = (size * length / torch.minimum(length, other)).floor()
            return scaled, ((scaled - size) / 2).round()
        scaled = (length * (size / torch.maximum(length, other))).round().clamp(min=1)
        return scaled, -((size - scaled) / 2).floor()

    def _filter(self, distance: Tensor) -> Tensor:
        """The weight of a pixel at a distance from the centre, in pixels of the coarser grid; bicubic with a = -0.5."""
        if self.interpolation == "bilinear":
            return (1 - distance).clamp(min=0)
        near = (1.5 * distance - 2.5) * distance * distance + 1
        far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
        return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def _largest_unit(largest_weight: Tensor) -> Tensor:
    """The largest power of two, at most 2^22, with which the largest weight fits into 16 bits; torch's choice."""
    units = torch.tensor([2.0**bits for bits in range(23)], dtype=torch.float64)
    return torch.where((largest_weight * units + 0.5).floor() < _INT16, units, 1.0).max()


def _rounded(sums: Tensor, unit: Tensor) -> Tensor:
    """Whole grey levels from weighted sums, as an addition and a shift of integers."""
    return ((sums + unit / 2) / unit).floor().clamp(0, 255)


@functools.cache
def columns_can_be_first() -> bool:
    """Whether the installed Pillow chooses the order of its passes by the sizes, as 13.0 does; 11.3 and 12.3 always begin with the rows.

    The rule of ``Pixels`` was found by comparing results, and held for all of 487 random sizes.
    """
    from PIL import Image

    image = Image.frombytes("L", (9, 31), random.Random(0).randbytes(9 * 31))
    return image.resize((7, 11)).tobytes() != image.resize((7, 31)).resize((7, 11)).tobytes()
