"""State dicts: compared with what a tower has, and loaded into it strictly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError, shortened


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not numbers, which would answer every question with the first class.

    Raises:
        BuildError: With the tensor's name.
    """
    problem = not_finite(state)
    if problem:
        raise BuildError(f"{where}: {problem}. The training that made them diverged, or the file is damaged: take other weights")


def not_finite(state: Mapping[str, Tensor]) -> str:
    """Which tensors hold NaN or infinity, in words; empty for none. The masks of attention, which hold minus infinity, are left out."""
    bad = [key for key, value in state.items() if not (_is_mask(key) or _finite(value))]
    if not bad:
        return ""
    value = state[bad[0]]
    count = int((~torch.isfinite(value)).sum())
    more = f"; {len(bad) - 1} more tensors likewise" if len(bad) > 1 else ""
    return f"{count} of {value.numel()} numbers of {bad[0]} are NaN or infinite{more}"


def _finite(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex()) or bool(torch.isfinite(value).all())


def _is_mask(key: str) -> bool:
    return key.rpartition(".")[2] == "attn_mask"


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state`` into ``module``; nothing is left out silently.

    Raises:
        BuildError: Keys are missing, unexpected or of another shape; they are listed. The module is unchanged then.
    """
    problems = differences(shapes_of(state), shapes_of(module.state_dict()))
    if problems:
        raise BuildError(f"{where}: the weights do not fit. {problems}")
    module.load_state_dict(dict(state))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a state dict."""
    return {key: tuple(value.shape) for key, value in state.items()}


def differences(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """What is missing, unexpected or of another shape, in words; empty where all fits."""
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
    """The state dict on the CPU, in fp32, apart from the module's own memory."""
    state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    return {name: value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True) for name, value in state.items()}
