"""What every image tower is."""

from __future__ import annotations

from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.models.base import Tower, full_name
from clipzoo.structures import Preprocessing


class Backbone(Tower):
    """Base of all image towers.

    Attributes:
        preprocessing: Size, mean, standard deviation and interpolation that its weights were made for.
    """

    preprocessing: Preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` float images, normalised as ``preprocessing`` says, to ``[B, num_features]``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """For export: copies of its tensors with open_clip's names, without their prefix, and further fields of ``CLIPWeights``.

        Raises:
            BuildError: Other libraries' CLIPs have no such image tower.
        """
        raise BuildError(f"{where}: the image tower is {full_name(self)}, which other libraries' CLIPs have not. CLIPVision is needed")

    def describe(self) -> str:
        """One line for the log."""
        return f"{super().describe()}, {self.preprocessing.size} px"
