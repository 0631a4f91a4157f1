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

    def adopted(self, content: dict, net: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        """A checkpoint as if it had been written with these rows in use: other captions were in use, or the whole table was trained.

        Rows that were in use keep their moments; those that were not have the moments of idle rows. What was in use and no longer is
        becomes idle, as nothing will train it any more.

        Args:
            content: Content of a latest checkpoint.
            net: The model.
            optimizer: Its optimizer.
        """
        state, rows = content.get("live"), self.table.rows.cpu()
        if state is not None and torch.equal(state["rows"].cpu(), rows):
            return content
        name = next(f"{prefix}.weight" for prefix, module in net.named_modules() if module is self.table)
        table, average = content.get("raw_model", content["model"])[name], content["model"][name]
        earlier = torch.arange(len(table)) if state is None else state["rows"].cpu()
        idle = torch.ones(len(table), dtype=torch.bool).index_fill_(0, rows if state is None else earlier, False)
        index = next(i for i, one in enumerate(p for group in optimizer.param_groups for p in group["params"]) if one is self.table.weight)
        moments = content["optimizer"]["state"].get(index, {})
        if state is None:
            momentum, share = (_multiple(value, table, idle) for value in (moments.get("momentum_buffer"), average))
        else:
            momentum, share = state["momentum"] / state["factor"], state.get("averaged", state["factor"]) / state["factor"]
        place = torch.full((len(table),), -1).index_copy_(0, earlier, torch.arange(len(earlier)))[rows]
        known = (place >= 0)[:, None]

        def of_these(key: str, value: object) -> object:
            if not isinstance(value, torch.Tensor) or value.ndim < 2:
                return value
            others = momentum * table[rows] if key == "momentum_buffer" else torch.zeros_like(table[rows])
            return torch.where(known, value[place.clamp(min=0)], others.to(value.dtype))

        own = {key: of_these(key, value) for key, value in moments.items()}
        live = {"rows": rows, "origin": table.index_fill(0, rows, 0.0), "factor": 1.0, "momentum": momentum, "averaged": share}
        changed = {**content["optimizer"]["state"], **({index: own} if moments else {})}
        return {**content, "optimizer": {**content["optimizer"], "state": changed}, "live": live}

    def load_state_dict(self, state: dict | None, averaged: nn.Module | None) -> None:
        """Restore ``state_dict``, after the weights were loaded.

        Raises:
            ValueError: It does not belong to these rows.
        """
        if state is None or not torch.equal(state["rows"].to(self.table.rows), self.table.rows):
            raise ValueError("train.live_vocabulary: the rows of the token table in use are others")
        for table, factor in ((self.table, state["factor"]), *(() if averaged is None else ((_table_of(averaged), state["averaged"]),))):
            table.restart(table.origin if state["origin"] is None else state["origin"], factor)
        self.momentum.fill_(state["momentum"])


def _multiple(value: torch.Tensor | None, table: torch.Tensor, idle: torch.Tensor) -> float:
    """The factor between the idle rows of ``value`` and of ``table``, of which the former are a multiple."""
    if value is None:
        return 0.0
    a, b = value[idle].double(), table[idle].double()
    square = (b * b).sum()
    return float((a * b).sum() / square) if square > 0 else 1.0


def _table_of(net: nn.Module) -> LiveEmbedding:
    return next(module for module in net.modules() if isinstance(module, LiveEmbedding))
