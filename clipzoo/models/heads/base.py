"""What every head is: a module that is made for two widths, at once or when the model knows them."""

from __future__ import annotations

from torch import Tensor, nn

from clipzoo.errors import ConfigError
from clipzoo.models.base import check_positive


class Head(nn.Module):
    """Maps features ``[N, in_features]`` to ``[N, out_features]``.

    A config need not say the widths: they belong to the tower and to the model, which calls ``connect``. The layers are made there.
    A subclass sets its own arguments, calls ``super().__init__``, and writes ``make_layers``.

    Args:
        in_features: Width of what comes in; ``None`` leaves it to the model.
        out_features: Width of what goes out; ``None`` leaves it to the model.
    """

    def __init__(self, in_features: int | None = None, out_features: int | None = None):
        super().__init__()
        check_positive(type(self).__name__, in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.layers: nn.Module | None = None
        if in_features is not None and out_features is not None:
            self.layers = self.make_layers(in_features, out_features)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """The layers between the two widths, initialised."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'make_layers'")

    def connect(self, in_features: int, out_features: int) -> Head:
        """Make the layers for these widths, unless they are there; returns the head itself.

        Raises:
            ConfigError: The head was made for other widths.
        """
        for argument, wanted in (("in_features", in_features), ("out_features", out_features)):
            own = getattr(self, argument)
            if own not in (None, wanted):
                raise ConfigError(f"{type(self).__name__}: {argument}={own}, but the model needs {wanted}. Leave it out")
        self.in_features, self.out_features = in_features, out_features
        if self.layers is None:
            self.layers = self.make_layers(in_features, out_features)
        return self

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in_features]`` to ``[N, out_features]``."""
        assert self.layers is not None, "a head without widths is connected by its model before it is used"
        return self.layers(features)
