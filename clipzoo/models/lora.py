"""Low-rank adapters for the layers of a tower: the weights are frozen, and a product of two thin matrices is learned.

Shapes: r rank · I inputs · O outputs of a layer.

Layers that are called as modules (linear layers and convolutions) get peft's own adapters. An attention layer may read the weights of its
projections without calling them, as ``nn.MultiheadAttention`` does: an adapter there would never run. ``ReadWeights`` adapts such weights
from outside. Calling the tower once determines which is the case.

Not adapted: grouped and depthwise convolutions, whose weights have no two sides that a low rank could save on; subclasses that change
the computation of a linear layer or convolution; embeddings; norms and biases.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clipzoo.config.annotations import FieldsOf
from clipzoo.config.arguments import Positive, Share, Width, checked
from clipzoo.errors import BuildError

if TYPE_CHECKING:
    from clipzoo.models.tower import Tower

_ADAPTER = re.compile(r"(^|\.)lora_[AB]\.")


@checked
@dataclass(frozen=True)
class LoRA:
    """Settings of the adapters: the argument ``lora`` of a tower.

    Attributes:
        rank: Rank of every adapter, r.
        alpha: Numerator of the scale ``alpha / rank`` of the adapters' outputs.
        dropout: Dropout on the inputs of adapters of called layers, in [0, 1). No effect on weights that are only read.

    Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1. There only a transformer's attention weights are adapted, here every linear
    layer and every full convolution.
    """

    rank: Width = 8
    alpha: Positive = 16.0
    dropout: Share = 0.0


Adapters = Annotated[dict, FieldsOf(LoRA)]


class ReadWeights(nn.Module):
    """Adapts weights that ``base_layer`` and its submodules read, and passes everything else through.

    Args:
        base_layer: Module to adapt.
        names: Names of matrices ``[O, I]`` among its parameters.
        settings: Rank and alpha of the adapters.
    """

    def __init__(self, base_layer: nn.Module, names: list[str], settings: LoRA):
        super().__init__()
        self.base_layer = base_layer
        self.names = list(names)
        self.scaling = settings.alpha / settings.rank
        self.lora_A, self.lora_B = nn.ParameterList(), nn.ParameterList()
        for name in self.names:
            weight = base_layer.get_parameter(name)
            outputs, inputs = weight.shape
            self.lora_A.append(nn.Parameter(weight.new_empty(settings.rank, inputs)))
            self.lora_B.append(nn.Parameter(weight.new_zeros(outputs, settings.rank)))
            nn.init.kaiming_uniform_(self.lora_A[-1], a=math.sqrt(5))  # as in peft

    def forward(self, *inputs: object, **named: object) -> object:
        """The result of ``base_layer`` with the adapted weights."""
        return functional_call(self.base_layer, self.adapted(), inputs, named)

    def adapted(self) -> dict[str, Tensor]:
        """The adapted weights by name, ``W + alpha / r B A``, in the precision of W."""
        pairs = zip(self.names, self.lora_A, self.lora_B, strict=True)
        weights = {name: (self.base_layer.get_parameter(name), a, b) for name, a, b in pairs}
        with torch.autocast(next(iter(self.lora_A)).device.type, enabled=False):
            return {name: weight + self.scaling * (b_Or @ a_rI) for name, (weight, a_rI, b_Or) in weights.items()}

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """``base_layer``, with the adapters permanently added to its weights."""
        for name, weight in self.adapted().items():
            self.base_layer.get_parameter(name).copy_(weight)
        return self.base_layer

    def __getattr__(self, name: str) -> object:
        """Any attribute of the layer, such as its number of heads."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)


