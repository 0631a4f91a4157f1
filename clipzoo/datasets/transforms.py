"""Conversion of Pillow images to tower inputs: the same geometry in training and evaluation. ``augmentations`` adds random changes.

The geometry is ``Preprocessing.fit``. ``'pad'``, the default: the whole image is scaled, with its aspect ratio, to fit ``size x size``
and is centred on black ("letterbox"). ``'crop'``, "shorter side, then centre crop", cuts off the stem tip of a tall radiograph, and
``'squash'`` distorts the very angles and diameters that distinguish implants; but published CLIPs were trained with one of these two,
and their towers require it. For square images all three are the same.

``'crop'`` and ``'squash'`` use Pillow's resize, so that external weights see exactly the pixels they were trained on (open_clip's
transform: no difference). The faster resize of ``'pad'`` differs from Pillow's by at most one grey level of 255 when downscaling and
two when upscaling, 0.003 to 0.006 on average, and the features of a ViT-S/32 by up to 6e-5.

The order of operations of ``'pad'`` is the fastest correct one measured (224 px, one core; Pillow's resize of a 640 x 480 image takes
2.0 ms, this one 0.8 ms): resize as a channels-last uint8 tensor with antialiasing, then float, colour, padding (so that bars stay black),
rotation and shift, normalisation. JPEGs are fully decoded: a reduced ("draft") decoding is faster, but not the same image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from clipzoo.datasets.placement import placement
from clipzoo.errors import ConfigError
from clipzoo.lean_imports import lean
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Transform = Callable[["Image.Image"], "Tensor"]

INTERPOLATIONS = ("bilinear", "bicubic")


class Fit:
    """Scale an image, keeping its aspect ratio, such that its longer side is ``size``; ``[3, h, w]`` uint8, h and w at most ``size``.

    Args:
        size: Target size in pixels.
        interpolation: ``'bilinear'`` or ``'bicubic'``, antialiased.
    """

    def __init__(self, size: int, interpolation: str = "bicubic"):
        _check_interpolation(interpolation)
        self.size = size
        self.interpolation = interpolation

    def __call__(self, image: Image.Image) -> Tensor:
        with lean():
            from torchvision.transforms.v2 import InterpolationMode, functional

        placed = placement("pad", self.size, *image.size)
        shape = [placed.height, placed.width]
        pixels_CHW = functional.pil_to_tensor(image)  # a channels-last view, which torchvision resizes without unpacking
        if shape == list(pixels_CHW.shape[-2:]):
            return pixels_CHW
        return functional.resize(pixels_CHW, shape, interpolation=InterpolationMode(self.interpolation), antialias=True)


class CropToSquare:
    """Scale an image, keeping its aspect ratio, such that its shorter side is ``size``, and crop the centre; ``[3, size, size]`` uint8.

    Identical to the transforms of open_clip and OpenAI to the pixel: the longer side is rounded down, and the resize is Pillow's.

    Args:
        size: Target size in pixels.
        interpolation: See ``Fit``.
    """

    def __init__(self, size: int, interpolation: str = "bicubic"):
        self.size = size
        self.resample = _pillow_filter(interpolation)

    def __call__(self, image: Image.Image) -> Tensor:
        placed = placement("crop", self.size, *image.size)
        scaled = _resized(image, (placed.width, placed.height), self.resample)
        return _pixels(scaled.crop((-placed.left, -placed.top, self.size - placed.left, self.size - placed.top)))


class SquashToSquare:
    """Scale both sides of an image to ``size``, ignoring its aspect ratio; ``[3, size, size]`` uint8. The resize is Pillow's.

    Args:
        size: Target size in pixels.
        interpolation: See ``Fit``.
    """

    def __init__(self, size: int, interpolation: str = "bicubic"):
        self.size = size
        self.resample = _pillow_filter(interpolation)

    def __call__(self, image: Image.Image) -> Tensor:
        return _pixels(_resized(image, (self.size, self.size), self.resample))


def _pillow_filter(interpolation: str) -> int:
    from PIL import Image

    _check_interpolation(interpolation)
    return {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]


def _resized(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    return image if image.size == size else image.resize(size, resample)


def _pixels(image: Image.Image) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.pil_to_tensor(image)


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in INTERPOLATIONS:
        raise ConfigError(f"preprocessing: unknown interpolation {interpolation!r}. Known: {', '.join(INTERPOLATIONS)}")


class PadToSquare:
    """Centre ``[3, h, w]`` on a black square of ``size``."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, image_CHW: Tensor) -> Tensor:
        import torch

        height, width = image_CHW.shape[-2:]
        left, top = (self.size - width) // 2, (self.size - height) // 2
        if height == width == self.size:
            return image_CHW
        return torch.nn.functional.pad(image_CHW, (left, self.size - width - left, top, self.size - height - top))


FITS: dict[str, type] = {"pad": Fit, "crop": CropToSquare, "squash": SquashToSquare}  # the last two need no padding


class FitThen:
    """An image to the input of a tower: ``fit``, which depends on nothing but the image, then ``finish``, which may be random.

    The image cache keeps what lies between the two.

    Args:
        preprocessing: What ``fit`` was made from.
        finish: Function from ``[3, h, w]`` uint8, h and w at most ``size``, to ``[3, size, size]`` float32.
    """

    def __init__(self, preprocessing: Preprocessing, finish: Callable[[Tensor], Tensor]):
        if preprocessing.fit not in FITS:
            raise ConfigError(f"preprocessing: unknown fit {preprocessing.fit!r}. Known: {', '.join(FITS)}")
        self.preprocessing = preprocessing
        self.fit = FITS[preprocessing.fit](preprocessing.size, preprocessing.interpolation)
        self.finish = finish

    def __call__(self, image: Image.Image) -> Tensor:
        return self.finish(self.fit(image))


def evaluation_transform(preprocessing: Preprocessing) -> FitThen:
    """RGB image to ``[3, size, size]`` float32, made square by ``preprocessing.fit`` and normalised; deterministic."""
    return compose(preprocessing)


def compose(preprocessing: Preprocessing, colour: Sequence[Transform] = (), square: Sequence[Transform] = ()) -> FitThen:
    """The transform for evaluation with further steps for training.

    Args:
        preprocessing: What the image tower requires.
        colour: Steps on the image before padding, ``[3, h, w]`` float32 in [0, 1], so that bars stay black.
        square: Steps on the padded image, ``[3, size, size]``.
    """
    import torch

    with lean():
        from torchvision.transforms import v2

    finish = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),  # to [0, 1]
            *colour,
            PadToSquare(preprocessing.size),
            *square,
            v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
        ]
    )
    return FitThen(preprocessing, finish)
