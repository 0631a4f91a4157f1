"""Weight files: detecting their format, reading them without running code, and extracting their tensors."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from clipzoo.errors import BuildError, DataError, first_line
from clipzoo.files import check_regular, expanded
from clipzoo.models.layout.states import check_finite
from clipzoo.models.weights.torch_archive import is_script, verify_archive
from clipzoo.models.weights.torchscript import script_state

Kind = Literal["safetensors", "archive", "script", "pickle"]

_CONTAINERS = ("state_dict", "model", "model_state_dict")
_DEEPEST = 10  # nesting levels of containers
# Leading prefixes; and, inside names, what torch.compile adds for a part of a network, also around or inside DistributedDataParallel.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)(?:module\.)*_orig_mod\.(?:module\.|_orig_mod\.)*")


def read_state_dict(path: str | Path, where: str) -> dict[str, Tensor]:
    """The tensors of any weight file: ``tensors`` of the result of ``read_file``.

    Raises:
        BuildError: The file is missing or not a weight file, or contains anything besides tensors and plain types.
    """
    path = weights_file(path, where)
    return tensors(read_file(path, where), f"{where}: {path}")


def weights_file(path: str | Path, where: str) -> Path:
    """The path with ``~`` resolved.

    Raises:
        BuildError: The file is missing or not a regular file.
    """
    path = Path(expanded(path))
    if not path.exists():
        raise BuildError(f"{where}: no weights file {path}. Pass a .safetensors, .pt or .pth file, pretrained=True or pretrained=False")
    try:
        check_regular(path)
    except DataError as error:
        raise BuildError(f"{where}: {error}") from error
    return path


def kind_of_weights(path: str | Path) -> Kind | None:
    """The format of a file by its first bytes, whatever its name; ``None`` if it is not a readable weight file."""
    try:
        size = check_regular(path).st_size
        with open(path, "rb") as file:
            start = file.read(9)
    except (DataError, OSError):
        return None
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "script" if is_script(path) else "archive"
    return "pickle" if start.startswith(b"\x80") else None  # as torch wrote until version 1.5


def read_file(path: Path, where: str) -> object:
    """Read a weight file: safetensors, a torch file or a TorchScript archive, whatever its name. Code in it is never run.

    Raises:
        BuildError: The file is unreadable or damaged, or contains anything besides tensors and plain types.
    """
    kind = kind_of_weights(path)
    try:
        if kind == "safetensors":
            return load_file(path)
        if kind == "script":
            return script_state(path)
        if kind is None:
            raise ValueError("it is neither safetensors nor a torch file")
        if kind == "archive":
            verify_archive(path)
        with open(path, "rb") as file:  # given a path, torch decides by its extension
            return torch.load(file, map_location="cpu", weights_only=True)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BuildError(f"{where}: {path} cannot be read as weights ({reason})") from error
    except pickle.UnpicklingError as error:
        reason = "it contains Python objects besides tensors, whose code is not run" if "nsupported" in str(error) else first_line(error)
        raise BuildError(f"{where}: {path} cannot be read as weights ({reason})") from error
    except Exception as error:  # torch and safetensors raise many kinds of errors for a broken file
        raise BuildError(f"{where}: {path} cannot be read as weights ({first_line(error)})") from error


def tensors(content: object, where: str) -> dict[str, Tensor]:
    """The tensors of a state dict in fp32, under the network's own names.

    The state dict may be nested under ``state_dict``, ``model`` or ``model_state_dict``. The prefixes of DistributedDataParallel
    (``module.``) and ``torch.compile`` (``_orig_mod.``, which is in the middle of names if a part of a network is compiled) are removed.

    Raises:
        BuildError: There is no state dict, or more than one; two tensors have the same name without prefixes; or one is not finite.
    """
    states = _state_dicts(content)
    if len(states) != 1:
        raise BuildError(f"{where} contains {'several state dicts' if states else 'no state dict'} of tensors")
    found: dict[str, Tensor] = {}
    origin: dict[str, object] = {}
    for key, value in states[0].items():
        name = _WRAPPERS.sub("", str(key))
        if not isinstance(value, Tensor):
            continue
        if name in found:
            raise BuildError(f"{where}: the tensors {origin[name]} and {key} are both {name or 'nameless'} without their prefixes")
        found[name], origin[name] = value.float() if value.is_floating_point() else value, key
    check_finite(found, where)
    return found


def _state_dicts(content: object, depth: int = 0) -> list[Mapping]:
    """The state dicts in the containers; if none exist, the content itself if it has tensors."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return []
    inner = [state for key in _CONTAINERS for state in _state_dicts(content.get(key), depth + 1)]
    return inner or ([content] if any(isinstance(value, Tensor) for value in content.values()) else [])
