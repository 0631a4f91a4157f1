"""The device, the precision, and the process-wide switches of torch and the C library."""

from __future__ import annotations

import ctypes
import platform
from typing import TYPE_CHECKING

import torch

from clipzoo.config.settings import RuntimeSettings
from clipzoo.errors import BuildError
from clipzoo.runtime.jobs import shares

if TYPE_CHECKING:
    from clipzoo.models.base import Model

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``'auto'`` prefers CUDA, then MPS, then the CPU.

    Raises:
        BuildError: This machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    present = {
        "cpu": 1,
        "cuda": num_gpus(),
        "mps": int(torch.backends.mps.is_available()),
    }
    available = [f"{k}:{i}" if k == "cuda" else k for k, n in present.items() for i in range(n)]
    names = {kind for kind, n in present.items() if n} | {f"{kind}:{i}" for kind, n in present.items() for i in range(n)}
    if name not in names:
        raise BuildError(f"runtime.device: no device '{name}' on this machine. Available: {', '.join(available)}; or 'auto'")
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


def choose_autocast(precision: str, device: torch.device, net: Model) -> torch.dtype | None:
    """The autocast dtype, or ``None`` for fp32.

    ``'auto'`` means bf16 on GPUs that support it and fp16 on older ones, bf16 on a CPU that gains from it (``gains_from_amx``), and fp32
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
    """Whether ``net`` trains faster in bf16 on this processor: if it has AMX tiles, images are not tiny and no convolution is grouped.

    Measured on two cores, bf16 over fp32: ResNet-18 2.5 times as fast at 224 px, 1.5 times at 64 px, 0.95 times at 32 px; ViT-B 2.1 times;
    but EfficientNet-B0 0.74 times and StarNet-S1 0.11 times, as depthwise convolutions have no fast bf16 kernel.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()  # get_capabilities() is missing in the oldest torch supported
    is_grouped = any(getattr(module, "groups", 1) > 1 for module in net.modules())
    return has_amx and net.preprocessing.size >= 64 and not is_grouped


def gpus_for(name: str) -> list[str]:
    """Names of the GPUs among which processes with the device ``name`` can be divided; empty if it is a CPU, or one GPU for all."""
    return shares.visible_gpus(num_gpus()) if choose_device(name).type == "cuda" and ":" not in name else []


def num_gpus() -> int:
    """Number of GPUs that this process sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def apply(settings: RuntimeSettings, device: torch.device) -> None:
    """Apply the process-wide settings of ``runtime`` to torch and, if ``device`` is the CPU, to the memory allocator."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.backends.cudnn.benchmark = not settings.deterministic
    if settings.deterministic != torch.are_deterministic_algorithms_enabled():  # to call it loads torch's compiler
        torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the default for generators, pinned memory and collectives
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step, as torch does on GPUs; the process then stays as large as its largest step.

    By default glibc maps every large tensor anew and unmaps it when freed, and the kernel has to clear each of its pages at the first
    touch: a fifth of a training step at 224 px. Does nothing with other C libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def release_memory() -> None:
    """Give freed memory back to the system, and to other processes on a GPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
