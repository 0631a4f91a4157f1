"""What holds for any module: its parameters in words, and its mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def describe_parameters(module: nn.Module) -> str:
    """``'11.18 M parameters trained, 0 frozen'``: the trained and frozen parameters of a module in words.

    Modules with ``num_idle`` hold that many further ones, which get no gradient (``LiveEmbedding``): ``', 25.2 M of unused tokens'``.
    """
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    tables = [part for part in module.modules() if hasattr(part, "num_idle")]
    idle = sum(table.num_idle for table in tables)
    frozen = sum(p.numel() for p in module.parameters()) - trained - len(tables)  # the factor of the idle weights is none of the network
    unused = f", {_millions(idle)} of unused tokens" if idle else ""
    return f"{_millions(trained)} parameters trained, {_millions(frozen)} frozen{unused}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10_000 else str(count)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, and restore the mode of every submodule afterwards. No effect if it is already in this mode."""
    learning = [module for module in model.modules() if module.training]
    if learning:
        model.eval()
    try:
        yield
    finally:
        for module in learning:
            module.training = True
