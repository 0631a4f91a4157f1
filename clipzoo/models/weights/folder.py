"""Writing a file or folder of weights whole or not at all, and never over another."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from clipzoo.errors import DataError
from clipzoo.files import write_atomically


def check_new(path: Path) -> None:
    """Refuse to write over what is there; an empty folder is as good as none.

    Raises:
        DataError: There is something.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise DataError(f"{path}: exists already, and nothing is overwritten. Choose another path, or delete it")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` if all goes well, and vanishes if not.

    Raises:
        DataError: The folder is there already, or cannot be written.
    """
    check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}). Choose another folder") from error
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.is_dir():  # empty; not every system renames over a folder
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}). Is the disk full?") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a ``.safetensors`` file in fp32, atomically; tensors that share memory are copied.

    Raises:
        DataError: It cannot be written.
    """
    own = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    write_atomically(path, lambda temporary: save_file(own, temporary, metadata={"format": "pt", **(metadata or {})}))


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
