"""Fixtures shared by all tests: one thread, no network, tiny class folders, and a config that trains in a second."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from tiny import tiny_config, write_class_folders

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, and then by every process that a test starts


def pytest_collection():
    """Importing the libraries makes a million objects that stay; the garbage collector would visit them again and again."""
    gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """Mark all but the first cases of a test with ``fast_cases(n)`` as slow."""
    seen: Counter[tuple] = Counter()
    for item in items:
        marker = item.get_closest_marker("fast_cases")
        if marker is not None:
            test = (item.path, item.originalname)
            seen[test] += 1
            if seen[test] > marker.args[0]:
                item.add_marker(pytest.mark.slow)


ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Features that tests keep stay out of the user's cache."""
    os.environ["CLIPZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two cores are shared with other tests; results on the CPU then also do not depend on the machine's size."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout's top level."""
    return ROOT


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory) -> Path:
    """36 tiny pictures in three classes with Chinese names; read only."""
    return write_class_folders(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def config_of(class_folders):
    """``config_of(train={'epochs': 1})``: the tiny config on the shared class folders, with changed sections."""
    from clipzoo.config import Config

    def make(root: Path | None = None, name: str = "tiny", **sections) -> Config:
        return Config.from_dict(tiny_config(root or class_folders, **sections), name)

    return make


@pytest.fixture(scope="module")  # an event loop runs until the browser is closed, and asyncio.run of other tests would fail
def browser():
    """Real Chromium: ``browser.open(path, width=480, dark=True)``; tests/browser.py says what a visit can tell."""
    from browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def quiet():
    """A console that shows nothing."""
    from rich.console import Console

    return Console(quiet=True)


@pytest.fixture
def stopped_at(monkeypatch):
    """``with stopped_at(step): …``: a signal reaches the run that is trained inside in that optimizer step, and ends it."""
    from contextlib import contextmanager

    from clipzoo.engine import loop

    @contextmanager
    def signalled(step: int):
        def step_then_signal(run, group):
            original(run, group)
            if run.state.step + 1 == step:
                run.interrupt.signal = 15

        original = loop.step
        with monkeypatch.context() as patch, pytest.raises(loop.Interrupted):
            patch.setattr(loop, "step", step_then_signal)
            yield

    return signalled
