"""What every model and every tower is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from clipzoo.config.arguments import Whole, checked
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.lora import Adapters, adapter_words, add_adapters, is_adapter, merge_adapters
from clipzoo.structures import Batch, ClassCaptions, Preprocessing, Tokenizer, Tokens


class Model(nn.Module):
    """Base of all models. The engine knows nothing else about a model.

    Attributes:
        preprocessing: How the image tower wants its images.
        tokenizer: Of the text tower; ``None`` for a model without one.
        takes_features: It has an ``image_encoder``, and understands ``Batch.features``: see ``tower_features``.

    ``encode_image``, ``encode_captions``, ``encode`` and ``contrast`` are optional; ``lacks`` says which of them a model does not have.

    A constructor argument ``num_classes`` is filled in with the dataset's number of classes; a config does not say it.
    """

    preprocessing: Preprocessing
    tokenizer: Tokenizer | None = None
    takes_features: ClassVar[bool] = False

    @property
    def captions(self) -> Literal["batch", "all", "none"]:
        """Which captions a training batch must hold: those drawn for its cases, all captions of the dataset, or none."""
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

    def encode_image(self, images: Tensor | None, features: Tensor | None = None) -> Tensor:
        """Optional: ``[B, D]`` features of images, of length 1; arguments as for ``tower_features``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'encode_image'")

    def encode_captions(self, tokens: Tokens, ids: Tensor | None = None) -> Tensor:
        """Optional: ``[N, D]`` features of captions, of length 1, in the space of ``encode_image``.

        Args:
            tokens: A table of captions.
            ids: ``[N]`` int64 rows of it; ``None`` for all.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'encode_captions'")

    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """Optional, for ``train.cached_features``: the features of a batch that the loss compares."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'encode'")

    def contrast(self, *features: object) -> dict[str, Tensor]:
        """Optional, for ``train.cached_features``: the named losses of what ``encode`` returned for several batches."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'contrast'")

    def lacks(self, *methods: str) -> list[str]:
        """Those of the optional methods that this model does not have."""
        return [name for name in methods if getattr(type(self), name) is getattr(Model, name)]

    @property
    def image_tower(self) -> Tower | None:
        """The module ``image_encoder``; ``None`` for a model without one."""
        return self._modules.get("image_encoder")

    @property
    def criterion(self) -> nn.Module | None:
        """The module ``loss``, for messages about it; ``None`` for a model that computes its loss by itself."""
        return self._modules.get("loss")

    @property
    def log_temperature(self) -> Tensor | None:
        """Scalar: the negative of the parameter or buffer ``logit_scale``, by whose exponential similarities are multiplied."""
        scale = getattr(self, "logit_scale", None)
        return None if scale is None else -scale.detach()

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

    def initialise(self, classes: ClassCaptions | None, class_counts: Tensor) -> None:
        """Called once for a new run, on its device, before ``prepare`` and the optimizer: what the model takes from the data.

        Not called where weights come from a checkpoint, so what is set here must be among them.

        Args:
            classes: The captions that stand for the classes; ``None`` where the model has no tokenizer, or the data no classes.
            class_counts: ``[C]`` int64 cases of each class in the training part of this fold.
        """

    def prepare(self, captions: Tokens) -> None:
        """Called once before training with the whole caption table, on the CPU; what stays the same all run long is computed here.

        Never called where a trained model is used: no method but this one and ``initialise`` may change what a model holds.
        """

    def tower_features(self, images: Tensor | None, features: Tensor | None = None) -> Tensor:
        """``[B, num_features]``: what ``image_encoder`` makes of images, or has made of them already, for models that have one.

        Outside of training a frozen tower works in full precision, also under autocast, as it did for the features that are kept: whoever
        evaluates a model gets the same numbers.

        Args:
            images: ``[B, 3, H, W]``; not read where ``features`` are given.
            features: ``[B, num_features]``, if they are known already.
        """
        if features is not None:
            return features
        with torch.autocast(images.device.type, enabled=False) if self.image_encoder.frozen and not self.training else nullcontext():
            return self.image_encoder(images)

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


def in_full(values: Tensor) -> Tensor:
    """The same in fp32 at least; fp64 stays fp64."""
    return values if values.dtype == torch.float64 else values.float()


@checked
class Tower(nn.Module):
    """An encoder of images or of text, with its weights' origin, its depth groups and its freezing.

    What is frozen has ``requires_grad`` off *and* stays in evaluation mode whatever ``train()`` says: in a block none of whose parameters
    learn, neither dropout nor the running statistics of batch norm move. The last line of a subclass constructor is
    ``self.apply_freeze()``.

    Args:
        freeze: ``'none'`` trains everything, ``'all'`` nothing.
        unfreeze_blocks: Only the last so many depth groups learn, whatever ``freeze`` says: 0 for none, ``depth`` for all. ``None`` leaves
            it to ``freeze``.
        lora: ``rank``, ``alpha`` and ``dropout`` of adapters beside the layers of the whole tower, see ``LoRA`` in
            ``clipzoo/models/lora.py``; the tower's own weights are frozen, but for the last ``unfreeze_blocks``. ``None`` for no adapters.

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
        ConfigError: ``freeze`` is none of the two, there are fewer blocks than ``unfreeze_blocks``, or ``lora`` is malformed.
        BuildError: ``lora`` without the package peft, or of a tower that no adapter fits.
    """

    name: str
    num_features: int
    projected: bool = False
    weights: str = "random"
    space: str | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    quick_gelu: bool | None = None

    def __init__(self, freeze: Literal["none", "all"] = "none", unfreeze_blocks: Whole | None = None, lora: Adapters | None = None):
        super().__init__()
        kind = type(self).__name__
        if lora is not None and freeze == "all":
            raise ConfigError(f"{kind}: freeze='all' trains nothing, and lora trains adapters. Leave freeze out: lora freezes the weights")
        self.freeze = freeze
        self.unfreeze_blocks = unfreeze_blocks
        self.lora = lora
        self._fixed: frozenset[str] = frozenset()  # parameters that the network itself never trains

    @property
    def first_blocks(self) -> int | None:
        """How many of its last depth groups learn by its arguments; ``None`` for everything."""
        if self.unfreeze_blocks is not None:
            return self.unfreeze_blocks
        return 0 if self.freeze == "all" or self.lora is not None else None

    @property
    def frozen(self) -> bool:
        """Nothing in this tower learns."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    @property
    def depth(self) -> int:
        """Number of depth groups: the stem and the blocks."""
        return len(self.depth_groups())

    def apply_freeze(self) -> None:
        """Put ``freeze``, ``unfreeze_blocks`` and ``lora`` into effect on the parameters made so far."""
        fixed = {id(parameter) for parameter in self.parameters() if not parameter.requires_grad}
        if self.lora is not None:
            add_adapters(self, self.lora)
        self._fixed = frozenset(name for name, parameter in self.named_parameters() if id(parameter) in fixed)
        if self.first_blocks is not None:
            self.unfreeze(self.first_blocks)

    def unfreeze(self, blocks: int | None) -> None:
        """Let the last ``blocks`` depth groups learn and no others; adapters always learn. ``train()`` afterwards puts modes right.

        Args:
            blocks: 0 for none, ``None`` for all.

        Raises:
            ConfigError: There are fewer, or this tower does not know its depth groups.
        """
        learning = None if blocks is None else set(self._last_groups(blocks))
        adapters = self.adapter_names()
        for name, parameter in self.named_parameters():
            chosen = learning is None or name in learning or name in adapters
            parameter.requires_grad_(chosen and name not in self._fixed)
        self.train(self.training)

    def adapter_names(self) -> frozenset[str]:
        """Names of the parameters that ``lora`` added."""
        if self.lora is None:
            return frozenset()
        return frozenset(name for name, _ in self.named_parameters() if is_adapter(name))

    def merge_lora(self) -> None:
        """Fold the adapters into the weights: from then on this is the plain tower, with its names and the same features up to rounding."""
        if self.lora is not None:
            merge_adapters(self)
            self.lora = None

    def train(self, mode: bool = True) -> Tower:
        """As ``nn.Module.train``, except that whatever is frozen stays in evaluation mode."""
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
            raise ConfigError(f"{kind}: unfreeze_blocks={blocks}, but {kind} has no method 'depth_groups'. Write one, or use freeze")
        groups = self.depth_groups()
        if blocks > len(groups):
            raise ConfigError(
                f"{kind}: unfreeze_blocks={blocks} is beyond its depth: {self.name} has {len(groups)} blocks, the stem included"
            )
        return [name for group in groups[-blocks:] for name in group]

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
        return f"{name}: {self.num_features} features, weights {self.weights}, {parameter_words(self)}{self._freezing_words()}"

    def learning_words(self) -> str:
        """How many of the depth groups learn, by their own weights: ``'last 2 of 9 blocks learn'``."""
        adapters = self.adapter_names()
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad} - adapters
        learning = [not trained.isdisjoint(group) for group in self.depth_groups()]
        if not any(learning):
            return f"none of {len(learning)} blocks learns"
        first = learning.index(True)
        return f"all {len(learning)} blocks learn" if first == 0 else f"last {len(learning) - first} of {len(learning)} blocks learn"

    def _freezing_words(self) -> str:
        """Which part learns, where it is neither everything nor nothing."""
        partly = not self.frozen and not all(parameter.requires_grad for parameter in self.parameters())
        words = f", {self.learning_words()}" if partly and type(self).depth_groups is not Tower.depth_groups else ""
        if self.lora is not None:
            words += f", {adapter_words(self)}"
        return words


def _rest(module: nn.Module) -> None:
    """Put every part of ``module`` whose parameters are all frozen into evaluation mode, with all that is in it.

    A part without parameters, such as a dropout, follows the part that it stands in.
    """
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
    else:
        for child in module.children():
            _rest(child)


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


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and afterwards every part of it as it was. A model that is in this mode already is not touched."""
    learning = [module for module in model.modules() if module.training]
    if not learning:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        for module in learning:
            module.training = True


def full_name(tower: Tower) -> str:
    """Its class, and what the log calls it, where that is something else."""
    name = type(tower).__name__
    return name if tower.name == name else f"{name} {tower.name}"
