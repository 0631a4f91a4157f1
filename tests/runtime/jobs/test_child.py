"""A real child process and its parent."""

from __future__ import annotations

import os
import signal
import sys
import time
from queue import SimpleQueue

import pytest

from clipzoo.runtime.jobs.child import Child

MODULE = """
import logging, os, signal, sys, time
from clipzoo.errors import DataError
from clipzoo.runtime.jobs.reporting import to_the_parent
from clipzoo.runtime.log import close_log, make_log


def main():
    with to_the_parent() as parent:
        log = make_log(parent.console, None)
        for task in parent.tasks():
            log.info("%s in %s", task, parent.order["place"])
            print("printed", flush=True)
            os.write(2, b"\\xffraw\\n")
            if task == "bad":
                raise DataError("data: are wrong")
            if task == "wait":
                parent.send("waits")
                time.sleep(30)
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """``child()``: a child process of the module above."""
    (tmp_path / "a_child_of_tests.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    started: list[Child] = []

    def start() -> Child:
        made = Child("a_child_of_tests", {"place": "髋"}, title=["x"], environment={"A_SHARE": "1"}, messages=SimpleQueue())
        started.append(made)
        return made

    yield start
    for one in started:
        one.kill()
        one.wait(30)


def heard(child: Child, kind: str, seconds: float = 60.0) -> list[tuple[str, object]]:
    """What the child says until it says this."""
    found: list = []
    while not found or found[-1][0] != kind:
        found.append(child.messages.get(timeout=seconds)[1:])
    return found


def status_of(child: Child) -> int:
    child.wait(30)
    return child.poll()


def test_a_child_does_one_task_after_the_other_and_says_so(child):
    one = child()
    said = heard(one, "ready")
    assert one.is_free and isinstance(said[-1][1], int)
    for task in ("first", "二"):
        one.take(task)
        assert not one.is_free and one.poll() is None
        one.begin()
        said += heard(one, "done")
        assert ("log", [20, f"{task} in 髋"]) in said
        one.is_done = True
        assert one.is_free and one.poll() == 0
    one.dismiss()
    one.is_done = False
    assert status_of(one) == 0
    while not one.messages.empty():
        said.append(one.messages.get()[1:])
    lines = sorted(content for kind, content in said if kind == "line")
    assert lines == [r"\xffraw", r"\xffraw", "printed", "printed"], "whole lines, whatever their bytes"


def test_an_error_of_the_user_ends_the_child_with_its_type(child):
    one = child()
    heard(one, "ready")
    one.take("bad")
    one.begin()
    assert heard(one, "error")[-1] == ("error", ["DataError", "data: are wrong"]) and status_of(one) == 2


@pytest.mark.parametrize("how", ["signal", "parent"])
def test_a_child_at_work_ends_with_a_signal_or_with_its_parent(child, how):
    one = child()
    heard(one, "ready")
    one.take("wait")
    one.begin()
    heard(one, "waits")
    if how == "signal":
        one.terminate()
    else:
        one.dismiss()  # what the death of the parent looks like from inside
    assert heard(one, "stopped")[-1][1] == signal.SIGTERM and status_of(one) == 128 + signal.SIGTERM


def test_a_killed_child_is_noticed(child):
    one = child()
    heard(one, "ready")
    one.take("wait")
    one.begin()
    heard(one, "waits")
    os.kill(one.process.pid, signal.SIGKILL)
    started = time.monotonic()
    assert status_of(one) == -signal.SIGKILL and time.monotonic() - started < 30
    one.begin()  # nobody reads it
