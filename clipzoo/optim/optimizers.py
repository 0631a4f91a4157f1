"""Optimizers as a config describes them; ``build`` makes torch's own once there is a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.optim.argument import check_argument
from clipzoo.optim.parameter_groups import parameter_groups
from clipzoo.registries import OPTIMIZERS

if TYPE_CHECKING:
    import torch
    from torch import nn

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


class Optimizer:
    """Base of all optimizers; a subclass writes ``make``.

    Args:
        lr: Learning rate at a schedule factor of 1.
        weight_decay: Of the parameters that are decayed; ``parameter_groups`` says which.
        module_lr: Learning rates of parts of the model, by the beginning of their parameters' names: ``{'image_encoder': 1e-5}``. The
            longest that fits a parameter counts, and ``lr`` where none does.
        layer_decay: In (0, 1]. From each block of a tower to the one before it the rate is multiplied by this; ``None`` as 1.

    Raises:
        ConfigError: An argument is negative, or a rate is 0.
    """

    def __init__(self, lr: float, weight_decay: float, module_lr: dict[str, float] | None = None, layer_decay: float | None = None):
        check_argument(self, "lr", lr, lr > 0, "greater than 0")
        check_argument(self, "weight_decay", weight_decay, weight_decay >= 0, "0 or greater")
        for name, rate in (module_lr or {}).items():
            right = isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0
            check_argument(self, f"module_lr['{name}']", rate, right, "a number greater than 0")
        check_argument(self, "layer_decay", layer_decay, layer_decay is None or 0 < layer_decay <= 1, "in (0, 1], or None")
        self.lr = lr
        self.weight_decay = weight_decay
        self.module_lr = module_lr
        self.layer_decay = layer_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Make torch's optimizer of the trainable parameters of ``model``, fused where their device supports it.

        Call it once the model is on its device, with its towers frozen as they shall be.

        Raises:
            BuildError: No parameter is trainable, or ``module_lr`` or ``layer_decay`` does not fit the model.
        """
        groups = parameter_groups(model, self.lr, self.weight_decay, self.module_lr, self.layer_decay)
        devices = {parameter.device.type for group in groups for parameter in group["params"]}
        return self.make(groups, fused=devices <= FUSED_DEVICES)

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """Torch's optimizer of ``groups``, which hold their own ``lr`` and ``weight_decay``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'make'")


@OPTIMIZERS.register_module()
class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Args:
        lr: Learning rate at a schedule factor of 1.
        weight_decay: Decay per step is ``lr * weight_decay``; of the parameters that are decayed only.
        betas: Decay rates of the averages of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second average.
        module_lr: Learning rates of parts of the model, as ``{'image_encoder': 1e-5, 'head': 5e-4}``; see ``Optimizer``.
        layer_decay: Factor of the learning rate from each block of a tower to the one before it, in (0, 1]; ``None`` as 1.

    Raises:
        ConfigError: An argument is out of its range.

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), through ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        module_lr: dict[str, float] | None = None,
        layer_decay: float | None = None,
    ):
        super().__init__(lr, weight_decay, module_lr, layer_decay)
        check_argument(self, "betas", betas, len(betas) == 2 and all(0 <= beta < 1 for beta in betas), "two numbers in [0, 1)")
        check_argument(self, "eps", eps, eps > 0, "greater than 0")
        self.betas = tuple(betas)
        self.eps = eps

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """See the base class."""
        from torch.optim import AdamW

        return AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)


@OPTIMIZERS.register_module()
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient.

    Args:
        lr: Learning rate at a schedule factor of 1.
        momentum: Share of the last step that goes into the next, in [0, 1).
        weight_decay: Of the parameters that are decayed only.
        nesterov: Look ahead by the momentum; needs a momentum.
        module_lr: Learning rates of parts of the model, as ``{'image_encoder': 1e-5, 'head': 5e-4}``; see ``Optimizer``.
        layer_decay: Factor of the learning rate from each block of a tower to the one before it, in (0, 1]; ``None`` as 1.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        nesterov: bool = False,
        module_lr: dict[str, float] | None = None,
        layer_decay: float | None = None,
    ):
        super().__init__(lr, weight_decay, module_lr, layer_decay)
        check_argument(self, "momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        check_argument(self, "momentum", momentum, momentum > 0 or not nesterov, "greater than 0 where nesterov=True")
        self.momentum = momentum
        self.nesterov = nesterov

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """See the base class."""
        from torch.optim import SGD

        shared = any(hasattr(parameter, "full_tensor") for group in groups for parameter in group["params"])
        fused = fused and not shared  # torch's fused SGD takes no parameters that processes share; its AdamW does
        return SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused)
