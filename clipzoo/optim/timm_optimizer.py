"""Every optimizer of timm by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipzoo.config.arguments import NotNegative, Positive, collected
from clipzoo.errors import ConfigError, did_you_mean, first_line, shortened
from clipzoo.optim.optimizers import LayerDecay, Optimizer
from clipzoo.registries import OPTIMIZERS

if TYPE_CHECKING:
    import torch

_OURS = ("params", "lr", "weight_decay", "foreach", "self")


@OPTIMIZERS.register_module()
class TimmOptimizer(Optimizer):
    """An optimizer of timm: ``dict(type='timm', opt='lion', lr=1e-4, betas=(0.9, 0.99))``.

    Args:
        opt: timm's name: ``'lion'``, ``'lamb'``, ``'adopt'``, ``'muon'`` … ; ``timm.optim.list_optimizers()`` has all.
        lr: Learning rate at a schedule factor of 1.
        weight_decay: Weight decay of the decayed parameters.
        module_lr: Learning rates of parts of the model, as ``{'image_encoder': 1e-5, 'head': 5e-4}``; see ``Optimizer``.
        layer_decay: Factor of the learning rate from each block of a tower to the one before it, in (0, 1]; ``None`` means 1.
        arguments: Further arguments of that optimizer.

    Raises:
        ConfigError: timm has no such optimizer, or it refuses the arguments.

    Source: timm, https://huggingface.co/docs/timm/reference/optimizers.
    """

    def __init__(
        self,
        opt: str,
        lr: Positive = 1e-4,
        weight_decay: NotNegative = 0.01,
        module_lr: dict[str, Positive] | None = None,
        layer_decay: LayerDecay | None = None,
        **arguments: Any,
    ):
        super().__init__(lr, weight_decay, module_lr, layer_decay)
        self.opt = opt
        self.arguments = arguments

    @staticmethod
    def check_together(where: str, arguments: Mapping[str, object]) -> None:
        """timm must know the optimizer, and it the arguments."""
        import torch

        further = collected(TimmOptimizer.__init__, arguments)
        lr, weight_decay = arguments["lr"], arguments["weight_decay"]
        _made([torch.nn.Parameter(torch.zeros(2, 2))], arguments["opt"], further, lr=lr, weight_decay=weight_decay, where=where)

    def make(self, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
        """See the base class; ``fused`` has no effect."""
        return _made(groups, self.opt, self.arguments, lr=self.lr, weight_decay=self.weight_decay, where=type(self).__name__)


def _made(
    parameters: list, opt: object, arguments: Mapping[str, object], *, lr: float, weight_decay: float, where: str
) -> torch.optim.Optimizer:
    """Timm's optimizer.

    Raises:
        ConfigError: See ``TimmOptimizer``.
    """
    from timm import optim

    names = optim.list_optimizers()
    if opt not in names:
        hint = did_you_mean(str(opt), names)
        raise ConfigError(f"{where}.opt: timm has no optimizer {opt!r}.{hint} Known: {shortened(names, 12)}")
    if optim.get_optimizer_info(opt).second_order:
        raise ConfigError(f"{where}.opt: {opt} needs second derivatives, which the training loop does not compute. Choose another one")
    signature = inspect.signature(optim.get_optimizer_class(opt, bind_defaults=False)).parameters
    known = [key for key in signature if key not in _OURS]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(f"{where}.{unknown[0]}: {opt} has no argument '{unknown[0]}'.{hint} It has: {', '.join(known)}")
    try:
        return optim.create_optimizer_v2(parameters, opt, lr=lr, weight_decay=weight_decay, filter_bias_and_bn=False, **arguments)
    except Exception as error:  # of many kinds: a wrong value, or a package that is missing
        raise ConfigError(f"{where}.opt: timm cannot make {opt} with {dict(arguments)}: {first_line(error)}") from error


def spelled(text: str) -> dict | None:
    """``'timm'`` for ``TimmOptimizer``."""
    return {"type": "TimmOptimizer"} if text == "timm" else None
