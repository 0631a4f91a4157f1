"""The device that is planned for."""

from __future__ import annotations

import os

_SHARED_GB = 8.0  # assumed of a GPU that shares the memory of the processor
_MOST_WORKERS = 4


def look_at_machine(gpu_memory: float | None = None) -> tuple[dict[str, object], str]:
    """Facts for the rules (``device``, ``memory``, ``num_workers``), and the device in words.

    Args:
        gpu_memory: Memory in GB of the GPU to plan for, 0 for a machine without one; ``None`` looks at this machine.
    """
    import torch

    from clipzoo.runtime.device import choose_device

    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    if gpu_memory is not None:
        memory, words = gpu_memory, f"GPU with {gpu_memory:g} GB, as given" if gpu_memory else "CPU, as given"
    else:
        device = choose_device("auto")
        memory, words = 0.0, "CPU"
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            memory = properties.total_memory / 2**30
            words = f"{properties.name}, {memory:.0f} GB"
        elif device.type == "mps":
            memory, words = _SHARED_GB, f"Apple GPU, {_SHARED_GB:g} GB assumed"
    return {"device": "GPU" if memory else "CPU", "memory": memory, "num_workers": workers}, words
