"""Processes that read images: what kills them, what keeps them waiting, what they have no room for; each is one line, and none stays."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from clipzoo.datasets.batches import parcels, workers
from clipzoo.datasets.batches.workers import Loader
from clipzoo.errors import DataError, ProcessError


class Cases(torch.utils.data.Dataset):
    """Eight numbers; something happens in the process that reads one of them."""

    def __init__(self, happens=lambda: None, at=3, size=1):
        self.happens, self.at, self.size = happens, at, size

    def __len__(self):
        return 8

    def __getitem__(self, row):
        if row == self.at:
            self.happens()
        return torch.full((self.size,), float(row))


class Heard:
    """A ``Watch`` that remembers, and may end a wait."""

    def __init__(self, patience=None):
        self.notes, self.patience = [], patience

    def waits(self, seconds):
        if self.patience is not None and seconds > self.patience:
            raise InterruptedError

    def note(self, line):
        self.notes.append(line)


def loader_of(cases, num_workers=1, **options):
    return Loader(cases, torch.stack, num_workers, name="test cases", batch_size=2, **options)


def values(loader):
    return [batch[:, 0].tolist() for batch in loader]


WHOLE = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]


def kill_me(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def test_the_death_of_a_second_worker_does_not_interrupt_the_look_at_the_first():
    """``Popen.poll`` must note what it has reaped, or the worker would seem alive for ever."""

    class Worker:
        pid, exitcode = 1, -9

        def __init__(self, dies_while_looked_at=False):
            self.dies_while_looked_at, self.looks = dies_while_looked_at, 0
            self.dead = False

        def is_alive(self):
            alive = not self.dead
            if self.dies_while_looked_at and not self.looks:
                self.dead = True
                os.kill(os.getpid(), signal.SIGCHLD)  # its handler runs before the next line
            self.looks += 1
            return alive

    previous, found = signal.getsignal(signal.SIGCHLD), object.__new__(workers._Workers)
    found._shutdown = True
    found.loader, found._workers = loader_of(Cases(lambda: None), num_workers=2), [Worker(dies_while_looked_at=True), Worker()]
    workers._listen()
    workers._Workers.waiting = found
    try:
        with pytest.raises(ProcessError, match="was killed by signal 9"):
            found.check()
    finally:
        workers._Workers.waiting = None
        signal.signal(signal.SIGCHLD, previous)
    assert [worker.looks for worker in found._workers] == [2, 1]


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (kill_me, r"was killed by signal 9 \(Killed\) \(process \d+\)\. Was there too little memory\? Use fewer workers"),
        (lambda: kill_me(signal.SIGBUS), r"signal 7 .* --shm-size=8g"),
        (lambda: os._exit(3), r"ended with exit status 3 .* data.num_workers=0 reads in the training process"),
    ],
)
def test_a_worker_that_dies_is_one_line_and_leaves_none_behind(happens, words):
    loader = loader_of(Cases(happens), num_workers=2)
    with pytest.raises(ProcessError, match=words) as caught, closing(loader):
        values(loader)
    assert str(caught.value).startswith("data.num_workers: one of 2 worker processes for the test cases ")
    assert "\n" not in str(caught.value) and not multiprocessing.active_children()


def test_a_worker_that_dies_between_two_batches_interrupts_nothing_but_the_next_wait():
    """Torch's own handler raises in the middle of whatever the process does."""
    with closing(loader_of(Cases())) as loader:
        batches = iter(loader)
        next(batches)
        (child,) = multiprocessing.active_children()
        os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.2)  # here torch would raise
        with pytest.raises(ProcessError, match="signal 9"):
            list(batches)
        with pytest.raises(ProcessError, match="signal 9"):
            values(loader)
    assert values(loader) == WHOLE, "a closed loader starts again"
    loader.close()


@pytest.mark.slow
def test_a_message_that_a_dead_worker_has_half_sent_is_not_waited_for(monkeypatch):
    """The worker is stopped while it sends much more than a pipe holds, and killed while this process reads."""
    monkeypatch.setattr(parcels, "has_room", lambda size: False)
    with closing(loader_of(Cases(size=2**22))) as loader:
        batches = iter(loader)
        next(batches)
        (child,) = multiprocessing.active_children()
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGSTOP)
        killer = subprocess.Popen([sys.executable, "-S", "-c", f"import os, time; time.sleep(0.5); os.kill({child.pid}, 9)"])
        with pytest.raises(ProcessError, match="signal 9"):
            list(batches)
        killer.wait(timeout=20)


def test_an_error_of_a_plugin_is_raised_at_once_and_as_it_is(monkeypatch):
    def looked(self):
        raise AssertionError("nobody is dying")

    monkeypatch.setattr(workers._Workers, "look_for_the_dying", looked)
    with closing(loader_of(Cases(missing))) as loader, pytest.raises(FileNotFoundError, match="of a plugin"):
        values(loader)