def add_adapters(tower: Tower, values: dict) -> None:
    """Add adapters to all suitable layers of ``tower`` in place; features do not change, since B is initialised to zero.

    Args:
        tower: Tower with loaded weights; it is called once.
        values: Dict with ``rank``, ``alpha`` and ``dropout``.

    Raises:
        ConfigError: ``values`` are malformed.
        BuildError: peft is not installed, or no layer is suitable.
    """
    where = type(tower).__name__
    settings = LoRA(**values)
    if importlib.util.find_spec("peft") is None:
        raise BuildError(f"{where}: lora requires the package peft. Run pip install peft, or remove lora")
    called = _called(tower)
    layers = [name for name in called if _fits(tower.get_submodule(name))]
    read = _read_weights(tower, called, set(layers))
    if not layers and not read:
        raise BuildError(f"{where}: lora: {tower.name} has no linear layer and no full convolution to adapt. Remove lora")
    if layers:
        from peft import LoraConfig, inject_adapter_in_model

        pattern = "|".join(map(re.escape, layers))  # a list would match name suffixes
        inject_adapter_in_model(
            LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=pattern), tower
        )
    for owner, names in read.items():
        place = _now(tower, owner)
        _replace(tower, place, ReadWeights(tower.get_submodule(place), names, settings))


def merge_adapters(tower: Tower) -> None:
    """Add every adapter to its weights and remove it; names and structure are then those of the plain tower."""
    from peft.tuners.lora import LoraLayer

    for name, module in _adapted(tower):
        if isinstance(module, LoraLayer):
            module.merge()
            _replace(tower, name, module.get_base_layer())
        else:
            _replace(tower, name, module.merged())
    vars(tower).pop("peft_config", None)


def is_adapter(name: str) -> bool:
    """Is this the name of an adapter's parameter, rather than of the network's own?

    >>> is_adapter('net.fc.lora_A.default.weight'), is_adapter('net.fc.base_layer.weight')
    (True, False)
    """
    return _ADAPTER.search(name) is not None


def adapter_words(tower: Tower) -> str:
    """Rank of the adapters and number of adapted weights, for the log."""
    weights = sum(is_adapter(name) and ".lora_A." in f".{name}" for name, _ in tower.named_parameters())
    return f"LoRA of rank {LoRA(**tower.lora).rank} on {weights} weights"


def _adapted(tower: nn.Module) -> list[tuple[str, nn.Module]]:
    """Adapted modules by name, innermost first: a module that reads weights may contain one that is called."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in tower.named_modules() if isinstance(module, (LoraLayer, ReadWeights))][::-1]


@torch.no_grad()
def _called(tower: Tower) -> list[str]:
    """Names of the modules that are called when the tower is called."""
    seen: set[nn.Module] = set()
    handles = [module.register_forward_pre_hook(lambda module, _: seen.add(module)) for module in tower.modules()]
    mode = tower.training
    tower.eval()
    try:
        if hasattr(tower, "tokenizer"):
            tower(tower.tokenizer(["a"]))
        else:
            tower(torch.zeros(1, 3, tower.preprocessing.size, tower.preprocessing.size))
    finally:
        for handle in handles:
            handle.remove()
        tower.train(mode)
    return [name for name, module in tower.named_modules() if name and module in seen]


def _fits(module: nn.Module) -> bool:
    """Does peft have an equivalent adapter for this layer? Exact classes only, as subclasses may pad, scale or standardise differently."""
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _read_weights(tower: nn.Module, called: list[str], layers: set[str]) -> dict[str, list[str]]:
    """Matrices that a module reads without calling their owner: innermost called module → names in it."""
    read: dict[str, list[str]] = {}
    for name in _projections(tower, set(called)):
        owner = name
        while owner and owner not in called:
            owner = owner.rpartition(".")[0]
        if owner and owner not in layers:
            read.setdefault(owner, []).append(name[len(owner) + 1 :])
    return read


def _projections(tower: nn.Module, called: set[str]) -> Iterator[str]:
    """Names of the weights of linear layers that are not called, and of the packed weights of attention layers."""
    for prefix, module in tower.named_modules():
        if isinstance(module, nn.Linear) and prefix not in called:
            yield f"{prefix}.weight"
        if isinstance(getattr(module, "in_proj_weight", None), nn.Parameter):
            yield f"{prefix}.in_proj_weight"


def _now(tower: nn.Module, name: str) -> str:
    """The current name of a module, after adapters have been put around some of its parents."""
    place = ""
    for part in name.split("."):
        module = tower.get_submodule(place)
        if part not in module._modules and "base_layer" in module._modules:
            place = f"{place}.base_layer"
        place = f"{place}.{part}" if place else part
    return place


def _replace(tower: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(tower.get_submodule(parent), last, module)
