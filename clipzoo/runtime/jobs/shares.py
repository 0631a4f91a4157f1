"""How many processes work side by side, and what each may use: threads, loader processes, a GPU. Imports no torch.

A share is passed on in the environment, never in the config: the files of a run record its config, and a fold that was trained beside
another must equal the same fold trained alone, byte for byte.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Number of processes that share this machine, for their loader processes.
SIDE_BY_SIDE = "CLIPZOO_JOBS"
THREADS, GPUS = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slot:
    """A place for one process at a time.

    Attributes:
        device: Device of its runs, as in ``runtime.device``.
        environment: Variables that its process gets on top of this one's.
    """

    device: str
    environment: dict[str, str] = field(default_factory=dict)


def cores() -> int:
    """Processor cores that this process may use: those of its affinity, and no more than its container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    return usable if quota is None else max(1, min(usable, quota))


def _quota(path: Path) -> int | None:
    """Cores of ``cpu.max``, such as ``'150000 100000'``: 2; ``None`` without a limit."""
    try:
        limit, period = path.read_text(encoding="ascii").split()
        return math.ceil(int(limit) / int(period))
    except (OSError, ValueError):
        return None


def num_jobs(wanted: int | Literal["auto"], num_runs: int, threads: int | None = None) -> int:
    """The number of processes: no more than there are runs.

    Args:
        wanted: The number asked for; ``'auto'`` for one per core, or one per ``threads`` cores.
        num_runs: Number of runs that could be made at the same time.
        threads: The setting ``runtime.threads``.
    """
    number = max(1, cores() // (threads or 1)) if wanted == "auto" else wanted
    return max(1, min(number, num_runs))


def slots(number: int, devices: Sequence[str], *, gpus: Sequence[str] = ()) -> list[Slot]:
    """The places of ``number`` processes on this machine; the devices take turns.

    Args:
        number: Number of processes.
        devices: Their devices, as in ``runtime.device``.
        gpus: Names of the GPUs, for ``CUDA_VISIBLE_DEVICES``, if each process with the device ``'auto'`` or ``'cuda'`` is to see one;
            empty if every process sees all.
    """
    made = []
    for index in range(number):
        environment = share(number)
        device = devices[index % len(devices)]
        if gpus and device in ("auto", "cuda"):
            environment[GPUS] = gpus[index % len(gpus)]
        made.append(Slot(device, environment))
    return made


def share(number: int) -> dict[str, str]:
    """The environment of one of ``number`` processes; a number of threads that the user has set (``OMP_NUM_THREADS``) stays."""
    if number == 1:
        return {}
    threads = os.environ.get(THREADS) or str(max(1, cores() // number))
    return {THREADS: threads, SIDE_BY_SIDE: str(number)}


def share_of_workers(number: int) -> int:
    """This process's share of ``number`` loader processes, at least one if there are any; results do not depend on it."""
    others = os.environ.get(SIDE_BY_SIDE, "")
    return math.ceil(number / int(others)) if others.isdecimal() and int(others) else number


def visible_gpus(count: int) -> list[str]:
    """Names of this process's ``count`` GPUs, for the ``CUDA_VISIBLE_DEVICES`` of another process."""
    listed = [name.strip() for name in os.environ.get(GPUS, "").split(",") if name.strip()]
    return listed[:count] if len(listed) >= count else [str(index) for index in range(count)]
