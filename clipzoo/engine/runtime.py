"""The machine: device, precision, seeds, threads, the log, and what to write down about all of it."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import random
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.logging import RichHandler

from clipzoo.errors import BuildError, DataError
from clipzoo.settings import RuntimeSettings
from clipzoo.text import visible

if TYPE_CHECKING:
    from clipzoo.models.base import Model

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``'auto'`` takes CUDA, then MPS, then the CPU.

    Raises:
        BuildError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    here = [f"{k}:{i}" if k == "cuda" else k for k, n in present.items() for i in range(n)]
    known = {kind for kind, n in present.items() if n} | {f"{kind}:{i}" for kind, n in present.items() for i in range(n)}
    if name not in known:
        raise BuildError(f"runtime.device: there is no '{name}' on this machine. Here: {', '.join(here)}; or 'auto'")
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


def choose_autocast(precision: str, device: torch.device, net: Model) -> torch.dtype | None:
    """The autocast dtype, or ``None`` for fp32.

    ``'auto'`` takes bf16 on GPUs that compute in it and fp16 on older ones, bf16 on a CPU that gains from it (``gains_from_amx``), and fp32
    elsewhere.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cpu":
        return torch.bfloat16 if gains_from_amx(net) else None
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def gains_from_amx(net: Model) -> bool:
    """Does ``net`` train faster in bf16 on this processor? Where it has AMX tiles, unless images are tiny or convolutions are grouped.

    Measured on two cores, bf16 over fp32: ResNet-18 2.5 times as fast at 224 px, 1.5 times at 64 px, 0.95 times at 32 px; ViT-B 2.1 times;
    but EfficientNet-B0 0.74 and StarNet-S1 0.11 times, whose depthwise convolutions have no fast bf16 kernel.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()  # get_capabilities() is missing in the oldest torch supported
    is_grouped = any(getattr(module, "groups", 1) > 1 for module in net.modules())
    return has_amx and net.preprocessing.size >= 64 and not is_grouped


def apply(settings: RuntimeSettings, device: torch.device) -> None:
    """Set the process-wide switches of torch that ``runtime`` names, and the allocator's where ``device`` is the CPU."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.backends.cudnn.benchmark = not settings.deterministic
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what names no device means this one: generators, pinned memory, collectives
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next step, as torch does on GPUs; the process then stays as large as its largest step.

    By default glibc maps every large tensor anew and returns it when freed, and the kernel has to clear each of its pages at the first
    touch: a fifth of a training step at 224 px. Elsewhere than in glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def derived_seed(seed: int, name: str) -> int:
    """A seed of its own for everything called ``name``, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict:
    """The state of every generator that a run on ``device`` draws from, as plain types and tensors; a run may go on on another GPU."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def set_rng_state(state: dict, device: torch.device) -> None:
    """Restore what ``rng_state`` returned."""
    version_, internal, gauss_next = state["python"]
    random.setstate((version_, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"].cpu())


def environment() -> dict:
    """Versions, machine and commit, for ``config.json``."""
    packages = ["torch", "torchvision", "timm", "open_clip_torch", "transformers", "tokenizers", "numpy", "pillow", "scikit-learn"]
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.version.cuda if devices else None,
        "devices": devices,
        "packages": versions,
        "git_commit": git_commit(Path(__file__).resolve().parents[1]),
    }


def git_commit(package: Path) -> str | None:
    """The commit of the checkout whose top level holds and tracks ``package``, with ``+changes`` where tracked files differ from it.

    ``None`` for an installed package, also where its site-packages lie inside some other repository.
    """
    code = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    top = _git(package, "rev-parse", "--show-toplevel")
    if code is None or top is None or Path(top).resolve() != package.resolve().parent:
        return None
    commit = _git(package, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(package, "status", "--porcelain", "--untracked-files=no", ":/")
    return f"{commit}+changes" if commit and changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, run in ``folder``; ``None`` where it is not there or refuses."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's would name another repository
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def make_console(quiet: bool = False) -> Console:
    """Where people read: standard error, so that standard output stays free for results."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


def make_log(console: Console, file: Path | None) -> logging.Logger:
    """A logger of its own for one run: to the console and, with times, to ``file``. No logger of another run hears it.

    Raises:
        DataError: ``file`` cannot be written.
    """
    log = logging.Logger("clipzoo", level=logging.INFO)
    log.addHandler(_console_handler(console))
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{file}: cannot be written ({error.strerror or error}). Choose another folder with --work-dir") from error
        handler.setFormatter(_OneLine("%(asctime)s %(levelname).1s %(message)s"))
        log.addHandler(handler)
    return log


class _OneLine(logging.Formatter):
    """A record is one line, whatever the names in it hold: none can act on a terminal, or look like a record of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))


def _console_handler(console: Console) -> logging.Handler:
    if console.quiet:
        return logging.NullHandler()
    if console.is_terminal:  # above the progress bar
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False, markup=False, highlighter=None)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    return handler


def close_log(log: logging.Logger) -> None:
    """Close the files of ``make_log``."""
    for handler in list(log.handlers):
        handler.close()
        log.removeHandler(handler)
