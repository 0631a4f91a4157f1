"""Memory that is free, and memory that this process uses."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))  # version 2, version 1
SPARE = 0.9  # share of the free memory that may be planned with
_CONTEXT = 2**29  # bytes of a GPU that the driver takes for each process, about


@dataclass(frozen=True)
class Taken:
    """Memory that a process has taken.

    Attributes:
        used: The most bytes that it has used.
        gpu_used: The most bytes that it has used on its GPU; 0 without one.
        gpu_free: Bytes that are free on that GPU now.
    """

    used: int
    gpu_used: int = 0
    gpu_free: int = 0

    @classmethod
    def now(cls) -> Taken:
        """What this process has taken so far."""
        return cls(used(), gpu_used(), gpu_available())


def available(system: Path = Path("/")) -> int | None:
    """Bytes that new processes can use without swapping, also within the limit of a container; ``None`` where nothing tells (not Linux)."""
    found = [_available_in(system / "proc" / "meminfo")]
    found += [_left_in(system / "sys" / "fs" / "cgroup", *names) for names in _CGROUPS]
    return min((number for number in found if number is not None), default=None)


def _available_in(meminfo: Path) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def _left_in(cgroup: Path, limit: str, usage: str) -> int | None:
    """What a container may still use: its limit without what it uses, of which cached files can be dropped."""
    try:
        statistics = dict(line.split() for line in (cgroup / usage).with_name("memory.stat").read_text(encoding="ascii").splitlines())
        used = int((cgroup / usage).read_text(encoding="ascii")) - int(statistics.get("inactive_file", 0))
        return max(int((cgroup / limit).read_text(encoding="ascii")) - used, 0)
    except (OSError, ValueError):  # also 'max': no limit
        return None


def used() -> int:
    """The largest number of bytes that this process has used, with the present memory of its child processes."""
    return _peak() + sum(_proportional(pid) for pid in _children(os.getpid()))


def used_by(pid: int) -> int:
    """Bytes that another process and its child processes use now; 0 where nothing tells (not Linux), or if it has ended."""
    return _proportional(pid) + sum(_proportional(child) for child in _children(pid))


def _peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not Linux, whose ru_maxrss would include what the parent had before it started this process
        return _largest_resident()


def _largest_resident() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _proportional(pid: int) -> int:
    """The process's memory, of which each page counts as much as it is not shared."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def gpu_used() -> int:
    """The largest number of bytes that this process has used on its GPU; 0 without one."""
    cuda = _cuda()
    return 0 if cuda is None else cuda.max_memory_reserved() + _CONTEXT


def gpu_available() -> int:
    """Bytes free on this process's GPU; 0 without one."""
    cuda = _cuda()
    return 0 if cuda is None else cuda.mem_get_info()[0]


def _cuda() -> ModuleType | None:
    """``torch.cuda``, if this process uses it: asking would start it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def in_words(number: float) -> str:
    """Bytes for people.

    >>> in_words(1.5 * 2**30), in_words(300 * 2**20)
    ('1.5 GiB', '300 MiB')
    """
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
