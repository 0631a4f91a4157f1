"""Random changes of training images: three ready-made kinds, every transform of torchvision by its name, and lists of them.

Random numbers come only from torch's global generator, so that seeding it before each case determines the result.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from clipzoo.config.arguments import Share, collected
from clipzoo.datasets.transforms import Transform, compose
from clipzoo.errors import ConfigError, RegistryError, did_you_mean, first_line, shortened
from clipzoo.registries import AUGMENTATIONS

if TYPE_CHECKING:
    from clipzoo.structures import Preprocessing

SPELLINGS = {"none": "NoAugmentation", "minimal": "MinimalAugmentation", "standard": "StandardAugmentation"}


def spelled(text: str) -> dict | None:
    """The class behind ``'none'``, ``'minimal'`` or ``'standard'``, or the name of a torchvision transform; ``None`` for a class name.

    Raises:
        RegistryError: There is no such augmentation.
    """
    if text in SPELLINGS:
        return {"type": SPELLINGS[text]}
    if text in AUGMENTATIONS:
        return None
    names = torchvision_names()
    if text in names:
        return {"type": "TorchvisionAugmentation", "name": text}
    known = [*SPELLINGS, *sorted(AUGMENTATIONS)]
    hint = did_you_mean(text, [*known, *names])
    raise RegistryError(
        f"unknown augmentation '{text}'.{hint} Known: {', '.join(known)}, and torchvision's transforms such as {shortened(names, 5)}"
    )


class Augmentation:
    """Base class of augmentations that can stand in a list; subclasses implement ``steps``."""

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """Steps before padding and on the square image, both in [0, 1]; see ``transforms.compose``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'steps'")

    def build(self, preprocessing: Preprocessing) -> Transform:
        """RGB image to ``[3, size, size]`` float32, randomly changed at every call."""
        return compose(preprocessing, *self.steps(preprocessing))


@AUGMENTATIONS.register_module()
class NoAugmentation(Augmentation):
    """Train on exactly the images that are evaluated. A frozen image tower then processes every image only once."""

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """None."""
        return [], []


@AUGMENTATIONS.register_module()
class MinimalAugmentation(Augmentation):
    """Small shifts by whole pixels and small changes of exposure; no rotation, scaling or mirroring.

    Args:
        translation: Maximum shift, as a fraction of the side.
        brightness: Maximum relative change of brightness.
        contrast: Maximum relative change of contrast.
    """

    def __init__(self, translation: Share = 0.03, brightness: Share = 0.1, contrast: Share = 0.1):
        self.translation = translation
        self.brightness = brightness
        self.contrast = contrast

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """Colour, then geometry."""
        from torchvision.transforms import v2

        colour = [v2.ColorJitter(brightness=self.brightness, contrast=self.contrast)]
        shift = v2.RandomAffine(0, translate=(self.translation, self.translation), interpolation=v2.InterpolationMode.NEAREST)
        return colour, [shift]


@AUGMENTATIONS.register_module()
class StandardAugmentation(Augmentation):
    """Small rotations, shifts, zooms and changes of exposure, as between two radiographs of one patient.

    No mirroring by default: it would make "left" and "right" in captions untrue, and the heart of a radiograph wrong.

    Args:
        rotation: Maximum rotation in degrees, in either direction.
        translation: Maximum shift, as a fraction of the side.
        scale: Maximum relative change of size.
        brightness: Maximum relative change of brightness.
        contrast: Maximum relative change of contrast.
        horizontal_flip: Whether to mirror half of the images. Only for data where left and right have no meaning.
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

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """Colour, then geometry."""
        from torchvision.transforms import v2

        colour = [v2.ColorJitter(brightness=self.brightness, contrast=self.contrast)]
        affine = v2.RandomAffine(
            self.rotation,
            translate=(self.translation, self.translation),
            scale=(1 - self.scale, 1 + self.scale),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        flip = [v2.RandomHorizontalFlip()] if self.horizontal_flip else []
        return colour, [affine, *flip]


@AUGMENTATIONS.register_module()
class TorchvisionAugmentation(Augmentation):
    """A transform of ``torchvision.transforms.v2``, on the square image in [0, 1].

    In a config its name is enough: ``dict(type='RandomErasing', p=0.25)``. Its result must have the size of the tower, which is filled in
    for transforms that need it, such as ``RandomResizedCrop``. Mirroring makes "left" and "right" in captions untrue.

    Args:
        name: Name of the class: ``'RandAugment'``, ``'RandomErasing'`` …
        arguments: Its arguments.

    Raises:
        ConfigError: torchvision has no such transform, or it refuses the arguments.
    """

    def __init__(self, name: str, **arguments: Any):
        self.name = name
        self.arguments = arguments

    @staticmethod
    def check_together(where: str, arguments: Mapping[str, object]) -> None:
        """The arguments must be those of the transform."""
        _transform(arguments["name"], collected(TorchvisionAugmentation.__init__, arguments), 224, where)

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """The transform."""
        return [], [_transform(self.name, self.arguments, preprocessing.size, type(self).__name__)]


def torchvision_names() -> list[str]:
    """Names of torchvision's transforms of single images, sorted."""
    from torchvision.transforms import v2

    several = {"Compose", "RandomApply", "RandomChoice", "RandomOrder", "Transform", "Lambda", "MixUp", "CutMix", "Normalize", "ToDtype"}
    found = {name for name, kind in vars(v2).items() if inspect.isclass(kind) and issubclass(kind, v2.Transform)}
    return sorted(found - several)


