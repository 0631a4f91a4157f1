"""When one more job of a grid may start."""

from __future__ import annotations

import json

import pytest

from clipzoo.runtime.jobs import memory, room
from clipzoo.runtime.jobs.room import FILE, Room
from clipzoo.runtime.jobs.shares import Slot

GIB = 2**30
CPU = Slot("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A room, the lines that it says, and the free memory, which the test may change."""
    free, said = {"available": 10 * GIB, "used_by": 0}, []
    monkeypatch.setattr(room, "_PAUSE", 0.0)
    monkeypatch.setattr(memory, "available", lambda: free["available"])
    monkeypatch.setattr(memory, "used_by", lambda pid: free["used_by"])
    return Room(tmp_path, said.append), said, free


def start(made: Room, name: str, slot: Slot = CPU):
    """A job begins; returns a function by which it tells what it has taken."""
    file = made.enter(name, slot)[FILE]
    made.started(name, 123)

    def tell(used: float, gpu_used: float = 0, gpu_free: float = 0) -> None:
        taken = {"used": used * GIB, "gpu_used": gpu_used * GIB, "gpu_free": gpu_free * GIB}
        with open(file, "w") as stream:
            json.dump({name: int(number) for name, number in taken.items()}, stream)

    return tell


WAITS = "a job starts beside others when they have made a step and reported what memory they take"


def test_others_wait_until_the_first_job_has_reported_and_then_for_memory(machine):
    made, said, free = machine
    tell = start(made, "a")
    assert not made.has_room(CPU) and not made.has_room(CPU) and said == [WAITS]
    tell(4)
    free["used_by"], free["available"] = 4 * GIB, 6 * GIB
    assert made.has_room(CPU)
    start(made, "b")
    free["used_by"], free["available"] = 3 * GIB, 7 * GIB
    assert made.has_room(CPU), "each may grow by a gigabyte"
    free["available"] = 5 * GIB
    assert not made.has_room(CPU) and not made.has_room(CPU)
    lack = "a job takes up to 4.0 GiB of memory, and 3.0 GiB are free beside 2 running jobs: the next one waits for room"
    assert said == [WAITS, lack]
    free["used_by"] = 4 * GIB
    assert made.has_room(CPU), "both have grown already, and there is room beside them"
    made.leave("b")
    free["available"] = 4 * GIB
    assert not made.has_room(CPU), "a tenth of the memory stays free"
    free["available"] = None
    assert made.has_room(CPU), "nobody knows the free memory: the number asked for counts"


def test_the_largest_job_counts_also_after_its_end_and_later_reports_too(machine):
    made, said, free = machine
    tell_small = start(made, "small")
    tell_small(1)
    start(made, "large")(6)
    made.leave("large")  # it reported while nobody listened
    free["used_by"], free["available"] = GIB, 5 * GIB
    assert not made.has_room(CPU) and "takes up to 6.0 GiB of memory, and 5.0 GiB are free beside 1 running job:" in said[-1]
    free["available"] = 8 * GIB
    assert made.has_room(CPU)
    tell_small(7)
    assert not made.has_room(CPU) and made.need.used == 7 * GIB, "a later fold of the same job took more"


def test_each_gpu_has_a_memory_of_its_own(machine):
    made, said, free = machine
    first, second = Slot("auto", {"CUDA_VISIBLE_DEVICES": "0"}), Slot("auto", {"CUDA_VISIBLE_DEVICES": "1"})
    free["used_by"] = GIB
    tell = start(made, "a", first)
    assert not made.has_room(first), "nobody knows how large the jobs are"
    assert made.has_room(second), "nobody is on that one"
    tell(1, gpu_used=20, gpu_free=50)
    assert made.has_room(first) and made.has_room(second)
    tell = start(made, "b", first)
    assert made.has_room(second) and not made.has_room(first), "b has not said what it leaves"
    tell(1, gpu_used=30, gpu_free=20)
    assert not made.has_room(first) and made.has_room(second)
    lack = "a job takes up to 30.0 GiB of GPU memory, and 20.0 GiB are free beside 2 running jobs: the next one waits for room"
    assert said == [WAITS, lack]
    start(made, "c", CPU)(1)
    assert made.has_room(CPU), "what jobs take of a GPU is nothing to those on the CPU"
    made.leave("a")
    assert made.has_room(first), "what a took is free again, although b reported before"


def test_a_process_that_cannot_write_what_it_takes_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv(FILE, str(tmp_path / "a" / "b.json"))
    (tmp_path / "a").touch()
    room.tell()
    monkeypatch.setenv(FILE, str(tmp_path / "c.json"))
    room.tell()
    assert json.loads((tmp_path / "c.json").read_text())["used"] == pytest.approx(memory.used(), rel=0.2)


def test_a_refusal_holds_for_a_moment(tmp_path, monkeypatch):
    made = Room(tmp_path, print)
    start(made, "a")
    assert not made.has_room(CPU)
    monkeypatch.setattr(made, "fits", lambda gpu: pytest.fail("asked again at once"))
    assert not made.has_room(CPU)
