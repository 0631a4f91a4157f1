"""Base class of all image towers."""

from __future__ import annotations

from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.models.base import Tower, full_name
from clipzoo.structures import Preprocessing


class Backbone(Tower):
    """Base class of all image towers.

    Attributes:
        preprocessing: Image size, mean, standard deviation and interpolation that the weights expect.
    """

    preprocessing: Preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` float images, normalised by ``preprocessing``, to ``[B, num_features]``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """For export: copies of the tower's tensors under open_clip's names without prefix, and further fields of ``CLIPWeights``.

        Raises:
            BuildError: The CLIPs of other libraries have no equivalent image tower.
        """
        raise BuildError(f"{where}: cannot export {full_name(self)}, as other libraries' CLIPs have no such image tower. Use CLIPVision")

    def describe(self) -> str:
        """One line for the log."""
        return f"{super().describe()}, {self.preprocessing.size} px"
