"""What every model and every tower is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor, nn

from clipzoo.errors import BuildError, ConfigError, did_you_mean, shortened
from clipzoo.structures import Batch, ClassCaptions, Preprocessing, Tokenizer, Tokens


class Model(nn.Module):
    """Base of all models. The engine knows nothing else about a model.

    Attributes:
        preprocessing: How the image tower wants its images.
        tokenizer: Of the text tower; ``None`` for a model without one.
    """

    preprocessing: Preprocessing
    tokenizer: Tokenizer | None = None

    @property
    def captions(self) -> Literal["batch", "all"]:
        """Which captions a training batch must hold: those drawn for its cases, or all captions of the dataset."""
        return "batch"

    def forward(self, batch: Batch, feature_gradients: tuple[Tensor, ...] | None = None) -> dict[str, Tensor]:
        """Named losses of a batch, each a differentiable scalar; the training loss is their sum.

        Entries whose names begin with ``in_batch_`` are measures of the batch: they are reported, and no part of the loss.

        Args:
            batch: The cases and their captions.
            feature_gradients: Only for ``train.cached_features``, and only from models with ``encode`` and ``contrast``: the gradient of
                the loss with respect to each of the features that ``encode`` returns. The result is then the sum of their products.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    def predict(self, batch: Batch, classes: object | None = None) -> Tensor:
        """``[B, C]`` fp32 logits, with the temperature applied.

        Args:
            batch: Only ``images`` is read.
            classes: What ``encode_classes`` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'predict'")

    def encode_classes(self, captions: ClassCaptions) -> object | None:
        """What stands for the classes in ``predict``; made once per evaluation, never per batch. ``None`` where nothing is needed."""
        return None

    def prepare(self, captions: Tokens) -> None:
        """Called once before training with the whole caption table, on the CPU; what stays the same all run long is computed here."""

    def checkpoint_gradients(self) -> None:
        """From now on keep only the activations between blocks, and compute the others again in the backward pass.

        Raises:
            BuildError: The model cannot.
        """
        raise BuildError(f"train.gradient_checkpointing: {type(self).__name__} cannot compute activations again. Leave it out")

    def after_step(self) -> None:
        """Called after every optimizer step, to put parameters back into their range in place."""

    def describe(self) -> list[str]:
        """Lines for the log: the towers, where their weights come from, and how many parameters are trained."""
        return [f"model {type(self).__name__}: {parameter_words(self)}"]


class Tower(nn.Module):
    """An encoder of images or of text, with its weights' origin, its depth groups and its freezing.

    A frozen tower has ``requires_grad`` off *and* stays in evaluation mode whatever ``train()`` says: neither dropout nor
    the running statistics of batch norm move. The last line of a subclass constructor is ``self.apply_freeze()``.

    Args:
        freeze: ``'none'`` trains everything, ``'all'`` nothing.

    Attributes:
        name: What the log calls it.
        num_features: Width of its features.
        projected: The features lie in a joint image-text space already, as those of published CLIP towers do.
        weights: Where its weights come from, in words.
        space: Which joint space its weights were trained for, the same words for both towers of one model; ``None`` where its weights are
            random or were trained without another tower. Known to the tower that loaded them, and not kept in a checkpoint.
        logit_scale: Log of 1 / temperature, and
        logit_bias: bias of the logits that its weights were trained with; ``None`` where they say none.
        quick_gelu: Which activation a CLIP transformer has; ``None`` for other networks.

    Raises:
        ConfigError: ``freeze`` is none of the two.
    """

    name: str
    num_features: int
    projected: bool = False
    weights: str = "random"
    space: str | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    quick_gelu: bool | None = None

    def __init__(self, freeze: Literal["none", "all"] = "none"):
        super().__init__()
        check_choice(type(self).__name__, "freeze", freeze, ("none", "all"))
        self.freeze = freeze

    @property
    def frozen(self) -> bool:
        """Nothing in this tower is trained."""
        return self.freeze == "all"

    def apply_freeze(self) -> None:
        """Put ``freeze`` into effect on the parameters made so far."""
        if self.frozen:
            self.requires_grad_(False)
            self.train(False)

    def train(self, mode: bool = True) -> Tower:
        """As ``nn.Module.train``, except that a frozen tower stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def depth_groups(self) -> list[list[str]]:
        """Parameter names from the stem to the last block; every parameter is in exactly one group."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'depth_groups'")

    def blueprint(self) -> dict:
        """Constructor arguments, of plain types, that make this architecture again when they are laid over those it was made with.

        Nothing is downloaded or read from a file then. A checkpoint keeps it, beside the weights, which replace those of the new tower.
        """
        return {"pretrained": False} if "pretrained" in inspect.signature(type(self)).parameters else {}

    def checkpoint_gradients(self) -> None:
        """From now on keep only the activations between blocks, and compute the others again in the backward pass.

        Raises:
            BuildError: This tower cannot.
        """
        raise BuildError(f"train.gradient_checkpointing: {type(self).__name__} cannot compute activations again. Leave it out")

    def describe(self) -> str:
        """One line for the log."""
        kind = type(self).__name__
        name = kind if self.name == kind else f"{kind} {self.name}"
        return f"{name}: {self.num_features} features, weights {self.weights}, {parameter_words(self)}"


def check_choice(where: str, argument: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is not one of ``allowed``.

    Raises:
        ConfigError: With the closest allowed value and the list of them.
    """
    if value not in allowed or isinstance(value, bool):
        hint = did_you_mean(str(value), [str(a) for a in allowed])
        raise ConfigError(f"{where}: {argument}={value!r} is not possible.{hint} Allowed: {shortened(map(repr, allowed), 12)}")


def check_positive(where: str, **values: float | None) -> None:
    """Refuse numbers that are not positive; ``None`` passes.

    Raises:
        ConfigError: With the first of them.
    """
    for argument, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{where}: {argument}={value!r} must be greater than 0")


def check_share(where: str, **values: float) -> None:
    """Refuse numbers outside [0, 1).

    Raises:
        ConfigError: With the first of them.
    """
    for argument, value in values.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{where}: {argument}={value!r} must lie in [0, 1)")


def groups_by_layer(names: Iterable[str], layer: str, stem: str) -> list[list[str]]:
    """Sort parameter names into the stem, one group per numbered layer, and whatever follows, which joins the last layer.

    Args:
        names: Parameter names.
        layer: Regular expression whose first group is the layer's number.
        stem: Regular expression of the names before the first layer.
    """
    groups: dict[int, list[str]] = {}
    rest: list[str] = []
    for name in names:
        found = re.search(layer, name)
        if found:
            groups.setdefault(int(found.group(1)), []).append(name)
        elif re.search(stem, name):
            groups.setdefault(-1, []).append(name)
        else:
            rest.append(name)
    ordered = [groups[key] for key in sorted(groups)]
    return [*ordered[:-1], ordered[-1] + rest] if ordered else [rest]


def parameter_words(module: nn.Module) -> str:
    """``'11.18 M parameters trained, 0 frozen'``: how many numbers of a module are trained."""
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in module.parameters()) - trained
    return f"{_millions(trained)} parameters trained, {_millions(frozen)} frozen"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10_000 else str(count)
