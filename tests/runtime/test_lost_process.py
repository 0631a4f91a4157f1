"""Another process of the training that hangs or dies: the others end with one line within ``runtime.timeout``."""

import os
import signal
import socket
import subprocess
import sys

import pytest
import torch
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.errors import ConfigError, ProcessError
from clipzoo.runtime.distributed import is_lost, meeting, process_group

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "localhost"}
GLOO = "[gloo/transport/tcp/unbound_buffer.cc:81] "
HANG = """
import os, time
from clipzoo.hooks.base import Hook
from clipzoo.registries import HOOKS

@HOOKS.register_module()
class HangHook(Hook):
    def after_step(self, run):
        if run.state.step == 2 and run.world_size > 1 and os.environ["RANK"] == "1":
            open(os.environ["HANGS"], "w").close()
            {what}
"""


def free_port():
    with socket.socket() as free:
        free.bind(("", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def alone(monkeypatch):
    """The variables that torchrun gives to a single process."""
    for name, value in {**ALONE, "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "message",
    [f"{GLOO}Timed out waiting 5000ms for recv operation to complete", f"{GLOO}Connection closed by peer [127.0.0.1]:5", "Broken pipe"],
)
def test_a_collective_that_fails_is_one_line(alone, message):
    with pytest.raises(ProcessError, match=r"process 0 of 1: another process died, or did not answer for runtime.timeout = 5 s") as caught:
        with process_group("pytorch", "cpu", 5.0):
            raise RuntimeError(message)
    assert "\n" not in str(caught.value) and "gloo" not in str(caught.value) and not torch.distributed.is_initialized()


def test_another_error_is_not_taken_for_a_lost_process(alone):
    with pytest.raises(RuntimeError, match="size mismatch"), process_group("pytorch", "cpu", 5.0):
        raise RuntimeError("size mismatch")
    assert is_lost(torch.distributed.DistBackendError("NCCL error")) and not torch.distributed.is_initialized()


@pytest.mark.parametrize(("given", "expected"), [(5, 5), (0.5, 0.5), (-1, 1800.0), ("x", 1800.0), (1e300, 1800.0), (None, 1800.0)])
def test_a_timeout_that_makes_no_sense_is_left_to_the_check(given, expected):
    assert meeting(Config.from_dict({"runtime": {"timeout": given}}, "x"))["timeout"] == expected
    assert meeting(Config.from_dict({}, "x")) == {"device": "auto", "timeout": 1800.0}


@pytest.mark.parametrize("given", [0.0, -1.0, 1e300, float("nan"), "soon"])
def test_a_timeout_is_above_zero_and_can_be_counted(config_of, given):
    with pytest.raises(ConfigError, match="runtime.timeout"):
        check(config_of(runtime={"timeout": given}))


@pytest.mark.slow
@pytest.mark.parametrize(("what", "status"), [("time.sleep(1000)", -signal.SIGKILL), ("os.kill(os.getpid(), 9)", -signal.SIGKILL)])
def test_a_process_that_hangs_or_dies_is_noticed_by_the_other(class_folders, tmp_path, repo, what, status):
    (tmp_path / "hanging.py").write_text(HANG.format(what=what), encoding="utf-8")
    config = tiny_config(class_folders, data={"batch_size": 4}, hooks=["HangHook"], runtime={"timeout": 15.0})
    (tmp_path / "tiny.py").write_text(Config.from_dict({**config, "plugins": ["hanging"]}).dump(), encoding="utf-8")
    run = tmp_path / "run"
    command = [sys.executable, str(repo / "tools" / "train.py"), str(tmp_path / "tiny.py"), "--launcher", "pytorch", "--work-dir", str(run)]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(tmp_path), str(repo)])
    both = []
    for rank in "01":
        environment = {**os.environ, **shared, "PYTHONPATH": paths, "HANGS": str(tmp_path / "hangs"), "RANK": rank, "LOCAL_RANK": rank}
        both.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment))
    try:
        _, err = both[0].communicate(timeout=200)
        assert (tmp_path / "hangs").exists(), err
        assert both[0].returncode == 2 and err.splitlines()[-1].startswith(
            "error: process 0 of 2: another process died, or did not answer"
        ), err
        assert "Traceback" not in err
    finally:
        both[1].kill()
        both[1].communicate(timeout=60)
    assert both[1].returncode == status
