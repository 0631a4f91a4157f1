"""Atomic writing of weight files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from clipzoo.files import write_atomically


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a ``.safetensors`` file in fp32, atomically; tensors that share memory are copied.

    Raises:
        DataError: The file cannot be written.
    """
    own = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    write_atomically(path, lambda temporary: save_file(own, temporary, metadata={"format": "pt", **(metadata or {})}))
