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

    Raises:
        ConfigError: An argument is negative, or ``lr`` is 0.
    """

    def __init__(self, lr: float, weight_decay: float):
        check_argument(self, "lr", lr, lr > 0, "greater than 0")
        check_argument(self, "weight_decay", weight_decay, weight_decay >= 0, "0 or greater")
        self.lr = lr
        self.weight_decay = weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Make torch's optimizer of the trainable parameters of ``model``, fused where their device supports it.

        Call it once the model is on its device, with its towers frozen as they shall be.

        Raises:
            BuildError: No parameter is trainable.
        """
        groups = parameter_groups(model, self.lr, self.weight_decay)
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

    Raises:
        ConfigError: An argument is out of its range.

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), through ``torch.optim.AdamW``.
    """

    def __init__(self, lr: float = 1e-4, weight_decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        super().__init__(lr, weight_decay)
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

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 1e-4, nesterov: bool = False):
        super().__init__(lr, weight_decay)
        check_argument(self, "momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        check_argument(self, "momentum", momentum, momentum > 0 or not nesterov, "greater than 0 where nesterov=True")
        self.momentum = momentum
        self.nesterov = nesterov

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """See the base class."""
        from torch.optim import SGD

        return SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused)
