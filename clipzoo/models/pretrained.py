"""Published weights: reading files safely, loading them strictly, and reaching the hub without waiting for minutes."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clipzoo.errors import BuildError, shortened

# A hub that has not answered on its port by then is treated as absent; its own client would retry for 45 seconds.
_REACH_SECONDS = 3.0


@contextlib.contextmanager
def hub(where: str, what: str, local: str, scratch: str = "pretrained=False") -> Iterator[None]:
    """Run a download; files that are in the local cache are used where the hub cannot be reached.

    Args:
        where: Who wants the weights, first words of the message.
        what: Name of the weights on the hub.
        local: How the user gives local weights instead, as he would write it.
        scratch: How the user starts from random weights instead.

    Raises:
        BuildError: The download failed; one line with the three ways to go on.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    offline = constants.HF_HUB_OFFLINE
    reachable = not offline and _reachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = not reachable  # the client reads it at every request: with it, only the cache is looked at
    try:
        yield
    except (OSError, *HfHubHTTPError.__bases__) as error:  # its base is the error of whatever HTTP client the hub's version uses
        if not reachable:
            reason = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached"
            problem = f"{reason}, and the weights are not in the local cache"
        else:
            problem = first_line(error)
        raise BuildError(three_ways(where, what, problem, local, scratch)) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def three_ways(where: str, what: str, problem: str, local: str, scratch: str) -> str:
    """The message for weights that are not there: the problem in one line, then the three ways to get them."""
    return (
        f"{where}: cannot load the weights of '{what}' ({problem}). Three ways: connect to the hub (or to a mirror: set HF_ENDPOINT); "
        f"give a local copy, {local}; or start from random weights, {scratch}"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else type(error).__name__).rstrip(".")


def _reachable(endpoint: str) -> bool:
    """Does the hub's port answer? Behind a proxy this cannot be asked, and the answer is yes."""
    url = urllib.parse.urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    if not url.hostname or url.scheme in proxies or "all" in proxies:
        return True
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout=_REACH_SECONDS).close()
        except OSError:
            return
        answers.append(True)

    # In a thread, because looking up a host's name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS + 1)
    return bool(answers)


def read_state_dict(path: str | Path, where: str) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file or of a torch file that holds a state dict, plain or under ``state_dict`` or ``model``.

    Floating-point tensors become fp32 (OpenAI's are fp16), and the prefix ``module.`` of DistributedDataParallel is removed.

    Raises:
        BuildError: There is no such file, it is not such a file, or it holds more than tensors and plain types.
    """
    path = weights_file(path, where)
    if is_script(path):
        raise BuildError(f"{where}: {path} is a TorchScript archive, not a state dict. Save its state_dict() as .safetensors first")
    return tensors(read_file(path, where), f"{where}: {path}")


def weights_file(path: str | Path, where: str) -> Path:
    """The path with ``~`` resolved.

    Raises:
        BuildError: There is no such file.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise BuildError(f"{where}: no weights file {path}. Give a .safetensors, .pt or .pth file, pretrained=True or pretrained=False")
    return path


def read_file(path: Path, where: str) -> object:
    """What a ``.safetensors`` or a torch file holds; code in it is never run.

    Raises:
        BuildError: It cannot be read, or holds more than tensors and plain types.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with open(path, "rb") as file:
            if file.read(1) not in (b"P", b"\x80"):  # a zip archive, or a pickle
                raise KeyError(path.suffix)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds Python objects besides tensors, whose code is not run" if "nsupported" in str(error) else first_line(error)
        raise BuildError(f"{where}: {path} cannot be read as weights ({reason})") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = "it is neither safetensors nor a torch file" if isinstance(error, KeyError) else first_line(error)
        raise BuildError(f"{where}: {path} cannot be read as weights ({reason})") from error


def tensors(content: object, where: str) -> dict[str, Tensor]:
    """The tensors of a state dict, plain or under ``state_dict`` or ``model``, in fp32 and without the prefix ``module.``.

    Raises:
        BuildError: There is no state dict.
    """
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise BuildError(f"{where} holds no state dict of tensors")
    found = {str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}
    return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def is_script(path: Path) -> bool:
    """Is the file a TorchScript archive?"""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") or "/code/" in name for name in archive.namelist())


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
