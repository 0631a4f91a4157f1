"""Comparison of state dicts with a tower, and strict loading."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError, shortened


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN or infinite weights, which would silently predict the first class for every input.

    Raises:
        BuildError: A tensor is not finite; the message names it.
    """
    problem = not_finite(state)
    if problem:
        raise BuildError(f"{where}: {problem}. The training diverged, or the file is damaged: use other weights")


def not_finite(state: Mapping[str, Tensor]) -> str:
    """The tensors with NaN or infinity, in words; empty if none exist. Attention masks, which contain minus infinity, are ignored."""
    bad = [key for key, value in state.items() if not (_is_mask(key) or _finite(value))]
    if not bad:
        return ""
    value = state[bad[0]]
    count = int((~torch.isfinite(value)).sum())
    more = f"; {len(bad) - 1} more such tensors" if len(bad) > 1 else ""
    return f"{count} of {value.numel()} numbers of {bad[0]} are NaN or infinite{more}"


def _finite(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex()) or bool(torch.isfinite(value).all())


def _is_mask(key: str) -> bool:
    return key.rpartition(".")[2] == "attn_mask"


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state`` into ``module``; no tensor is skipped silently.

    Raises:
        BuildError: Keys are missing, unexpected or of another shape; the message lists them. The module is then unchanged.
    """
    problems = differences(shapes_of(state), shapes_of(module.state_dict()))
    if problems:
        raise BuildError(f"{where}: the weights do not fit. {problems}")
    module.load_state_dict(dict(state))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a state dict."""
    return {key: tuple(value.shape) for key, value in state.items()}


def differences(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Missing, unexpected and mismatched keys, in words; empty if everything fits."""
    missing = sorted(wanted.keys() - shapes.keys())
    unexpected = sorted(shapes.keys() - wanted.keys())
    both = sorted(wanted.keys() & shapes.keys())
    mismatched = [f"{key} {list(shapes[key])} instead of {list(wanted[key])}" for key in both if shapes[key] != wanted[key]]
    problems = [
        f"{len(keys)} {words}: {shortened(keys, 4)}"
        for words, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
        if keys
    ]
    return "; ".join(problems)


def copied(module: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU, in fp32, in separate memory."""
    state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    return {name: value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True) for name, value in state.items()}
