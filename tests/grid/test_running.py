"""How the jobs of a grid run beside each other, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipzoo.grid import running
from clipzoo.grid.jobs import Job
from clipzoo.grid.running import Grid
from clipzoo.runtime.jobs.shares import Slot

FAKE = """
import os, sys, time, pathlib
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
device = sys.argv[-1].partition('=')[2]
name = folder.name
start = time.time()
if 'bad' in name:
    print('epoch 1')
    print('error: model.loss: something is wrong')
    print('a line after it')
    sys.exit(2)
time.sleep(0.5 if 'late' in name else 0)
told = pathlib.Path(os.environ['CLIPZOO_MEMORY'])
told.with_suffix('.tmp').write_text('{"used": %d}' % (2**60 if 'huge' in name else 2**20))
told.with_suffix('.tmp').rename(told)
reported = time.time()
time.sleep(1.5 if 'long' in name else 0.3)
folder.mkdir(parents=True)
(folder / 'times.txt').write_text(f'{device} {start} {time.time()} {reported}')
"""


@pytest.fixture
def fake_training(tmp_path, monkeypatch):
    """Jobs run this script in place of ``python -m clipzoo.cli train``."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE, encoding="utf-8")
    start = subprocess.Popen

    def popen(command, **options):
        assert command[1:4] == ["-m", "clipzoo.cli", "train"] and options["stdin"] == subprocess.DEVNULL
        return start([command[0], "-S", str(script), *command[4:]], **options)

    monkeypatch.setattr(running.subprocess, "Popen", popen)


def job(name: str, device: str | None = None) -> Job:
    return Job(name, "i", "t", 1, (f"x={name}",), device)


def run(jobs: list[Job], folder: Path, devices: list[str], say=lambda line: None) -> list[running.Outcome]:
    return Grid(jobs, "config.py", folder, say=say).run([Slot(device) for device in devices])


def test_jobs_share_the_devices_and_a_failed_one_stops_no_other(fake_training, finished_job, tmp_path):
    said: list[str] = []
    jobs = [job("a"), job("bad"), job("b"), job("done"), job("c", "second"), job("d", "second")]
    finished_job(tmp_path / "grid" / "done", accuracy=0.5)
    outcomes = run(jobs, tmp_path / "grid", ["first", "second"], said.append)
    assert [o.job.name for o in outcomes] == [j.name for j in jobs], "in the order of the jobs, whichever ended first"
    assert [o.status for o in outcomes] == ["done", "failed", "done", "skipped", "done", "done"]
    log = tmp_path / "grid" / "bad.log"
    assert outcomes[1].message == f"error: model.loss: something is wrong (see {log})" and "a line after it" in log.read_text()
    assert any(line.startswith("[6/6]") for line in said) and any("bad: failed after" in line for line in said)
    times = {name: (tmp_path / "grid" / name / "times.txt").read_text().split() for name in "abcd"}
    assert times["c"][0] == times["d"][0] == "second"
    spans = sorted((device, float(start), float(end)) for device, start, end, _ in times.values())
    for one, other in zip(spans, spans[1:], strict=False):
        assert one[0] != other[0] or one[2] <= other[1], "one job at a time on each device"


def span(folder: Path, name: str) -> tuple[float, float, float]:
    """When a job began, ended, and reported its memory."""
    return tuple(map(float, (folder / name / "times.txt").read_text().split()[1:]))


