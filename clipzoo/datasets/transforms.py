"""From a Pillow image to the tensor a tower wants: the same geometry in training and evaluation, plus random changes in training.

Geometry is ``Preprocessing.fit``. ``'pad'``, the default: the whole image is scaled, with its proportions, to fit into ``size x size`` and
is centred on black ("letterbox"). ``'crop'``, "shorter side, then centre crop", cuts off the stem tip of a tall radiograph, and
``'squash'`` changes the very angles and diameters that tell implants apart; but published CLIPs were trained with one of these two, and
their towers ask for it. For square images all three are the same.

``'crop'`` and ``'squash'`` are Pillow's resize, so that weights from elsewhere see exactly the pixels that they see there (open_clip's
transform: no difference). The faster resize of ``'pad'`` differs from Pillow's by at most one grey level of 255 where it makes smaller and
two where it makes larger, 0.003 to 0.006 on average, and the features of a ViT-S/32 by up to 6e-5.

Order of ``'pad'``, the fastest correct one of those measured (224 px, one core; Pillow's resize of a 640 x 480 image takes 2.0 ms, this one
0.8 ms): resize as a channels-last uint8 tensor with antialiasing, then float, then colour, then padding (so that bars stay black), then
rotation and shift, then normalisation. JPEGs are decoded in full: a reduced ("draft") decoding is faster, but not the same image.

Random numbers come from torch's global generator only, so that whoever seeds it before each case owns the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from clipzoo.config.arguments import Share
from clipzoo.errors import ConfigError, RegistryError, did_you_mean
from clipzoo.registries import AUGMENTATIONS
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Transform = Callable[["Image.Image"], "Tensor"]

SPELLINGS = {"none": "NoAugmentation", "minimal": "MinimalAugmentation", "standard": "StandardAugmentation"}
INTERPOLATIONS = ("bilinear", "bicubic")


def augmentation(text: str) -> dict | None:
    """What ``'none'``, ``'minimal'`` and ``'standard'`` stand for; ``None`` for a class name.

    Raises:
        RegistryError: A mistyped one of the three.
    """
    if text in SPELLINGS:
        return {"type": SPELLINGS[text]}
    hint = did_you_mean(text, SPELLINGS)
    if hint and text not in AUGMENTATIONS:
        known = ", ".join([*SPELLINGS, *sorted(AUGMENTATIONS)])
        raise RegistryError(f"unknown augmentation '{text}'.{hint} Known: {known}")
    return None


class Fit:
    """Scale an image, with its proportions, so that its longer side is ``size``; ``[3, h, w]`` uint8, h and w at most ``size``.

    Args:
        size: Pixels.
        interpolation: ``'bilinear'`` or ``'bicubic'``, antialiased.
    """

    def __init__(self, size: int, interpolation: str = "bicubic"):
        _check_interpolation(interpolation)
        self.size = size
        self.interpolation = interpolation

    def __call__(self, image: Image.Image) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode, functional

        width, height = image.size
        scale = self.size / max(width, height)
        shape = [max(1, round(height * scale)), max(1, round(width * scale))]
        pixels_CHW = functional.pil_to_tensor(image)  # a channels-last view: torchvision resizes that without unpacking
        if shape == [height, width]:
            return pixels_CHW
        return functional.resize(pixels_CHW, shape, interpolation=InterpolationMode(self.interpolation), antialias=True)


class CropToSquare:
    """Scale an image, with its proportions, so that its shorter side is ``size``, and keep the middle; ``[3, size, size]`` uint8.

    Pixel for pixel what open_clip's and OpenAI's transforms make: the longer side is rounded down, and the resize is Pillow's.

    Args:
        size: Pixels.
        interpolation: As ``Fit``.
    """

    def __init__(self, size: int, interpolation: str = "bicubic"):
        self.size = size
        self.resample = _pillow_filter(interpolation)

    def __call__(self, image: Image.Image) -> Tensor:
        shorter = min(image.size)
        width, height = (self.size * side // shorter for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        scaled = _resized(image, (width, height), self.resample)
        return _pixels(scaled.crop((left, top, left + self.size, top + self.size)))


class SquashToSquare:
    """Scale both sides of an image to ``size``, whatever its proportions; ``[3, size, size]`` uint8. The resize is Pillow's.

    Args:
        size: Pixels.
        interpolation: As ``Fit``.
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
        raise ConfigError(f"preprocessing: interpolation {interpolation!r} is not supported; one of {', '.join(INTERPOLATIONS)} is")


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


