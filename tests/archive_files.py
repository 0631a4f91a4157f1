"""Archives of torch, taken apart and put together again otherwise."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, parts: Iterable[tuple[str, bytes]], packed: bool = False) -> Path:
    """An archive with these entries, also where two have the same name."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        warnings.simplefilter("ignore")  # zipfile's own about equal names
        for name, content in parts:
            archive.writestr(name, content)
    return path


def save_script(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.script(module).save(str(path))
    return path


def flipped(path: Path, bit: int) -> bytes:
    """The file's content with one bit the other way round."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)
