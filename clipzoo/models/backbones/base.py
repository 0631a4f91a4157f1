"""What every image tower is."""

from __future__ import annotations

from torch import Tensor

from clipzoo.models.base import Tower
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

    def describe(self) -> str:
        """One line for the log."""
        return f"{super().describe()}, {self.preprocessing.size} px"
