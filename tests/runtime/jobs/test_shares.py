"""What each of several processes may use."""

import os

import pytest

from clipzoo.runtime.jobs import shares


@pytest.fixture
def machine(monkeypatch):
    """``machine(cores, **environment)``: a machine of so many cores, without the variables of this one."""

    def make(cores: int, **environment: str) -> None:
        monkeypatch.setattr(shares, "cores", lambda: cores)
        for name in (shares.THREADS, shares.SIDE_BY_SIDE, shares.GPUS):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return make


@pytest.mark.parametrize(
    ("wanted", "num_runs", "threads", "number"),
    [
        ("auto", 5, None, 5),
        ("auto", 20, None, 8),
        ("auto", 20, 3, 2),
        ("auto", 5, 16, 1),
        (3, 5, None, 3),
        (9, 5, 1, 5),
        ("auto", 0, None, 1),
    ],
)
def test_number_of_processes(machine, wanted, num_runs, threads, number):
    machine(8)
    assert shares.num_jobs(wanted, num_runs, threads) == number


def test_threads_are_divided_unless_the_user_has_set_them(machine):
    machine(8)
    assert shares.share(3) == {"OMP_NUM_THREADS": "2", "CLIPZOO_JOBS": "3"} and shares.share(1) == {}
    assert shares.share(20)["OMP_NUM_THREADS"] == "1"
    machine(8, OMP_NUM_THREADS="5")
    assert shares.share(3)["OMP_NUM_THREADS"] == "5"


def test_loader_processes_are_divided_but_never_taken_away(machine):
    machine(8)
    assert [shares.share_of_workers(number) for number in (0, 1, 4)] == [0, 1, 4]
    machine(8, CLIPZOO_JOBS="3")
    assert [shares.share_of_workers(number) for number in (0, 1, 4, 7)] == [0, 1, 2, 3]
    machine(8, CLIPZOO_JOBS="many")
    assert shares.share_of_workers(4) == 4


def test_processes_take_turns_on_the_gpus(machine):
    machine(8, CUDA_VISIBLE_DEVICES="2, GPU-7")
    assert shares.visible_gpus(2) == ["2", "GPU-7"] and shares.visible_gpus(3) == ["0", "1", "2"]
    found = shares.slots(3, ["auto"], gpus=shares.visible_gpus(2))
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == ["2", "GPU-7", "2"]
    named = shares.slots(3, ["cuda:1", "cpu"], gpus=["0", "1"])
    assert [slot.device for slot in named] == ["cuda:1", "cpu", "cuda:1"]
    assert not any("CUDA_VISIBLE_DEVICES" in slot.environment for slot in named), "a name would mean another GPU"


@pytest.mark.parametrize(("text", "number"), [("150000 100000", 2), ("max 100000", None), ("", None), ("50000 100000\n", 1)])
def test_the_quota_of_a_container(tmp_path, text, number):
    (tmp_path / "cpu.max").write_text(text)
    assert shares._quota(tmp_path / "cpu.max") == number


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= shares.cores() <= os.cpu_count()
