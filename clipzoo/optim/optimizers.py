"""Optimizers as described in a config; ``build`` creates torch's own for a model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from clipzoo.config.arguments import NotNegative, Positive, Share, checked
from clipzoo.errors import ConfigError
from clipzoo.optim.parameter_groups import parameter_groups
from clipzoo.registries import OPTIMIZERS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Methods that torch's optimizers wrap in ones which load the compiler.
_WRAPPED = ("step", "state_dict", "load_state_dict", "add_param_group", "zero_grad")
FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


@functools.cache
def without_compiler(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimizer, whose methods do not load torch's compiler, which only compiled optimizers need: a second or two at the start."""
    import torch

    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(methods["step"])
    methods["__reduce__"] = lambda optimizer: (_restored, (kind, optimizer.__getstate__()))  # pickle finds a class by its name
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _restored(kind: type[torch.optim.Optimizer], state: dict) -> torch.optim.Optimizer:
    made = without_compiler(kind).__new__(without_compiler(kind))
    made.__setstate__(state)
    return made


LayerDecay = Annotated[float, Interval(gt=0, le=1)]


@checked
class Optimizer:
    """Base class of all optimizers; subclasses implement ``make``.

    Args:
        lr: Learning rate at a schedule factor of 1.
        weight_decay: Weight decay of the decayed parameters; see ``parameter_groups``.
        module_lr: Learning rates of parts of the model, by prefix of their parameters' names: ``{'image_encoder': 1e-5}``. The longest
            matching prefix counts, otherwise ``lr``.
        layer_decay: Factor of the learning rate from each block of a tower to the one before it, in (0, 1]; ``None`` means 1.

    Raises:
        ConfigError: An argument is negative, or a learning rate is 0.
    """

    def __init__(
        self,
        lr: Positive,
        weight_decay: NotNegative,
        module_lr: dict[str, Positive] | None = None,
        layer_decay: LayerDecay | None = None,
    ):
        self.lr = lr
        self.weight_decay = weight_decay
        self.module_lr = module_lr
        self.layer_decay = layer_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Create torch's optimizer for the trainable parameters of ``model``, fused if their device supports it.

        Call this once the model is on its device and its towers are frozen as desired.

        Raises:
            BuildError: No parameter is trainable, or ``module_lr`` or ``layer_decay`` does not fit the model.
        """
        groups = parameter_groups(model, self.lr, self.weight_decay, self.module_lr, self.layer_decay)
        devices = {parameter.device.type for group in groups for parameter in group["params"]}
        return self.make(groups, fused=devices <= FUSED_DEVICES)

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """Torch's optimizer for ``groups``, which have their own ``lr`` and ``weight_decay``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'make'")

    def idle_step(self, factor: Tensor, momentum: Tensor, lr: float, weight_decay: float) -> tuple[Tensor, Tensor] | None:
        """What a step does to weights whose gradient is 0 at every step: it multiplies them by the same factor.

        Args:
            factor: Scalar; the weights before the step, as multiples of those before the first step.
            momentum: Scalar; their momentum buffer, likewise.
            lr: Learning rate of their group at this step.
            weight_decay: Weight decay of their group.

        Returns:
            Both after the step; ``None`` if this optimizer treats such weights in another way, or differently from each other.
        """
        return None

    @property
    def follows_idle(self) -> bool:
        """Whether ``idle_step`` describes what ``make`` makes: a subclass with another ``make`` needs an ``idle_step`` of its own."""
        own = (vars(kind) for kind in type(self).__mro__)
        return "idle_step" in next(names for names in own if names.keys() & {"build", "make", "idle_step"})


@OPTIMIZERS.register_module()
class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Args:
        lr: Learning rate at a schedule factor of 1.
        weight_decay: Weight decay of the decayed parameters; ``lr * weight_decay`` per step.
        betas: Decay rates of the averages of the gradient and of its square, in [0, 1).
        eps: Term added to the root of the second average.
        module_lr: Learning rates of parts of the model, as ``{'image_encoder': 1e-5, 'head': 5e-4}``; see ``Optimizer``.
        layer_decay: Factor of the learning rate from each block of a tower to the one before it, in (0, 1]; ``None`` means 1.

    Raises:
        ConfigError: An argument is out of its range.

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101); ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        lr: Positive = 1e-4,
        weight_decay: NotNegative = 0.01,
        betas: tuple[Share, Share] = (0.9, 0.999),
        eps: Positive = 1e-8,
        module_lr: dict[str, Positive] | None = None,
        layer_decay: LayerDecay | None = None,
    ):
        super().__init__(lr, weight_decay, module_lr, layer_decay)
        self.betas = tuple(betas)
        self.eps = eps

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """See the base class."""
        from torch.optim import AdamW

        return without_compiler(AdamW)(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)

    def idle_step(self, factor: Tensor, momentum: Tensor, lr: float, weight_decay: float) -> tuple[Tensor, Tensor]:
        """See the base class: both averages stay 0, and the decay is not part of the gradient."""
        return factor * (1 - lr * weight_decay), momentum


@OPTIMIZERS.register_module()
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient.

    Args:
        lr: Learning rate at a schedule factor of 1.
        momentum: Momentum, in [0, 1).
        weight_decay: Weight decay of the decayed parameters.
        nesterov: Whether to use Nesterov momentum; requires a momentum.
        module_lr: Learning rates of parts of the model, as ``{'image_encoder': 1e-5, 'head': 5e-4}``; see ``Optimizer``.
        layer_decay: Factor of the learning rate from each block of a tower to the one before it, in (0, 1]; ``None`` means 1.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        lr: Positive = 0.01,
        momentum: Share = 0.9,
        weight_decay: NotNegative = 1e-4,
        nesterov: bool = False,
        module_lr: dict[str, Positive] | None = None,
        layer_decay: LayerDecay | None = None,
    ):
        super().__init__(lr, weight_decay, module_lr, layer_decay)
        self.momentum = momentum
        self.nesterov = nesterov

    @staticmethod
    def check_together(where: str, arguments: Mapping[str, object]) -> None:
        """Nesterov momentum requires a momentum."""
        if arguments["nesterov"] and not arguments["momentum"]:
            raise ConfigError(f"{where}.momentum: {arguments['momentum']} is not a number above 0, as required by nesterov=True")

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """See the base class."""
        import torch
        from torch.optim import SGD

        shared = any(hasattr(parameter, "full_tensor") for group in groups for parameter in group["params"])
        fused = fused and not shared  # torch's fused SGD does not support sharded parameters; its AdamW does
        optimizer = without_compiler(SGD)(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused)
        if fused and self.momentum:  # which fails if some parameters get their first gradient later (train.unfreeze)
            for parameter in (parameter for group in groups for parameter in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer

    def idle_step(self, factor: Tensor, momentum: Tensor, lr: float, weight_decay: float) -> tuple[Tensor, Tensor]:
        """See the base class: the decay is the whole gradient."""
        gradient = weight_decay * factor
        momentum = self.momentum * momentum + gradient
        return factor - lr * (gradient + self.momentum * momentum if self.nesterov else momentum), momentum
