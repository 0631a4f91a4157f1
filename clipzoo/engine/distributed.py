"""Several processes: who is who, and what they tell each other. With one process everything here is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist

from clipzoo.errors import BuildError

Launcher = Literal["none", "pytorch"]


@contextmanager
def process_group(launcher: Launcher, device: str = "auto") -> Iterator[None]:
    """Join the processes that ``torchrun`` started (gloo on CPU, nccl on GPU), and leave them at the end.

    Raises:
        BuildError: ``launcher='pytorch'`` without torchrun's environment, or there is no GPU of its own for each process.
    """
    if launcher == "none":
        yield
        return
    missing = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise BuildError(
            f"--launcher pytorch: {', '.join(missing)} not set. Start through tools/dist_train.sh CONFIG NUM_PROCESSES or torchrun"
        )
    on_gpu = torch.cuda.is_available() and not device.startswith("cpu")
    if on_gpu:
        check_gpus(device)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()


def check_gpus(device: str) -> None:
    """Every process needs a GPU of its own.

    Raises:
        BuildError: ``device`` names a single one, or this machine has fewer.
    """
    if ":" in device:
        raise BuildError(
            f"runtime.device: '{device}' is one GPU for all processes. Use 'auto'; CUDA_VISIBLE_DEVICES says which GPUs may be used"
        )
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if processes > gpus:
        raise BuildError(
            f"--launcher pytorch: {processes} processes, but {gpus} GPUs on this machine. Start {gpus}, or set runtime.device='cpu'"
        )


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Of this process; 0 is the one that writes files."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Does this process write files and messages?"""
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
    """Give all processes the main process's running statistics; DDP shares them before a training step, but not after the last one."""
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
