"""Random changes of training images, one by one and mixed with each other. Importing this package registers them."""

from clipzoo.datasets.augmentations.images import (
    Augmentation,
    MinimalAugmentation,
    NoAugmentation,
    StandardAugmentation,
    TorchvisionAugmentation,
    augmentation_of,
    is_none,
    spelled,
    torchvision_names,
)
from clipzoo.datasets.augmentations.mixing import CutMix, Mixing, MixUp, mixed, mixings_of

__all__ = [
    "Augmentation",
    "CutMix",
    "MinimalAugmentation",
    "MixUp",
    "Mixing",
    "NoAugmentation",
    "StandardAugmentation",
    "TorchvisionAugmentation",
    "augmentation_of",
    "is_none",
    "mixed",
    "mixings_of",
    "spelled",
    "torchvision_names",
]
