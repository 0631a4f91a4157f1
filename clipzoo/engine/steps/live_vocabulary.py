"""The live vocabulary: of the token table, a step computes only the rows that the run's captions use (``train.live_vocabulary``).

A data set of classes uses about a hundred of 49 408 rows. The others have no gradient, so all that training does to them is to multiply
them by a factor (weight decay), which is followed here. ``LiveEmbedding`` holds the rows; every checkpoint has the whole table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.models.text_encoders.live_embedding import LiveEmbedding
from clipzoo.optim import Optimizer

if TYPE_CHECKING:
    from torch import nn

    from clipzoo.models.base import Model
    from clipzoo.structures import Tokens


def live_table(net: Model, tokens: Tokens | None, optimizer: Optimizer) -> LiveEmbedding | None:
    """Let ``net`` train only the rows of its token table that ``tokens`` use; ``None`` if that is not possible or not worth while.

    Call it before ``net`` is copied or wrapped, and before its optimizer is built.
    """
    tower = net.text_tower
    if tokens is None or not isinstance(tower, TextEncoder) or next(net.parameters()).device.type == "mps":  # it has no fp64
        return None
    if not optimizer.follows_idle or optimizer.idle_step(torch.ones(()), torch.zeros(()), 1.0, 0.0) is None:
        return None
    return tower.live_tokens(tokens.distinct())


class LiveVocabulary:
    """Follows what the steps of ``optimizer`` do to the idle rows of a token table.

    Args:
        table: The table, of which ``optimizer`` trains the rows in use.
        kind: Description of ``optimizer``.
        optimizer: The optimizer.

    Attributes:
        momentum: Scalar in fp64: the momentum buffer of the idle rows, as multiples of ``table.origin``.
    """

    def __init__(self, table: LiveEmbedding, kind: Optimizer, optimizer: torch.optim.Optimizer):
        self.table, self.kind = table, kind
        self.momentum = torch.zeros_like(table.factor)
        holds = [any(one is table.weight for one in group["params"]) for group in optimizer.param_groups]
        self.group = holds.index(True)  # a number: loading a state replaces the groups
        optimizer.register_step_post_hook(self._follow)

    def __str__(self) -> str:
        return f"{len(self.table.rows)} of {len(self.table.origin)} rows"

    def _follow(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if self.table.weight.grad is None:  # not trained at this stage of train.unfreeze: not decayed either
            return
        before = self.table.factor.detach(), self.momentum
        group = optimizer.param_groups[self.group]
        after = self.kind.idle_step(*before, group["lr"], group["weight_decay"])
        skipped = getattr(optimizer, "found_inf", None)  # of the fp16 scaler, if the fused optimizer itself skips the step
        for old, new in zip(before, after, strict=True):
            old.copy_(new if skipped is None else torch.where(skipped.bool(), old, new))

    def state_dict(self, averaged: nn.Module | None) -> dict:
        """What the whole table in a checkpoint does not tell: the table before training, if it was changed since, and the factors.

        Args:
            averaged: The model with the averaged weights, if any.
        """
        factors = {"factor": self.table.factor.item(), "momentum": self.momentum.item()}
        if averaged is not None:
            factors["averaged"] = _table_of(averaged).factor.item()
        is_changed = any(value != 1.0 for name, value in factors.items() if name != "momentum")
        origin = self.table.origin.index_fill(0, self.table.rows, 0.0) if is_changed else None
        return {"rows": self.table.rows, "origin": origin, **factors}

    def load_state_dict(self, state: dict | None, averaged: nn.Module | None) -> None:
        """Restore ``state_dict``, after the weights were loaded.

        Raises:
            ValueError: The checkpoint was written with other rows in use.
        """
        if state is None or not torch.equal(state["rows"].to(self.table.rows), self.table.rows):
            raise ValueError("train.live_vocabulary: the rows of the token table in use are others")
        for table, factor in ((self.table, state["factor"]), *(() if averaged is None else ((_table_of(averaged), state["averaged"]),))):
            table.restart(table.origin if state["origin"] is None else state["origin"], factor)
        self.momentum.fill_(state["momentum"])


def _table_of(net: nn.Module) -> LiveEmbedding:
    return next(module for module in net.modules() if isinstance(module, LiveEmbedding))
