"""Towers: encoders of images or texts, with their depth groups, freezing and adapters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from clipzoo.config.arguments import Whole, checked
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.lora import Adapters, adapter_words, add_adapters, is_adapter, merge_adapters
from clipzoo.models.modules import describe_parameters


@checked
class Tower(nn.Module):
    """An image or text encoder, with the origin of its weights, its depth groups and its freezing.

    Frozen parameters have ``requires_grad`` off *and* their modules stay in evaluation mode regardless of ``train()``: in a block without
    trainable parameters, dropout is inactive and the running statistics of batch norm do not change. Subclass constructors must end with
    ``self.apply_freeze()``.

    Args:
        freeze: ``'none'`` trains the whole tower, ``'all'`` freezes it.
        unfreeze_blocks: Number of last depth groups that are trained, regardless of ``freeze``: 0 for none, ``depth`` for all. ``None``
            leaves the choice to ``freeze``.
        lora: Adapters for the layers of the whole tower: ``rank``, ``alpha`` and ``dropout``, see ``LoRA`` in
            ``clipzoo/models/lora.py``; the tower's own weights are frozen, except the last ``unfreeze_blocks``. ``None`` for no adapters.

    Attributes:
        name: Name in the log.
        num_features: Width of the features.
        projected: Whether the features are already in a joint image-text space, as those of published CLIP towers are.
        weights: Description of the origin of the weights.
        space: Joint space for which the weights were trained, equal for both towers of one model; ``None`` if they are random or were
            trained without another tower. Set by loading weights, and not stored in a checkpoint.
        logit_scale: Log of 1 / temperature that the weights were trained with; ``None`` if undefined.
        logit_bias: Bias of the logits that the weights were trained with; ``None`` if undefined.
        quick_gelu: Whether a CLIP transformer uses QuickGELU; ``None`` for other networks.
        test_views: Kinds of views of an image over which ``averaged`` averages; see ``evaluation.tta``.

    Raises:
        ConfigError: ``freeze`` is invalid, there are fewer blocks than ``unfreeze_blocks``, or ``lora`` is malformed.
        BuildError: ``lora`` is set without the package peft, or no adapter fits the tower.
    """

    name: str
    num_features: int
    projected: bool = False
    weights: str = "random"
    space: str | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    quick_gelu: bool | None = None
    test_views: tuple[str, ...] = ()

    def __init__(self, freeze: Literal["none", "all"] = "none", unfreeze_blocks: Whole | None = None, lora: Adapters | None = None):
        super().__init__()
        kind = type(self).__name__
        if lora is not None and freeze == "all":
            raise ConfigError(f"{kind}: freeze='all' conflicts with lora, which trains adapters. Remove freeze: lora freezes the weights")
        self.freeze = freeze
        self.unfreeze_blocks = unfreeze_blocks
        self.lora = lora
        self._fixed: frozenset[str] = frozenset()  # parameters that the network itself never trains

    @property
    def first_blocks(self) -> int | None:
        """The initial number of last depth groups that are trained; ``None`` for the whole tower."""
        if self.unfreeze_blocks is not None:
            return self.unfreeze_blocks
        return 0 if self.freeze == "all" or self.lora is not None else None

    @property
    def frozen(self) -> bool:
        """Whether nothing in this tower is trained."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    @property
    def depth(self) -> int:
        """Number of depth groups: the stem and the blocks."""
        return len(self.depth_groups())

    def apply_freeze(self) -> None:
        """Apply ``freeze``, ``unfreeze_blocks`` and ``lora`` to the existing parameters."""
        fixed = {id(parameter) for parameter in self.parameters() if not parameter.requires_grad}
        if self.lora is not None:
            add_adapters(self, self.lora)
        self._fixed = frozenset(name for name, parameter in self.named_parameters() if id(parameter) in fixed)
        if self.first_blocks is not None:
            self.unfreeze(self.first_blocks)

    def unfreeze(self, blocks: int | None) -> None:
        """Train only the last ``blocks`` depth groups; adapters are always trained. Call ``train()`` afterwards to update module modes.

        Args:
            blocks: Number of groups; 0 for none, ``None`` for all.

        Raises:
            ConfigError: There are fewer groups, or this tower does not define depth groups.
        """
        learning = None if blocks is None else set(self._last_groups(blocks))
        adapters = self.adapter_names()
        for name, parameter in self.named_parameters():
            chosen = learning is None or name in learning or name in adapters
            parameter.requires_grad_(chosen and name not in self._fixed)
        self.train(self.training)

    def adapter_names(self) -> frozenset[str]:
        """Names of the parameters added by ``lora``."""
        if self.lora is None:
            return frozenset()
        return frozenset(name for name, _ in self.named_parameters() if is_adapter(name))

    def merge_lora(self) -> None:
        """Merge the adapters into the weights; restores the plain tower's parameter names, with equal features up to rounding."""
        if self.lora is not None:
            merge_adapters(self)
            self.lora = None

    def train(self, mode: bool = True) -> Tower:
        """Like ``nn.Module.train``, except that frozen modules stay in evaluation mode."""
        super().train(mode)
        if mode:
            _rest(self)
        return self

    def depth_groups(self) -> list[list[str]]:
        """Parameter names from the stem to the last block; every parameter is in exactly one group."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'depth_groups'")

    def _last_groups(self, blocks: int) -> list[str]:
        """Parameter names of the last ``blocks`` depth groups."""
        if blocks == 0:
            return []
        kind = type(self).__name__
        if type(self).depth_groups is Tower.depth_groups:
            raise ConfigError(f"{kind}: unfreeze_blocks={blocks}, but {kind} has no method 'depth_groups'. Define one, or use freeze")
        groups = self.depth_groups()
        if blocks > len(groups):
            raise ConfigError(
                f"{kind}: unfreeze_blocks={blocks} exceeds its depth: {self.name} has {len(groups)} blocks, including the stem"
            )
        return [name for group in groups[-blocks:] for name in group]

    def blueprint(self) -> dict:
        """Constructor arguments, of plain types, that override the original ones to rebuild this architecture.

        With them nothing is downloaded or read from a file. Stored in checkpoints with the weights, which replace those of the new tower.
        """
        return {"pretrained": False} if "pretrained" in inspect.signature(type(self)).parameters else {}

    def averaged(self, inputs: Tensor) -> Tensor:
        """The features; those of a ``Backbone`` are averaged over ``test_views``."""
        return self(inputs)

    def checkpoint_gradients(self) -> None:
        """Keep only the activations between blocks from now on, and recompute the others in the backward pass.

        Raises:
            BuildError: The tower does not support it.
        """
        raise BuildError(f"train.gradient_checkpointing: {type(self).__name__} does not support gradient checkpointing. Remove this option")

    def describe(self) -> str:
        """One line for the log."""
        kind = type(self).__name__
        name = kind if self.name == kind else f"{kind} {self.name}"
        return f"{name}: {self.num_features} features, weights {self.weights}, {describe_parameters(self)}{self._describe_freezing()}"

    def describe_trainable(self) -> str:
        """The number of trained depth groups, without adapters, in words: ``'last 2 of 9 blocks learn'``."""
        adapters = self.adapter_names()
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad} - adapters
        learning = [not trained.isdisjoint(group) for group in self.depth_groups()]
        if not any(learning):
            return f"none of {len(learning)} blocks learns"
        first = learning.index(True)
        return f"all {len(learning)} blocks learn" if first == 0 else f"last {len(learning) - first} of {len(learning)} blocks learn"

    def _describe_freezing(self) -> str:
        """The trained part in words, if it is neither everything nor nothing."""
        partly = not self.frozen and not all(parameter.requires_grad for parameter in self.parameters())
        words = f", {self.describe_trainable()}" if partly and type(self).depth_groups is not Tower.depth_groups else ""
        if self.lora is not None:
            words += f", {adapter_words(self)}"
        return words


def _rest(module: nn.Module) -> None:
    """Put every submodule of ``module`` whose parameters are all frozen into evaluation mode, recursively.

    A submodule without parameters, such as a dropout, follows the module that contains it.
    """
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
    else:
        for child in module.children():
            _rest(child)


def groups_by_layer(names: Iterable[str], layer: str, stem: str) -> list[list[str]]:
    """Sort parameter names into the stem, one group per numbered layer, and the rest, which joins the last layer.

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


def full_name(tower: Tower) -> str:
    """The tower's class, followed by its name in the log if that differs."""
    return " ".join(dict.fromkeys((type(tower).__name__, tower.name)))
