"""Several gloo processes for a test: the test starts its own file as a program once, and the program forks the processes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path


def launch(program: str | Path, *arguments: object, timeout: float = 120) -> None:
    """Run a test file as a program; it must succeed. (Pytest's own process has threads, and must not fork.)"""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def in_processes(world: int, work: Callable[[int], None], folder: Path, timeout: float = 100) -> None:
    """Call ``work(rank)`` in ``world`` forked processes that form one gloo group; none must fail."""
    for name in ("torch", "torch._dynamo", "torch._inductor.config"):  # DDP imports them: once here, and not in every process
        importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_work, args=(work, rank, world, folder), daemon=True) for rank in range(world)]
    for process in processes:
        process.start()
    end = time.monotonic() + timeout
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        if any(process.exitcode for process in processes):
            break  # the others wait for it in vain
        time.sleep(0.02)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    if codes != [0] * world:
        raise RuntimeError(f"{world} processes ended with {codes}")


def _work(work: Callable[[int], None], rank: int, world: int, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    where = (folder / f"meet-{world}").resolve().as_uri()
    torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    work(rank)
    torch.distributed.destroy_process_group()
