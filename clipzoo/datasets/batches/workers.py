"""The processes that read images. Every wait for one has an end, one that dies is one line, and none outlives the loader.

Torch's own answer to a worker that dies is an exception in the middle of whatever the training process does at that moment; here it is an
error of the wait that the worker left unanswered.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from clipzoo import signals
from clipzoo.errors import ClipzooError, ProcessError

TIMEOUT = 1800.0  # seconds; what runtime.timeout is by default
_SLICE = 1.0  # of a wait: so soon a signal or a dead worker is noticed
_RESERVE = 2**28  # bytes of shared memory that are left free
_GRACE = 3.0  # seconds in which a worker ends by itself when it is asked to
_KILLED = 5.0  # seconds in which one that was killed is gone, unless it hangs in a read of the system's

_NO_SHARED_MEMORY = (
    "note: /dev/shm has no room for the batches of the worker processes, so they come through pipes, which is slower. "
    "In Docker, start the container with --shm-size=8g or --ipc=host"
)


class Watch(Protocol):
    """Who waits for batches."""

    def waits(self, seconds: float) -> None:
        """Told before every batch (0 seconds), and every second of a wait; may raise to end it."""

    def note(self, line: str) -> None:
        """Told what its user should know."""


class Loader(DataLoader):
    """Batches in order, read by worker processes or, with ``num_workers=0``, by this one.

    What a worker returns as a ``ClipzooError`` is raised here as it is: what a worker raises, torch raises anew with its tracebacks.
    Close it in the end; a closed loader starts again where it is asked to.

    Args:
        dataset: As for ``DataLoader``.
        collate: Makes a batch, or returns a ``ClipzooError``.
        num_workers: Processes.
        name: What is read, in words, for messages.
        timeout: Seconds that a batch may take.
        options: Of ``DataLoader``.

    Attributes:
        watch: Who is told of waits.
    """

    def __init__(self, dataset: object, collate: Callable, num_workers: int, *, name: str, timeout: float = TIMEOUT, **options: object):
        options.setdefault("generator", torch.Generator())  # its own, so that loading draws nothing from the run's generator
        workers = {"num_workers": num_workers, "persistent_workers": num_workers > 0, "worker_init_fn": _begin}
        super().__init__(dataset, collate_fn=_Sent(collate), **workers, **options)
        self.name, self.seconds = name, timeout
        self.watch: Watch | None = None

    def __iter__(self) -> Iterator:
        batches = super().__iter__()
        while True:
            if self.watch is not None:
                self.watch.waits(0.0)
            batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, Parcel):
                batch = batch.opened()
                self.say(_NO_SHARED_MEMORY)
            if isinstance(batch, ClipzooError):
                raise batch
            yield batch

    def say(self, line: str) -> None:
        """Pass on what the user should know."""
        if self.watch is not None:
            self.watch.note(line)

    def close(self) -> None:
        """End the worker processes, if there are any."""
        workers, self._iterator = self._iterator, None
        if workers is not None:
            workers.end()

    def _get_iterator(self) -> object:
        if self.num_workers == 0:
            return super()._get_iterator()
        try:
            with signals.held():
                return _Workers(self)
        except OSError as error:  # no more processes, memory, open files or room for a semaphore
            raise ProcessError(
                f"data.num_workers: {self.num_workers} processes to read the {self.name} cannot be started ({error.strerror or error}). "
                "Use fewer"
            ) from error


class _Workers(_MultiProcessingDataLoaderIter):
    """Torch's worker processes, with another way to wait for them."""

    waiting: ClassVar[_Workers | None] = None
    is_listening: ClassVar[bool] = False

    def __init__(self, loader: Loader):
        self.loader, self.since = loader, None
        super().__init__(loader)
        if self._worker_pids_set:  # torch would raise their deaths wherever the training process is
            signal_handling._remove_worker_pids(id(self))
            self._worker_pids_set = False
        if not _Workers.is_listening and threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
            _Workers.is_listening = True
            _listen()

    def _try_get_data(self, timeout: float = _SLICE) -> tuple[bool, Any]:
        """One slice of a wait: whether there is something, and what."""
        self.since = self.since or time.monotonic()
        _Workers.waiting = self  # what a worker that dies has half sent would be waited for without an end
        try:
            self.check()
            found, data = super()._try_get_data(_SLICE)
        except (OSError, EOFError, RuntimeError) as error:
            self.check()
            raise ProcessError(
                f"data.num_workers: what the processes that read the {self.loader.name} send cannot be received "
                f"({(str(error) or type(error).__name__).splitlines()[0][:160]}). Use fewer, or raise the limit of open files: "
                "ulimit -n 65536"
            ) from error
        finally:
            _Workers.waiting = None
        if found:
            self.since = None
            return True, data
        self.patience(time.monotonic() - self.since)
        return False, None

    def _next_data(self) -> Any:
        try:
            return super()._next_data()
        except (OSError, EOFError, RuntimeError):  # of the thread that pins memory, too
            self.check()
            raise

    def check(self) -> None:
        """Refuse to wait for a worker that is dead.

        Raises:
            ProcessError: One is.
        """
        for worker in self._workers:
            if not worker.is_alive():
                raise ProcessError(_obituary(self.loader, worker.pid, worker.exitcode))

    def patience(self, seconds: float) -> None:
        """Go on waiting, or not.

        Raises:
            ProcessError: It took too long.
        """
        if self.loader.watch is not None:
            self.loader.watch.waits(seconds)
        if seconds > self.loader.seconds:
            raise ProcessError(
                f"data.num_workers: the {len(self._workers)} processes that read the {self.loader.name} gave no batch for "
                f"{self.loader.seconds:g} s (runtime.timeout). Is the disk or the network share of the images alive? "
                "data.num_workers=0 reads in the training process"
            )

    def end(self) -> None:
        """Ask all workers to end, and kill those that do not."""
        ending = threading.Thread(target=self._shutdown_workers, daemon=True)  # it may wait for what a dead worker has half sent
        ending.start()
        ending.join(_GRACE)
        alive = [worker for worker in self._workers if worker.is_alive()]
        for worker in alive:
            worker.kill()
        for worker in alive:
            worker.join(_KILLED)
        ending.join(_GRACE)


