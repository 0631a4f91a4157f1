"""Which process starts when, with processes that end when the test says so."""

from __future__ import annotations

import subprocess

import pytest

from clipzoo.runtime.jobs.scheduler import End, SideBySide, Task
from clipzoo.runtime.jobs.shares import Slot
from clipzoo.signals import Interrupt


class FakeProcess:
    """Runs for so many turns; when asked to end, it ends after the last of them or, if stubborn, never."""

    def __init__(self, turns: int, status: int = 0, stubborn: bool = False):
        self.turns, self.status, self.stubborn = turns, status, stubborn
        self.calls: list[str] = []

    def poll(self):
        return None if self.turns > 0 else self.status

    def terminate(self):
        self.calls.append("terminate")
        if not self.stubborn:
            self.turns, self.status = 0, 143

    def kill(self):
        self.calls.append("kill")
        self.turns, self.status = 0, -9

    def wait(self, timeout=None):
        if self.turns > 0:
            raise subprocess.TimeoutExpired("fake", timeout)
        return self.status


class Machine:
    """Remembers what happened in which turn."""

    def __init__(self, processes: dict[str, FakeProcess | End], devices=("a", "b"), **options):
        self.processes, self.now = processes, 0
        self.events: list[tuple] = []
        self.running = SideBySide([Slot(device) for device in devices], self.start, self.ended, self.turn, **options)
        self.interrupt = Interrupt()

    def start(self, task, slot):
        self.events.append((self.now, "start", task.name, slot.device))
        return self.processes[task.name]

    def ended(self, task, status, seconds):
        self.events.append((self.now, "end", task.name, status))
        return End.NOT_BEGUN if status == 99 else End.BADLY if status else End.WELL

    def turn(self):
        self.now += 1
        for name, process in self.processes.items():
            if isinstance(process, FakeProcess) and name in {event[2] for event in self.events}:
                process.turns -= 1

    def run(self, *tasks: Task) -> dict[str, End]:
        return self.running.run(tasks, self.interrupt)

    @property
    def starts(self) -> list[tuple]:
        return [(now, name, device) for now, what, name, device in self.events if what == "start"]


def test_each_slot_has_one_process_at_a_time():
    machine = Machine({"x": FakeProcess(3), "y": FakeProcess(1), "z": FakeProcess(1)})
    assert machine.run(*map(Task, "xyz")) == dict.fromkeys("yxz", End.WELL)
    assert machine.starts == [(0, "x", "a"), (0, "y", "b"), (1, "z", "b")]


def test_a_task_waits_for_others_and_is_dropped_if_one_of_them_fails():
    machine = Machine({"x": FakeProcess(2), "y": FakeProcess(1, status=2), "u": FakeProcess(1), "v": FakeProcess(1)})
    ends = machine.run(Task("x"), Task("u", after=("x",)), Task("y"), Task("v", after=("x", "y")))
    assert ends == {"x": End.WELL, "y": End.BADLY, "u": End.WELL}
    assert machine.starts == [(0, "x", "a"), (0, "y", "b"), (2, "u", "a")]


def test_a_task_with_a_device_waits_for_it_and_one_without_takes_any():
    machine = Machine({"x": FakeProcess(2), "y": FakeProcess(1), "z": FakeProcess(1), "lost": FakeProcess(1)})
    ends = machine.run(Task("x", device="b"), Task("y", device="b"), Task("z"), Task("lost", device="c"))
    assert machine.starts == [(0, "z", "a"), (0, "x", "b"), (2, "y", "b")] and "lost" not in ends


def test_a_task_may_need_no_process():
    machine = Machine({"x": End.WELL, "y": End.BADLY, "z": FakeProcess(1), "v": FakeProcess(1)}, devices="a")
    ends = machine.run(Task("x"), Task("y"), Task("z", after=("x",)), Task("v", after=("y",)))
    assert ends == {"x": End.WELL, "y": End.BADLY, "z": End.WELL}


def test_a_task_that_may_not_start_beside_others_waits_for_their_end():
    machine = Machine({"x": FakeProcess(2), "y": FakeProcess(1), "z": FakeProcess(1)})
    machine.running.may_start = lambda task, slot: task.name == "z"
    assert machine.run(*map(Task, "xyz")) == dict.fromkeys("xyz", End.WELL)
    assert machine.starts == [(0, "x", "a"), (0, "z", "b"), (2, "y", "a")]


def test_a_task_that_has_not_begun_is_started_again_elsewhere():
    processes = {"x": FakeProcess(3), "y": FakeProcess(1, status=99), "z": FakeProcess(1)}
    machine = Machine(processes)
    original = machine.ended

    def ended(task, status, seconds):
        end = original(task, status, seconds)
        if end is End.NOT_BEGUN:
            processes["y"] = FakeProcess(1)
        return end

    machine.running.ended = ended
    assert machine.run(*map(Task, "xyz")) == dict.fromkeys("xyz", End.WELL)
    assert machine.starts == [(0, "x", "a"), (0, "y", "b"), (3, "y", "a"), (4, "z", "a")], "the slot of y is closed"


def test_a_signal_ends_what_runs_and_starts_nothing_more():
    processes = {"x": FakeProcess(9), "y": FakeProcess(9, stubborn=True), "z": FakeProcess(1)}
    machine = Machine(processes, patience=0.0)
    original = machine.turn

    def turn():
        original()
        if machine.now == 2:
            machine.interrupt.signal = 15

    machine.running.turn = turn
    assert machine.run(*map(Task, "xyz")) == {"x": End.BADLY, "y": End.BADLY}
    assert processes["x"].calls == ["terminate"] and processes["y"].calls == ["terminate", "kill"]
    assert len(machine.starts) == 2


@pytest.mark.parametrize(("error", "calls"), [(ValueError, ["terminate"]), (KeyboardInterrupt, ["kill"])])
def test_an_error_lets_the_processes_write_and_a_second_signal_does_not(error, calls):
    processes = {"x": FakeProcess(9)}
    machine = Machine(processes)

    def turn():
        raise error

    machine.running.turn = turn
    with pytest.raises(error):
        machine.run(Task("x"))
    assert processes["x"].calls == calls