FITS: dict[str, type] = {"pad": Fit, "crop": CropToSquare, "squash": SquashToSquare}  # the last two leave nothing to pad


def evaluation_transform(preprocessing: Preprocessing) -> Transform:
    """RGB image to ``[3, size, size]`` float32, made square as ``preprocessing.fit`` says and normalised; nothing random."""
    return _compose(preprocessing, colour=[], geometry=[])


def _compose(preprocessing: Preprocessing, colour: list, geometry: list) -> Transform:
    import torch
    from torchvision.transforms import v2

    if preprocessing.fit not in FITS:
        raise ConfigError(f"preprocessing: fit {preprocessing.fit!r} is not known; one of {', '.join(FITS)} is")
    return v2.Compose(
        [
            FITS[preprocessing.fit](preprocessing.size, preprocessing.interpolation),
            v2.ToDtype(torch.float32, scale=True),  # to [0, 1]
            *colour,
            PadToSquare(preprocessing.size),
            *geometry,
            v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
        ]
    )


@AUGMENTATIONS.register_module()
class NoAugmentation:
    """Train on exactly what is evaluated. A frozen image tower then needs to see every image only once."""

    def build(self, preprocessing: Preprocessing) -> Transform:
        """RGB image to ``[3, size, size]`` float32; the same as ``evaluation_transform``."""
        return evaluation_transform(preprocessing)


@AUGMENTATIONS.register_module()
class MinimalAugmentation:
    """Small shifts by whole pixels and small changes of exposure; nothing is rotated, scaled or mirrored.

    Args:
        translation: Largest shift, as a fraction of the side.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
    """

    def __init__(self, translation: Share = 0.03, brightness: Share = 0.1, contrast: Share = 0.1):
        self.translation = translation
        self.brightness = brightness
        self.contrast = contrast

    def build(self, preprocessing: Preprocessing) -> Transform:
        """RGB image to ``[3, size, size]`` float32, randomly changed at every call."""
        from torchvision.transforms import v2

        colour = [v2.ColorJitter(brightness=self.brightness, contrast=self.contrast)]
        shift = v2.RandomAffine(0, translate=(self.translation, self.translation), interpolation=v2.InterpolationMode.NEAREST)
        return _compose(preprocessing, colour, [shift])


@AUGMENTATIONS.register_module()
class StandardAugmentation:
    """Small rotations, shifts, zooms and changes of exposure, as between two radiographs of one patient.

    Nothing is mirrored unless asked: a mirrored image makes "left" and "right" in a caption untrue, and the heart of a radiograph wrong.

    Args:
        rotation: Largest rotation in degrees, to both sides.
        translation: Largest shift, as a fraction of the side.
        scale: Largest relative change of size.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        horizontal_flip: Mirror every second image. Only where left and right mean nothing.
    """

    def __init__(
        self,
        rotation: Annotated[float, Interval(ge=0, le=180)] = 10.0,
        translation: Share = 0.05,
        scale: Share = 0.1,
        brightness: Share = 0.2,
        contrast: Share = 0.2,
        horizontal_flip: bool = False,
    ):
        self.rotation = rotation
        self.translation = translation
        self.scale = scale
        self.brightness = brightness
        self.contrast = contrast
        self.horizontal_flip = horizontal_flip

    def build(self, preprocessing: Preprocessing) -> Transform:
        """RGB image to ``[3, size, size]`` float32, randomly changed at every call."""
        from torchvision.transforms import v2

        colour = [v2.ColorJitter(brightness=self.brightness, contrast=self.contrast)]
        affine = v2.RandomAffine(
            self.rotation,
            translate=(self.translation, self.translation),
            scale=(1 - self.scale, 1 + self.scale),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        flip = [v2.RandomHorizontalFlip()] if self.horizontal_flip else []
        return _compose(preprocessing, colour, [affine, *flip])
