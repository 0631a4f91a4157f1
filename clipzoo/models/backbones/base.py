"""Base class of all image towers, and test-time augmentation: features averaged over an image and changed copies of it, its test views.

The mean is of the tower's outputs, before projection, head and softmax. It is therefore the same in every use of a trained model (scoring,
calibration, prediction, search), and one row per image in the cache of features. Krizhevsky et al. 2012 (section 4.1) average the
probabilities instead; for a linear head, averaging outputs is averaging logits. Whatever is defined here is part of a tower's digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.models.backbones.spatial import Spatial
from clipzoo.models.layout.open_clip import OpenCLIPTower
from clipzoo.models.pooling import in_full
from clipzoo.models.tower import Tower, full_name
from clipzoo.structures import Preprocessing

# Half the largest changes of ``StandardAugmentation``: rotation in degrees, zoom, and shift as a fraction of the side.
ROTATION, ZOOM, SHIFT = 5.0, 0.05, 0.025
_STILL = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}


class Backbone(Tower):
    """Base class of all image towers.

    Attributes:
        preprocessing: Image size, mean, standard deviation and interpolation that the weights expect.
    """

    preprocessing: Preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` float images, normalised by ``preprocessing``, to ``[B, num_features]``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    def average_over(self, kinds: Sequence[str] | None) -> None:
        """Set ``test_views``, in a fixed order; without any, the tower stays as it is, and so does its digest."""
        if kinds:
            self.test_views = tuple(sorted(kinds))

    def averaged(self, images: Tensor) -> Tensor:
        """``[B, num_features]``: the mean of the features over every image and its ``test_views``, in at least fp32.

        Without test views, the features of the images. The tower is called once per view, so the memory is that of one.

        Args:
            images: ``[B, 3, H, W]`` normalised by ``preprocessing``.
        """
        if not self.test_views:
            return self(images)
        changes = [change for kind in self.test_views for change in views_of(kind, self.preprocessing)]
        total = in_full(self(images))
        for change in changes:
            total = total + self(change(images))
        return total / (1 + len(changes))

    def spatial(self) -> Spatial:
        """Where this tower keeps position, for explanations: feature maps from the last to the first, or patches.

        ``None``, the default, for a tower that does not say; it cannot be explained.
        """
        return None

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """For export: copies of the tower's tensors under open_clip's names without prefix, and further fields of ``CLIPWeights``.

        Raises:
            BuildError: The CLIPs of other libraries have no equivalent image tower.
        """
        instead = "Use CLIPVision, or the ONNX format"
        raise BuildError(f"{where}: cannot export {full_name(self)}, as other libraries' CLIPs have no such image tower. {instead}")

    def open_clip_layout(self, matrix_ED: Tensor, bias_E: Tensor | None, where: str) -> OpenCLIPTower | None:
        """For export: the tower as one of open_clip's around a timm network; ``None`` for towers that only ``clip_layout`` describes.

        Args:
            matrix_ED: Projection from the tower's features into the joint space, in fp64.
            bias_E: Its bias, if any.
            where: Start of a message.

        Raises:
            BuildError: open_clip cannot build this network.
        """
        return None

    def describe(self) -> str:
        """One line for the log."""
        averaged = f", averaged over {', '.join(self.test_views)}" if self.test_views else ""
        return f"{super().describe()}, {self.preprocessing.size} px{averaged}"


def views_of(kind: str, preprocessing: Preprocessing) -> list[Callable[[Tensor], Tensor]]:
    """The changes of a kind of views, each from ``[B, 3, H, W]`` to the same shape and memory format."""
    pixels = max(1, round(SHIFT * preprocessing.size))
    if kind == "flip":
        return [_flipped]
    if kind == "rotations":
        return [_affine(preprocessing, angle=angle) for angle in (-ROTATION, ROTATION)]
    if kind == "zooms":
        return [_affine(preprocessing, scale=scale) for scale in (1 - ZOOM, 1 + ZOOM)]
    if kind == "shifts":
        return [_affine(preprocessing, nearest=True, translate=[x, y]) for x, y in ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels))]
    raise ValueError(f"unknown kind of test views: {kind!r}")


def _flipped(images: Tensor) -> Tensor:
    return images.flip(-1)


def _affine(preprocessing: Preprocessing, *, nearest: bool = False, **changes: object) -> Callable[[Tensor], Tensor]:
    """Rotation, zoom or shift about the centre."""
    black = [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]

    def change(images: Tensor) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode, functional

        interpolation = InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR
        return functional.affine(images, **{**_STILL, **changes}, interpolation=interpolation, fill=black)

    return change
