"""Rank and world size of this process, from the environment variables that torchrun or srun set. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from clipzoo.commands import typed_launch
from clipzoo.errors import BuildError

Launcher = Literal["none", "pytorch", "slurm"]

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_ID")


@dataclass(frozen=True)
class Place:
    """One process among all that train together.

    Attributes:
        launcher: The program that started it.
        rank: Its rank among all processes, from 0.
        world_size: Number of all processes.
        local_rank: Its rank on its machine, from 0.
        local_world_size: Number of processes on its machine.
        meeting: ``init_method`` of ``torch.distributed.init_process_group``.
        own_gpu: Whether the launcher makes a single GPU visible to every process.
    """

    launcher: Launcher
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    meeting: str
    own_gpu: bool = False


def place_of(launcher: Launcher, environment: Mapping[str, str]) -> Place:
    """The place of this process, from the environment.

    Raises:
        BuildError: ``launcher`` did not start this process, or its variables are invalid.
    """
    return _torchrun(environment) if launcher == "pytorch" else _slurm(environment)


def first_host(nodes: str) -> str:
    """The first machine of a Slurm list such as ``'node[003-010,15],login2'``: ``'node003'``; rank 0 runs there.

    Raises:
        BuildError: ``nodes`` is not such a list.
    """
    found = re.match(r"(?:[^\[\],\s]|\[\d[\d,-]*\])+(?=,|$)", nodes)
    if found is None:
        raise BuildError(f"--launcher slurm: '{nodes}' is not a list of nodes. Set MASTER_ADDR to the name of the first node")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", found.group())


def _torchrun(environment: Mapping[str, str]) -> Place:
    how = f"Start with: {typed_launch('pytorch')}"
    _require(environment, _TORCHRUN, "pytorch", how)
    number = _numbers(environment, "pytorch", how)
    return Place(
        launcher="pytorch",
        rank=number("RANK"),
        world_size=number("WORLD_SIZE"),
        local_rank=number("LOCAL_RANK"),
        local_world_size=number("LOCAL_WORLD_SIZE", 1),
        meeting="env://",  # not tcp://: torchrun itself may hold the port, and the processes then join its store
    )


def _slurm(environment: Mapping[str, str]) -> Place:
    how = f"Start with: {typed_launch('slurm')}"
    _require(environment, _SLURM, "slurm", how)
    number = _numbers(environment, "slurm", how)
    rank, world = number("SLURM_PROCID"), number("SLURM_NTASKS")
    if not 0 <= rank < world:
        raise BuildError(f"--launcher slurm: SLURM_PROCID is {rank} and SLURM_NTASKS {world}, so srun did not start this process. {how}")
    address = environment.get("MASTER_ADDR") or first_host(_nodes(environment))
    # A different port for every step of every job, below the range of ephemeral ports.
    port = number("MASTER_PORT", 10_000 + (10 * number("SLURM_JOB_ID") + number("SLURM_STEP_ID", 0)) % 20_000)
    return Place(
        launcher="slurm",
        rank=rank,
        world_size=world,
        local_rank=number("SLURM_LOCALID"),
        local_world_size=_tasks_on_this_node(environment, world),
        meeting=f"tcp://{address}:{port}",
        own_gpu=any(name in environment for name in ("SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND")),
    )


def _nodes(environment: Mapping[str, str]) -> str:
    for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
        if environment.get(name):
            return environment[name]
    raise BuildError("--launcher slurm: SLURM_STEP_NODELIST is not set. Set MASTER_ADDR to the name of the first node")


def _tasks_on_this_node(environment: Mapping[str, str], world: int) -> int:
    """From ``SLURM_STEP_TASKS_PER_NODE`` (``'4(x2),3'``: two nodes of four, one of three), or the number that the job requested."""
    counts: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        counts += [int(found.group(1))] * int(found.group(2) or 1) if found else []
    node = environment.get("SLURM_NODEID", "0")
    if node.isdecimal() and int(node) < len(counts):
        return counts[int(node)]
    requested = environment.get("SLURM_NTASKS_PER_NODE", "")
    return min(int(requested), world) if requested.isdecimal() else world


def _require(environment: Mapping[str, str], names: tuple[str, ...], launcher: Launcher, how: str) -> None:
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise BuildError(f"--launcher {launcher}: {', '.join(missing)} not set. {how}")


def _numbers(environment: Mapping[str, str], launcher: Launcher, how: str):
    def number(name: str, default: int | None = None) -> int:
        text = environment.get(name) or str(default)
        if not text.isdecimal():
            raise BuildError(f"--launcher {launcher}: {name} is '{text}', not a number. {how}")
        return int(text)

    return number
