"""The machine: when half precision is worth it on a CPU, and generators."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clipzoo.engine import runtime


def net(size: int, groups: int = 1) -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=groups))
    model.preprocessing = SimpleNamespace(size=size)
    return model


@pytest.mark.parametrize("amx, size, groups, expected", [
    (True, 224, 1, torch.bfloat16),
    (False, 224, 1, None),  # emulated elsewhere
    (True, 32, 1, None),  # too small to pay for the casts
    (True, 224, 4, None),  # depthwise convolutions are many times slower in bf16
])  # fmt: skip
def test_auto_takes_bf16_on_a_cpu_only_where_it_gains(monkeypatch, amx, size, groups, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert runtime.choose_autocast("auto", torch.device("cpu"), net(size, groups)) is expected


def test_a_precision_that_is_named_is_taken():
    for name, dtype in {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        assert runtime.choose_autocast(name, torch.device("cpu"), net(32)) is dtype


def test_memory_that_is_freed_stays(monkeypatch):
    """Not more than that it can be called anywhere, twice, and where there is no glibc."""
    assert runtime.keep_freed_memory() is None
    monkeypatch.setattr(runtime.platform, "libc_ver", lambda: ("", ""))
    assert runtime.keep_freed_memory() is None


def test_generators_go_on_on_whatever_gpu_the_run_goes_on(monkeypatch):
    """Only the run's own device counts: how many others there are, and its number, may be others after a restart."""
    restored: list = []
    gpu = SimpleNamespace(get_rng_state=lambda: torch.tensor([7]), set_rng_state=restored.append)
    monkeypatch.setattr(torch, "get_device_module", lambda device: gpu)
    state = runtime.rng_state(torch.device("cuda", 1))
    drawn = torch.rand(3), np.random.rand(3), random.random()
    runtime.set_rng_state(state, torch.device("cuda", 0))
    again = torch.rand(3), np.random.rand(3), random.random()
    assert drawn[0].equal(again[0]) and (drawn[1] == again[1]).all() and drawn[2] == again[2] and restored == [torch.tensor([7])]
    runtime.set_rng_state(runtime.rng_state(torch.device("cpu")), torch.device("cuda", 0))
    assert len(restored) == 1, "a run that was on the CPU knows nothing of a GPU"