def _listen() -> None:
    """Interrupt a read of what a worker has half sent when it dies."""
    previous = signal.getsignal(signal.SIGCHLD)

    def child_ended(number: int, frame: object) -> None:
        if callable(previous):
            previous(number, frame)
        if _Workers.waiting is not None:
            _Workers.waiting.check()

    signal.signal(signal.SIGCHLD, child_ended)


def _obituary(loader: Loader, pid: int | None, status: int) -> str:
    died = f"was ended by {signals.described(-status)}" if status < 0 else f"ended with exit status {status}"
    advice = "data.num_workers=0 reads in the training process and shows where"
    if status == -signal.SIGKILL:
        advice = "Was there no memory left? Use fewer workers or a smaller data.batch_size; training goes on from the last checkpoint"
    elif status == -getattr(signal, "SIGBUS", 0):
        advice = "Was /dev/shm full? In Docker, start the container with --shm-size=8g or --ipc=host, or use data.num_workers=0"
    return f"data.num_workers: one of {loader.num_workers} processes that read the {loader.name} {died} (process {pid}). {advice}"


class Parcel:
    """A batch that comes through a pipe.

    Args:
        batch: Anything that can be pickled.
    """

    def __init__(self, batch: object):
        self.content: bytes | None = pickle.dumps(batch)
        self.batch: Any = None

    def opened(self) -> Any:
        """The batch."""
        if self.content is not None:
            self.batch, self.content = pickle.loads(self.content), None
        return self.batch

    def pin_memory(self) -> Parcel:
        """The same with a batch in page-locked memory; the DataLoader calls this."""
        if hasattr(self.opened(), "pin_memory"):
            self.batch = self.batch.pin_memory()
        return self


class _Sent:
    """Lets a worker put its batches where the training process can read them: in shared memory, or where that is full, into a parcel.

    Torch would do so in a thread of the worker, whose error nobody hears: the batch is then waited for without an end.
    """

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, samples: list) -> Any:
        batch = self.collate(samples)
        if torch.utils.data.get_worker_info() is None:
            return batch
        tensors = list(tensors_of(batch))
        if not has_room(sum(tensor.nbytes for tensor in tensors)):
            return Parcel(batch)
        try:
            for tensor in tensors:
                tensor.share_memory_()
        except RuntimeError:  # another process was faster
            return Parcel(batch)
        return batch


def has_room(size: int) -> bool:
    """Does ``/dev/shm`` hold ``size`` more bytes, and keep what other libraries and the semaphores of later workers need?"""
    try:
        found = os.statvfs("/dev/shm")
    except (AttributeError, OSError):  # another system, which keeps shared memory elsewhere
        return True
    return found.f_bavail * found.f_frsize - size >= min(found.f_blocks * found.f_frsize // 4, _RESERVE)


def tensors_of(value: object) -> Iterator[torch.Tensor]:
    """All tensors in a batch: in dataclasses, sequences and dicts of any depth."""
    if isinstance(value, torch.Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors_of(getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_of(part)
    elif isinstance(value, dict):
        yield from tensors_of(list(value.values()))


def _begin(_: int) -> None:
    signals.left_to_the_parent()
