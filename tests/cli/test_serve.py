"""The command ``serve``: what it refuses before it listens, and a real server that ends on Ctrl-C."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--port", "0"], "error: none: no such checkpoint or published name"),
        (["x", "--port", "70000"], "error: --port: 70000 is not a port. Ports are 0 to 65535\n"),
        (["x", "--port", "-1"], "error: --port: '-1' is not a whole number of 0 or more"),
        (["x", "--host", "192.0.2.1"], "error: --host 192.0.2.1 --port 8000: "),
    ],
)
def test_bad_input(command, arguments, message):
    pytest.importorskip("starlette")
    ended = command("serve", *arguments)
    assert ended.status == 2 and ended.err.startswith(message) and ended.err.count("\n") == 1, ended.err


def test_a_port_that_is_taken_and_missing_packages(command, monkeypatch):
    pytest.importorskip("starlette")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = command("serve", "x", "--port", taken.getsockname()[1])
    assert ended.status == 2 and "in use. Choose another port, such as --port 0 for a free one" in ended.err
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ended = command("serve", "x")
    assert ended.status == 2 and "Run pip install starlette uvicorn python-multipart\n" in ended.err


@pytest.mark.slow
def test_a_real_server(finished):
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "clipzoo.cli", "serve", str(finished), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().split()[0]
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{address}api/model", timeout=60) as reply:
            found = json.load(reply)
        assert (
            found["classes"] == sorted(found["classes"]) and found["neighbours"] > 0 and "mean probability of 3 folds" in found["model"][0]
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
