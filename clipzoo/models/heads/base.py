"""Base class of all heads: modules created for two widths, either at once or when the model knows them."""

from __future__ import annotations

from torch import Tensor, nn

from clipzoo.config.arguments import Count, checked
from clipzoo.errors import BuildError, ConfigError


@checked
class Head(nn.Module):
    """Maps features ``[N, in_features]`` to ``[N, out_features]``.

    A config need not give the widths: they are determined by the tower and the model, which calls ``connect``; the layers are created then.
    A subclass sets its own arguments, calls ``super().__init__``, and implements ``make_layers``.

    Args:
        in_features: Input width; ``None`` leaves it to the model.
        out_features: Output width; ``None`` leaves it to the model.
    """

    def __init__(self, in_features: Count | None = None, out_features: Count | None = None):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.layers: nn.Module | None = None
        if in_features is not None and out_features is not None:
            self.layers = self.make_layers(in_features, out_features)

    def make_layers(self, in_features: int, out_features: int) -> nn.Module:
        """Create the initialised layers between the two widths."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'make_layers'")

    def connect(self, in_features: int, out_features: int) -> Head:
        """Create the layers for these widths, if they do not exist yet; returns the head itself.

        Raises:
            ConfigError: The head was created for other widths.
        """
        for argument, wanted in (("in_features", in_features), ("out_features", out_features)):
            own = getattr(self, argument)
            if own not in (None, wanted):
                raise ConfigError(f"{type(self).__name__}: {argument}={own}, but the model requires {wanted}. Remove it")
        self.in_features, self.out_features = in_features, out_features
        if self.layers is None:
            self.layers = self.make_layers(in_features, out_features)
        return self

    def refuses_start(self) -> str:
        """Why this head does not support ``start_from``, and what to choose instead; empty if it does."""
        return f"{type(self).__name__} has no weights for texts. Choose CosineHead, or LinearHead with normalize=True"

    def start_from(self, prototypes_CD: Tensor, logit_scale: float) -> None:
        """Initialise the weights such that the head's logits are those of zero-shot classification: cosines divided by the temperature.

        Args:
            prototypes_CD: ``[out_features, in_features]`` rows of unit length, one direction per class.
            logit_scale: Log of 1 / temperature; see ``Tower.logit_scale``.

        Raises:
            BuildError: The head does not support it; see ``refuses_start``.
        """
        raise BuildError(self.refuses_start())

    def after_step(self) -> None:
        """Clamp parameters to their valid range in place; called after every optimizer step."""

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in_features]`` to ``[N, out_features]``."""
        assert self.layers is not None, "a head without widths must be connected by its model before use"
        return self.layers(features)


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights are initialised with standard deviation ``in_features ** -0.5``, and whose bias is 0."""
    made = nn.Linear(in_features, out_features, bias=bias)
    nn.init.normal_(made.weight, std=in_features**-0.5)
    if bias:
        nn.init.zeros_(made.bias)
    return made