def test_a_device_named_twice_runs_two_jobs_and_the_second_waits_for_the_memory_of_the_first(fake_training, tmp_path):
    said: list[str] = []
    run([job("late_long_a"), job("b")], tmp_path / "grid", ["cpu", "cpu"], said.append)
    (start_a, end_a, told_a), (start_b, end_b, _) = (span(tmp_path / "grid", name) for name in ("late_long_a", "b"))
    assert start_a < told_a <= start_b < end_b < end_a
    assert [line for line in said if "memory" in line] == [
        "a job starts beside others when they have made a step and reported what memory they take"
    ]


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells how much memory is free")
def test_jobs_for_which_there_is_no_memory_run_one_after_another(fake_training, finished_job, tmp_path):
    said: list[str] = []
    finished_job(tmp_path / "grid" / "done", accuracy=0.5)
    outcomes = run([job("huge_long_a"), job("huge_b"), job("done")], tmp_path / "grid", ["cpu", "cpu"], said.append)
    assert [outcome.status for outcome in outcomes] == ["done", "done", "skipped"]
    assert span(tmp_path / "grid", "huge_long_a")[1] <= span(tmp_path / "grid", "huge_b")[0]
    assert [line for line in said if "of memory" in line][0].startswith("a job takes up to 1073741824.0 GiB of memory, and ")
    assert sum("of memory" in line for line in said) == 1
    assert said.index("huge_b: started on cpu") > next(i for i, line in enumerate(said) if "done: skipped" in line), "needs no memory"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_jobs_and_starts_no_other(tmp_path, repo, number):
    """The grid in a process of its own, so that it can be killed; its jobs write a file when they are asked to end."""
    code = """
import sys, pathlib, subprocess
from clipzoo.grid import running
from clipzoo.grid.jobs import Job
from clipzoo.runtime.jobs.shares import Slot
start = subprocess.Popen
script = '''
import signal, sys, time, pathlib
def end(number, frame):
    pathlib.Path(sys.argv[1] + '.checkpoint').write_text('x')
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1] + '.started').write_text('x')
time.sleep(30)
'''
running.subprocess.Popen = lambda command, **o: start([sys.executable, '-S', '-c', script, command[command.index('--work-dir') + 1]], **o)
jobs = [Job(name, 'i', 't', 1, ()) for name in 'ab']
try:
    running.Grid(jobs, 'c.py', pathlib.Path(sys.argv[1])).run([Slot('cpu')])
except KeyboardInterrupt as stop:
    print('ended by', stop.signal)
"""
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "a.started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert f"ended by {number}" in out and (tmp_path / "a.checkpoint").exists() and not (tmp_path / "b.started").exists()


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        ("sys.exit(143)", "stopped", "run the same command to resume"),
        ("os.kill(os.getpid(), 9)", "failed", "killed by signal 9 (Killed), as the system does when memory runs out. Run the same"),
        ("print('error: one')", "done", ""),
    ],
)
def test_what_the_end_of_a_process_means(tmp_path, monkeypatch, ending, status, message):
    monkeypatch.setattr(Grid, "command", lambda self, job, device: [sys.executable, "-S", "-c", f"import os, sys; {ending}"])
    (outcome,) = run([job("a")], tmp_path, ["cpu"])
    assert outcome.status == status and outcome.message.startswith(message)


def test_a_job_that_cannot_be_started_and_a_lost_terminal_stop_no_other(tmp_path, monkeypatch):
    commands = {"a": ["/no/such/program"], "b": [sys.executable, "-S", "-c", ""]}

    def say(line):
        raise BrokenPipeError

    monkeypatch.setattr(Grid, "command", lambda self, job, device: commands[job.name])
    first, second = run([job("a"), job("b")], tmp_path, ["cpu"], say)
    assert first.status == "failed" and "No such file" in first.message and second.status == "done"


def test_a_job_that_no_slot_takes_is_failed_too(fake_training, tmp_path):
    first, second = run([job("a", "cuda:7"), job("b")], tmp_path / "grid", ["cpu"])
    assert first.status == "failed" and "nothing has its device" in first.message and second.status == "done"


def test_each_job_gets_its_share_of_the_machine(tmp_path, monkeypatch):
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['CLIPZOO_JOBS'])"
    monkeypatch.setattr(Grid, "command", lambda self, job, device: [sys.executable, "-S", "-c", code])
    Grid([job("a")], "config.py", tmp_path).run([Slot("cpu", {"OMP_NUM_THREADS": "3", "CLIPZOO_JOBS": "2"})])
    assert (tmp_path / "a.log").read_text().split() == ["3", "2"]
