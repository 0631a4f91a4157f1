"""A token table of which only the rows are trained that a run's captions use.

Shapes: V vocabulary · R rows in use · N sentences · L tokens · D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LiveEmbedding(nn.Module):
    """Looks tokens up like the ``nn.Embedding`` that it replaces, but its parameter holds the rows in use only.

    The gradient of every other row, called idle, is 0 at every step, so an optimizer multiplies all of them by the same factor. They are
    kept as one table that is never written, and that factor. The state dict has the whole table, under the same name as before.

    Args:
        table: The whole table.
        ids: ``[R]`` int64 distinct tokens in ascending order; the rows in use.

    Attributes:
        weight: ``[R, D]`` rows in use.
        factor: Scalar in fp64, at first 1: by what the idle rows were multiplied since ``table``. A parameter without gradient, so that a
            moving average of the parameters averages it too, and thereby the idle rows.
        origin: ``[V, D]`` the table before training; shared with copies of the module.
        rows: ``[R]`` int64 rows in use.
    """

    def __init__(self, table: nn.Embedding, ids: Tensor):
        super().__init__()
        self.padding_idx = table.padding_idx
        origin = table.weight.detach()
        self._kept = _Kept(origin, ids.to(origin.device), self.padding_idx)
        self.weight = nn.Parameter(origin[self.rows], requires_grad=table.weight.requires_grad)
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64, device=origin.device), requires_grad=False)

    @staticmethod
    def supports(table: nn.Embedding) -> bool:
        """Whether a token's row depends on that row of the table only."""
        return type(table) is nn.Embedding and table.max_norm is None and not (table.sparse or table.scale_grad_by_freq)

    @property
    def origin(self) -> Tensor:
        """See the class."""
        return self._kept.origin

    @property
    def rows(self) -> Tensor:
        """See the class."""
        return self._kept.rows

    @property
    def num_idle(self) -> int:
        """Number of weights that are not held in ``weight``."""
        return self.origin.numel() - self.weight.numel()

    def forward(self, ids: Tensor) -> Tensor:
        """``[N, L]`` tokens to ``[N, L, D]``; in training all of them must be in use.

        Raises:
            IndexError: In training on the CPU, a token is not in use. (On a GPU, an assertion of the kernel fails.)
        """
        places_NL = self._kept.places_V[ids]
        if self.training:
            return F.embedding(places_NL, self.weight, self._kept.padding_place)
        idle_NLD = self._idle(self.origin[ids])
        return torch.where((places_NL < 0)[..., None], idle_NLD, F.embedding(places_NL.clamp(min=0), self.weight))

    def full(self) -> Tensor:
        """``[V, D]`` the whole table as it is now, without gradient."""
        return self._idle(self.origin).index_copy_(0, self.rows, self.weight.detach())

    def restart(self, origin: Tensor, factor: float) -> None:
        """Continue an earlier training: with its table before training, and its factor."""
        self._kept = _Kept(origin.to(self.origin), self.rows, self.padding_idx)
        self.factor.fill_(factor)

    def _idle(self, values: Tensor) -> Tensor:
        return values * self.factor.detach().to(values.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LiveEmbedding:
        super()._apply(fn, recurse)
        origin = fn(self.origin)
        self._kept = _Kept(origin, self.rows.to(origin.device), self.padding_idx)
        return self

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.full()

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs) -> None:  # noqa: PLR0913
        table = state_dict.get(f"{prefix}weight")
        if table is None:
            missing_keys.append(f"{prefix}weight")
        elif table.shape != self.origin.shape:
            error_msgs.append(f"size mismatch for {prefix}weight: {tuple(table.shape)} instead of {tuple(self.origin.shape)}")
        else:
            with torch.no_grad():
                self.restart(table.detach().clone(), 1.0)
                self.weight.copy_(self.origin[self.rows])

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"{len(self.weight)} of {len(self.origin)} rows, {self.weight.shape[1]}"


class _Kept:
    """What a copy of the module shares with it: tensors that are never written, and where among ``rows`` the padding is."""

    def __init__(self, origin: Tensor, rows: Tensor, padding: int | None):
        self.origin, self.rows = origin, rows
        self.places_V = torch.full((len(origin),), -1, dtype=torch.int64, device=origin.device)
        self.places_V[rows] = torch.arange(len(rows), device=origin.device)
        place = -1 if padding is None else int(self.places_V[padding])  # once: it waits for the device, and breaks a compiled graph
        self.padding_place = None if place < 0 else place

    def __deepcopy__(self, memo: dict) -> _Kept:
        return self