def missing():
    raise FileNotFoundError("of a plugin")


def test_the_end_of_the_thread_that_pins_is_one_line(monkeypatch):
    def ended(self):
        raise RuntimeError("Pin memory thread exited unexpectedly")

    monkeypatch.setattr(workers, "_DYING", 0.1)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_get_data", ended)
    with (
        closing(loader_of(Cases())) as loader,
        pytest.raises(ProcessError, match=r"cannot receive .*\(Pin memory thread exited unexpectedly\)"),
    ):
        values(loader)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError(), RuntimeError("unable to open")])
def test_a_dying_worker_that_has_closed_its_sockets_is_named(monkeypatch, error):
    """The system closes them first, so that an error of the reception comes before the death that caused it."""
    with closing(loader_of(Cases())) as loader:
        batches = iter(loader)
        next(batches)
        (child,) = multiprocessing.active_children()

        def fails(self, timeout):
            threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL)).start()
            raise error

        monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", fails)
        with pytest.raises(ProcessError, match=r"one of 1 worker processes for the test cases was killed by signal 9"):
            list(batches)


def test_an_error_of_the_reception_from_living_workers_is_one_line(monkeypatch):
    def fails(self, timeout):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(workers, "_DYING", 0.1)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", fails)
    with closing(loader_of(Cases())) as loader, pytest.raises(ProcessError, match=r"cannot receive .*Too many open files.*ulimit -n"):
        values(loader)


def test_the_wait_for_a_batch_has_an_end_and_a_worker_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(workers, "_GRACE", 0.2)
    loader = loader_of(Cases(lambda: time.sleep(300)), timeout=0.5)
    started = time.monotonic()
    with pytest.raises(ProcessError, match=r"the 1 worker processes for the test cases delivered no batch for 0.5 s \(runtime.timeout\)"):
        with closing(loader):
            values(loader)
    assert time.monotonic() - started < 60 and not multiprocessing.active_children()


@pytest.mark.slow
def test_who_waits_may_end_the_wait(monkeypatch):
    monkeypatch.setattr(workers, "_GRACE", 0.2)
    loader = loader_of(Cases(lambda: time.sleep(300)))
    loader.watch = Heard(patience=0.1)
    with pytest.raises(InterruptedError), closing(loader):
        values(loader)
    loader = loader_of(Cases(), num_workers=0)
    loader.watch = Heard(patience=-1)
    with pytest.raises(InterruptedError):
        values(loader)


def test_signals_to_workers_are_the_parents_affair():
    with closing(loader_of(Cases())) as loader:
        batches = iter(loader)
        found = [next(batches)]
        (child,) = multiprocessing.active_children()
        assert os.getpgid(child.pid) == child.pid
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(child.pid, number)
        found += batches
    assert [batch[:, 0].tolist() for batch in found] == WHOLE and child.exitcode == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(workers.signals.ENDING), "held back during the start only"


def test_batches_without_room_in_shared_memory_come_through_pipes(monkeypatch):
    monkeypatch.setattr(parcels, "LARGE", 4)
    monkeypatch.setattr(parcels, "has_room", lambda size: False)
    with closing(loader_of(Cases(), num_workers=2)) as loader:
        loader.watch = Heard()
        assert values(loader) == WHOLE
        assert len(set(loader.watch.notes)) == 1 and "--shm-size=8g" in loader.watch.notes[0]


def test_shared_memory_that_another_process_took_first_is_no_error(monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(parcels, "LARGE", 4)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with closing(loader_of(Cases())) as loader:
        assert values(loader) == WHOLE


def test_workers_that_cannot_be_started_are_one_line(monkeypatch):
    def refuse(process):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.Process, "start", refuse)
    with pytest.raises(
        ProcessError, match="2 workers for the test cases could not be started .Resource temporarily unavailable.. Use fewer"
    ):
        values(loader_of(Cases(), num_workers=2))


def test_what_a_worker_found_wrong_is_raised_as_it_is():
    loader = Loader(Cases(), lambda samples: DataError("x.png: damaged"), 1, name="test cases", batch_size=2)
    with pytest.raises(DataError, match="^x.png: damaged$"), closing(loader):
        values(loader)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 4])
def test_one_mebibyte_of_shared_memory_is_enough(num_workers, tmp_path):
    """As in a container with little ``/dev/shm``: a tmpfs of our own there, which takes the right to mount one."""
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, timeout=60).returncode:
        pytest.skip("this process may not mount a tmpfs in a namespace of its own")
    code = f"""
import sys
sys.path[:0] = [{os.path.dirname(__file__)!r}]
import test_workers as t
loader = t.loader_of(t.Cases(size=2 ** 18), num_workers={num_workers})
assert [b[:, -1].tolist() for _ in range(3) for b in loader] == 3 * t.WHOLE
loader.close()
"""
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]
