"""Training with several processes: ranks and collectives. With one process everything here is a no-op."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from clipzoo.config.settings import RuntimeSettings
from clipzoo.errors import BuildError, ProcessError, first_line
from clipzoo.runtime.launchers import Launcher, Place, place_of

T = TypeVar("T")

TURN_SECONDS = 1.0  # between two heartbeats to other processes
_LONGEST = 1e7  # seconds: four months, which every clock can count
# How gloo reports that another process does not answer or has died; nccl raises a DistError.
_LOST = (
    "Timed out waiting",
    "Connection closed by peer",
    "Connection reset by peer",
    "Application timeout caused pair closure",
    "Broken pipe",
)


def meeting(config: Mapping) -> dict[str, Any]:
    """The arguments of ``process_group`` from a config that is not checked yet; invalid values are left for the check to report."""
    runtime = config.get("runtime", {})
    timeout = runtime.get("timeout", RuntimeSettings.timeout)
    is_usable = isinstance(timeout, (int, float)) and 0 < timeout < _LONGEST
    return {"device": str(runtime.get("device", "auto")), "timeout": timeout if is_usable else RuntimeSettings.timeout}


@contextmanager
def process_group(launcher: Launcher, device: str = "auto", timeout: float = RuntimeSettings.timeout) -> Iterator[None]:
    """Join the processes that torchrun or srun started (gloo on CPU, nccl on GPU), and leave them at the end.

    Args:
        launcher: The program that started this process.
        device: The setting ``runtime.device``.
        timeout: Longest time in seconds that a process may keep the others waiting.

    Raises:
        BuildError: ``launcher`` did not start this process, there are fewer GPUs than processes, or the processes cannot connect.
        ProcessError: Another process died, or did not answer in time.
    """
    if launcher == "none":
        yield
        return
    place = place_of(launcher, os.environ)
    on_gpu = torch.cuda.is_available() and not device.startswith("cpu")
    if on_gpu:
        torch.cuda.set_device(gpu_of(place, device))
    here = {"rank": place.rank, "world_size": place.world_size, "timeout": timedelta(seconds=timeout)}
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", init_method=place.meeting, **here)
    except (dist.DistError, ValueError) as error:
        raise BuildError(
            f"--launcher {launcher}: process {place.rank} of {place.world_size} cannot connect to {place.meeting} ({first_line(error)}). "
            "Set another address with MASTER_ADDR, or another port with MASTER_PORT (PORT for the scripts in tools/)"
        ) from error
    try:
        yield
        dist.barrier()
    except RuntimeError as error:
        if not is_lost(error):
            raise
        reason = first_line(error, 2000).rpartition("] ")[2][:120]
        raise ProcessError(
            f"process {place.rank} of {place.world_size}: another process died, or did not answer for runtime.timeout = {timeout:g} s "
            f"({reason}). See their output; raise the timeout if one is merely slow. Start again to resume from the last checkpoint"
        ) from error
    finally:
        # A group kept alive by a reference cycle would be destroyed with the interpreter, after its threads, which occasionally aborts.
        gc.collect()
        dist.destroy_process_group()


def is_lost(error: BaseException) -> bool:
    """Whether a collective raised ``error`` because another process does not answer or has died."""
    return isinstance(error, dist.DistError) or any(words in str(error) for words in _LOST)


def gpu_of(place: Place, device: str) -> int:
    """The index of this process's GPU; processes do not share GPUs.

    Raises:
        BuildError: ``device`` names a single GPU, or this machine has fewer GPUs than processes.
    """
    if ":" in device:
        raise BuildError(
            f"runtime.device: '{device}' is one GPU for all processes. Use 'auto'; CUDA_VISIBLE_DEVICES selects the GPUs to use"
        )
    gpus = torch.cuda.device_count()
    if place.own_gpu and gpus == 1:
        return 0
    if place.local_world_size > gpus:
        raise BuildError(
            f"--launcher {place.launcher}: {place.local_world_size} processes, but {gpus} GPUs on this machine. Start {gpus}, "
            "or set runtime.device='cpu'"
        )
    return place.local_rank


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process; rank 0 writes the files."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files and messages."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def gathered(value: object) -> list:
    """``value`` of every process, in rank order, on every process."""
    if world_size() == 1:
        return [value]
    values: list = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def share_buffers(module: torch.nn.Module) -> None:
    """Broadcast the main process's running statistics; DDP does so before every training step, but not after the last one."""
    if world_size() > 1:
        kept = module.state_dict().keys()
        for name, buffer in module.named_buffers():
            if name in kept:
                dist.broadcast(buffer, src=0)


def from_main(make: object) -> object:
    """Call ``make`` on the main process alone and return its result on all of them; an error there is raised everywhere."""
    if world_size() == 1:
        return make()
    box: list = [None, None]
    if is_main():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    return box[0]


def in_turns(work: Generator[None, None, T]) -> T:
    """The result of ``work``, on every process. The main one runs it; the others wait for one turn at a time, so that no wait times out.

    ``work`` yields at least every ``TURN_SECONDS``.
    """

    def turn() -> tuple[bool, T | None]:
        try:
            next(work)
        except StopIteration as end:
            return True, end.value
        return False, None

    with closing(work):
        while True:
            ended, value = from_main(turn)
            if ended:
                return value
