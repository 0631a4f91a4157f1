"""Augmentation of whole batches: the random numbers of the per-image path, applied to all images at once.

The process that reads an image draws its numbers, in the order and from the generator of the per-image path. The arithmetic follows when
the batch is complete, in the same process; or, with ``data.augment_on_device``, on the device, where the scaled uint8 pixels are a quarter
of the bytes to move. It equals the per-image path up to rounding: sums over an image are formed in another order, and the coordinates of a
rotated pixel differ in their last bits.

On CPUs an image is the same to the last bit whatever else is in its batch, however many threads there are, and in whichever process. Every
operation below rounds once per value, and an image is summed row by row, as torch's sum to a single number depends on the number of
threads.

A step of ``Augmentation.steps`` has a batched form if it is a transform of torchvision listed in ``FORMS``, or has a method ``batched``
that returns a ``BatchedStep``.

Legend: B images · C 3 channels · H, W the tower's size · P numbers per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clipzoo.datasets.augmentations.images import Augmentation
from clipzoo.datasets.transforms import FitThen, PadToSquare
from clipzoo.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from clipzoo.datasets.transforms import Transform
    from clipzoo.structures import Batch, Preprocessing


# Pixels at once per thread of a CPU, whose cache holds no more: two images of 224 px take 1.0 ms each, and 32 at once 2.8 ms.
_PIXELS = 2 * 224 * 224


class NoBatchedForm(ConfigError):
    """An augmentation can only be applied image by image."""


class Drawn(NamedTuple):
    """An image before its augmentation.

    Attributes:
        pixels: ``[3, H, W]`` uint8, scaled and padded; or ``[V, 3, H, W]``, those of a case.
        numbers: ``[P]`` float32: height and width without padding, then the numbers of every step; or ``[V, P]``.
    """

    pixels: Tensor
    numbers: Tensor


class BatchedStep(Protocol):
    """The batched form of a step.

    Attributes:
        count: Number of its numbers per image.
    """

    count: int

    def draw(self, image: Tensor) -> list[float]:
        """The numbers for one image, drawn from torch's generator exactly as the step itself would.

        Args:
            image: ``[3, h, w]`` image, for its shape: without padding for steps on the colour, padded for others.
        """

    def apply(self, images_BCHW: Tensor, numbers_BP: Tensor, inside_B1HW: Tensor) -> Tensor:
        """The changed images, in [0, 1]. Each must depend on nothing but itself and its numbers: a batch may come in parts.

        Args:
            images_BCHW: Images in [0, 1], padded with 0; may be changed in place.
            numbers_BP: Results of ``draw``.
            inside_B1HW: 1 where the step may change pixels, 0 elsewhere: steps before padding leave it black, others see a square image.
        """


class BatchedJitter:
    """``v2.ColorJitter`` of brightness and contrast. Numbers: whether brightness comes first, and both factors."""

    count = 3

    def __init__(self, step: object):
        self.step = step

    def draw(self, image: Tensor) -> list[float]:
        """See ``BatchedStep.draw``."""
        drawn = _params(self.step, image)
        order = drawn["fn_idx"].tolist()
        factors = [drawn[f"{name}_factor"] for name in ("brightness", "contrast")]
        return [float(order.index(0) < order.index(1)), *(1.0 if factor is None else factor for factor in factors)]

    def apply(self, images_BCHW: Tensor, numbers_BP: Tensor, inside_B1HW: Tensor) -> Tensor:
        """See ``BatchedStep.apply``."""
        import torch

        is_first, brightness, contrast = (number.view(-1, 1, 1, 1) for number in numbers_BP.unbind(1))
        images_BCHW = images_BCHW.mul_(torch.where(is_first > 0, brightness, 1.0)).clamp_(0, 1)
        red, green, blue = images_BCHW.unbind(1)
        grey_BHW = red.mul(0.2989).add_(green.mul(0.587)).add_(blue.mul(0.114))
        mean_B111 = (grey_BHW.sum(2).sum(1) / inside_B1HW.sum((1, 2, 3))).view(-1, 1, 1, 1)
        images_BCHW = images_BCHW.mul_(contrast).add_(inside_B1HW * (mean_B111 * (1 - contrast))).clamp_(0, 1)
        return images_BCHW.mul_(torch.where(is_first > 0, 1.0, brightness)).clamp_(0, 1)


class BatchedAffine:
    """``v2.RandomAffine``. Numbers: the first two rows of the matrix from pixels of the result to those of the image."""

    count = 6

    def __init__(self, step: object):
        self.step = step
        self.mode = _interpolation(step)

    def draw(self, image: Tensor) -> list[float]:
        """See ``BatchedStep.draw``."""
        drawn = _params(self.step, image)
        return inverse_affine(drawn["angle"], drawn["translate"], drawn["scale"], drawn["shear"])

    def apply(self, images_BCHW: Tensor, numbers_BP: Tensor, inside_B1HW: Tensor) -> Tensor:
        """See ``BatchedStep.apply``."""
        import torch
        from torch.nn.functional import grid_sample

        height, width = images_BCHW.shape[-2:]
        options = {"dtype": images_BCHW.dtype, "device": images_BCHW.device}
        rows_H, columns_W = (torch.linspace((1 - size) / 2, (size - 1) / 2, size, **options) for size in (height, width))
        grid_BHW2 = torch.empty(len(images_BCHW), height, width, 2, **options)
        for axis, (numbers_B3, size) in enumerate(zip(numbers_BP.split(3, dim=1), (width, height), strict=True)):
            of_column, of_row, constant = (number[:, None] for number in (numbers_B3 / (size / 2)).unbind(1))
            torch.add((of_column * columns_W)[:, None, :], (of_row * rows_H + constant)[:, :, None], out=grid_BHW2[..., axis])
        if self.mode == "nearest":
            return grid_sample(images_BCHW, grid_BHW2, mode="nearest", align_corners=False)
        with_ones = torch.cat([images_BCHW, torch.ones_like(images_BCHW[:, :1])], dim=1)
        sampled = grid_sample(with_ones, grid_BHW2, mode="bilinear", align_corners=False)
        return sampled[:, :-1] * sampled[:, -1:]  # torchvision's edge: a pixel that is half outside counts a quarter


class BatchedFlip:
    """``v2.RandomHorizontalFlip`` or ``v2.RandomVerticalFlip``. Number: 1 for a mirrored image."""

    count = 1

    def __init__(self, step: object, dimension: int):
        self.step, self.dimension = step, dimension

    def draw(self, image: Tensor) -> list[float]:
        """See ``BatchedStep.draw``."""
        import torch

        return [float(torch.rand(1) < self.step.p)]

    def apply(self, images_BCHW: Tensor, numbers_BP: Tensor, inside_B1HW: Tensor) -> Tensor:
        """See ``BatchedStep.apply``."""
        import torch

        return torch.where(numbers_BP.view(-1, 1, 1, 1) > 0, images_BCHW.flip(self.dimension), images_BCHW)


def _jitter(step: object) -> BatchedJitter | None:
    return BatchedJitter(step) if step.saturation is None and step.hue is None else None


def _affine(step: object) -> BatchedAffine | None:
    usual = step.center is None and step.fill == 0 and _interpolation(step) in ("nearest", "bilinear")
    return BatchedAffine(step) if usual else None


# By class of torchvision: the batched form, or None if the arguments have none.
FORMS: dict[str, Callable[[object], BatchedStep | None]] = {
    "ColorJitter": _jitter,
    "RandomAffine": _affine,
    "RandomHorizontalFlip": lambda step: BatchedFlip(step, -1),
    "RandomVerticalFlip": lambda step: BatchedFlip(step, -2),
}


class BatchedAugmentation:
    """The batched form of an augmentation, in two halves: ``transform`` in the process that reads an image, then the call.

    Args:
        preprocessing: What the image tower requires.
        colour: Steps before padding.
        square: Steps on the padded image.

    Attributes:
        transform: Function from an RGB image to ``Drawn``: what the reader of an image does.
    """

    def __init__(self, preprocessing: Preprocessing, colour: Sequence[BatchedStep], square: Sequence[BatchedStep]):
        self.preprocessing, self.colour, self.square = preprocessing, colour, square
        self.pad = PadToSquare(preprocessing.size)
        self.transform = FitThen(preprocessing, self.draw)

    def draw(self, pixels_CHW: Tensor) -> Drawn:
        """An image that ``fit`` scaled, ``[3, h, w]`` uint8, with its random numbers."""
        import torch

        padded_CHW = self.pad(pixels_CHW)
        numbers = [float(side) for side in pixels_CHW.shape[-2:]]
        for step in self.colour:
            numbers += step.draw(pixels_CHW)
        for step in self.square:
            numbers += step.draw(padded_CHW)
        return Drawn(padded_CHW, torch.tensor(numbers))

    def __call__(self, batch: Batch) -> Batch:
        """A batch with images as the per-image path gives them; unchanged if it has none. Draws no random number."""
        import torch

        if batch.draws is None:
            return batch
        with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
            at_once = len(batch.images)
            if batch.images.device.type == "cpu":
                at_once = max(1, _PIXELS * torch.get_num_threads() // self.preprocessing.size**2)
            parts = zip(batch.images.split(at_once), batch.draws.split(at_once), strict=True)
            return replace(batch, images=torch.cat([self._finished(*part) for part in parts]), draws=None)

    def _finished(self, pixels_BCHW: Tensor, numbers_BP: Tensor) -> Tensor:
        import torch

        images = pixels_BCHW.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 255)
        inside = _inside(numbers_BP[:, :2], self.preprocessing.size)
        first = 2
        for steps, region in ((self.colour, inside), (self.square, torch.ones_like(inside))):
            for step in steps:
                images = step.apply(images, numbers_BP[:, first : first + step.count], region)
                first += step.count
        mean, std = (
            torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        return images.sub(mean).div_(std)


def batched(augmentation: Augmentation, preprocessing: Preprocessing) -> BatchedAugmentation:
    """The batched form of an augmentation.

    Raises:
        NoBatchedForm: One of its steps has none.
    """
    if getattr(type(augmentation), "build", None) is not Augmentation.build:  # it is more than its steps
        raise _no_form(type(augmentation).__name__)
    colour, square = ([_form(step) for step in steps] for steps in augmentation.steps(preprocessing))
    return BatchedAugmentation(preprocessing, colour, square)


def training_transform(
    augmentation: Augmentation, preprocessing: Preprocessing, *, one_by_one: bool = True
) -> tuple[Transform, BatchedAugmentation | None]:
    """What is done to each training image, and to each batch of them; ``None`` for nothing, if the augmentation has no batched form.

    Args:
        augmentation: The augmentation.
        preprocessing: What the image tower requires.
        one_by_one: Whether an augmentation without batched form may be applied image by image.

    Raises:
        NoBatchedForm: It has none, and ``one_by_one`` is false.
    """
    try:
        augment = batched(augmentation, preprocessing)
    except NoBatchedForm:
        if not one_by_one:
            raise
        return augmentation.build(preprocessing), None
    return augment.transform, augment


def _form(step: object) -> BatchedStep:
    name = type(step).__name__
    is_torchvision = type(step).__module__.startswith("torchvision.transforms.v2.")
    made = FORMS[name](step) if is_torchvision and name in FORMS else step.batched() if hasattr(step, "batched") else None
    if made is None:
        raise _no_form(f"{name} with these arguments" if is_torchvision and name in FORMS else name)
    return made


def _no_form(name: str) -> NoBatchedForm:
    return NoBatchedForm(
        f"data.augment_on_device: {name} has no batched form. Remove data.augment_on_device, or use 'none', 'minimal', 'standard', "
        "RandomAffine, RandomHorizontalFlip, RandomVerticalFlip, or ColorJitter of brightness and contrast"
    )


def inverse_affine(angle: float, translate: Sequence[float], scale: float, shear: Sequence[float]) -> list[float]:
    """The first two rows of the matrix that maps a pixel of the result to one of the image; the origin is the centre.

    The image is sheared, scaled, rotated, and then moved. For the rotation alone:

    >>> [round(value, 6) + 0.0 for value in inverse_affine(90, (0, 0), 1, (0, 0))]
    [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]

    Args:
        angle: Degrees, clockwise as seen.
        translate: Pixels to the right and down.
        scale: Factor of the size.
        shear: Degrees, along x and y.
    """
    turn, x, y = (math.radians(value) for value in (angle, *shear))
    # [[a, b], [c, d]] = rotation @ shear along y @ shear along x, of determinant 1
    a, c = math.cos(turn - y) / math.cos(y), math.sin(turn - y) / math.cos(y)
    b, d = -a * math.tan(x) - math.sin(turn), -c * math.tan(x) + math.cos(turn)
    right, down = translate
    rows = ((d / scale, -b / scale), (-c / scale, a / scale))
    return [value for p, q in rows for value in (p, q, -p * right - q * down)]


def _interpolation(step: object) -> str:
    return getattr(step.interpolation, "value", step.interpolation)


def _params(step: object, image: Tensor) -> dict:
    """The parameters that a transform of torchvision draws for an image."""
    make = getattr(step, "make_params", None) or step._get_params  # before torchvision 0.21
    return make([image])


def _inside(sides_B2: Tensor, size: int) -> Tensor:
    """``[B, 1, size, size]`` float32: 1 where a centred image of these heights and widths lies."""
    import torch

    place = torch.arange(size, device=sides_B2.device)
    first_B2 = ((size - sides_B2) / 2).floor()
    rows, columns = ((place >= first_B2[:, side, None]) & (place < first_B2[:, side, None] + sides_B2[:, side, None]) for side in (0, 1))
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()