def _transform(name: str, arguments: Mapping[str, object], size: int, where: str) -> Transform:
    """Torchvision's transform, tried on a grey image.

    Raises:
        ConfigError: There is no such transform, it refuses the arguments, or its result has another size.
    """
    import torch
    from torchvision.transforms import v2

    names = torchvision_names()
    if name not in names:
        raise ConfigError(
            f"{where}.type: torchvision has no transform '{name}'.{did_you_mean(name, names)} Some are: {shortened(names, 8)}"
        )
    kind = getattr(v2, name)
    known = list(inspect.signature(kind).parameters)
    unknown = [key for key in arguments if key not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(f"{where}.{unknown[0]}: {name} has no argument '{unknown[0]}'.{hint} {name}({', '.join(known)})")
    required = inspect.signature(kind).parameters.get("size")
    if required is not None and "size" not in arguments and required.default is inspect.Parameter.empty:
        arguments = {**arguments, "size": size}
    try:
        made = kind(**arguments)
        with torch.random.fork_rng(devices=[]):
            result = made(torch.full((3, size, size), 0.5))
    except Exception as error:  # torchvision raises errors of many kinds
        raise ConfigError(f"{where}.type: {name} refuses {dict(arguments) or 'to work without arguments'}: {first_line(error)}") from error
    if not isinstance(result, torch.Tensor) or result.shape != (3, size, size) or not result.is_floating_point():
        found = f"{list(result.shape)} {result.dtype}" if isinstance(result, torch.Tensor) else type(result).__name__
        raise ConfigError(f"{where}.type: {name} makes {found} of an image of {[3, size, size]}. Augmentation must keep size and type")
    return made


class _Several(Augmentation):
    """Several augmentations, one after the other.

    Args:
        members: The augmentations.
    """

    def __init__(self, members: Sequence[object]):
        self.members = members

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """The steps of all members."""
        each = [member.steps(preprocessing) for member in self.members]
        return [step for colour, _ in each for step in colour], [step for _, square in each for step in square]


def augmentation_of(spec: str | Mapping | Sequence) -> Any:
    """The augmentation that ``data.augmentation`` describes: one, or a list.

    Raises:
        ConfigError: A member of a list can only be used alone.
    """
    if isinstance(spec, (str, Mapping)):
        return AUGMENTATIONS.build(spec)
    members = [AUGMENTATIONS.build(member) for member in spec]
    for number, member in enumerate(members):
        if not isinstance(member, Augmentation):
            what = f"{type(member).__name__} can only be used alone, not in a list"
            raise ConfigError(f"data.augmentation.{number}: {what}. Derive it from clipzoo.datasets.augmentations.Augmentation")
    return _Several(members)


def is_none(spec: str | Mapping | Sequence) -> bool:
    """Whether images stay as they are, so that a frozen tower needs to see each of them only once."""
    specs = [spec] if isinstance(spec, (str, Mapping)) else spec
    return all(AUGMENTATIONS.expand(one)["type"] == "NoAugmentation" for one in specs)
