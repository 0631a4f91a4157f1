"""What every head is: a module that is made for two widths, at once or when the model knows them."""

from __future__ import annotations

from torch import Tensor, nn

from clipzoo.config.arguments import Count, checked
from clipzoo.errors import BuildError, ConfigError


@checked
class Head(nn.Module):
    """Maps features ``[N, in_features]`` to ``[N, out_features]``.

    A config need not say the widths: they belong to the tower and to the model, which calls ``connect``. The layers are made there.
    A subclass sets its own arguments, calls ``super().__init__``, and writes ``make_layers``.

    Args:
        in_features: Width of what comes in; ``None`` leaves it to the model.
        out_features: Width of what goes out; ``None`` leaves it to the model.
    """

    def __init__(self, in_features: Count | None = None, out_features: Count | None = None):
        super().__init__()
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

    def refuses_start(self) -> str:
        """Why ``start_from`` is not for this head, with what to choose; empty where it is."""
        return f"{type(self).__name__} has no weights that could be texts. Choose CosineHead, or LinearHead with normalize=True"

    def start_from(self, prototypes_CD: Tensor, logit_scale: float) -> None:
        """Set the weights so that the head's logits are those of zero-shot classification: the temperature times the cosines.

        Args:
            prototypes_CD: ``[out_features, in_features]`` rows of length 1, one direction per class.
            logit_scale: Log of 1 / temperature, as ``Tower.logit_scale``.

        Raises:
            BuildError: This head cannot; see ``refuses_start``.
        """
        raise BuildError(self.refuses_start())

    def after_step(self) -> None:
        """Called after every optimizer step, to put parameters back into their range in place."""

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in_features]`` to ``[N, out_features]``."""
        assert self.layers is not None, "a head without widths is connected by its model before it is used"
        return self.layers(features)


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """A linear map whose weights start with standard deviation ``in_features ** -0.5``, and whose bias starts at 0."""
    made = nn.Linear(in_features, out_features, bias=bias)
    nn.init.normal_(made.weight, std=in_features**-0.5)
    if bias:
        nn.init.zeros_(made.bias)
    return made
