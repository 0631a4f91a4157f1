"""Worker processes that read images. Every wait is bounded, a dead worker is reported in one line, and no worker outlives the loader.

Torch reports the death of a worker by an exception at an arbitrary point of the training process; here it is an error of the wait that
the worker left unanswered.
"""

from __future__ import annotations

import itertools
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
from clipzoo.datasets.batches.parcels import Parcel
from clipzoo.errors import BuildError, ClipzooError, ProcessError, first_line

TIMEOUT = 1800.0  # seconds; default of runtime.timeout
_SLICE = 1.0  # seconds of a wait, after which signals and dead workers are noticed
_GRACE = 3.0  # seconds for a worker to end when asked to
_KILLED = 5.0  # seconds for a killed worker to disappear, unless it hangs in a system read
_LOOK = 0.02  # seconds between two looks for a dying worker
_DYING = 2.0  # seconds between the closing of a dying worker's sockets and its end, at most


class Watch(Protocol):
    """Interface of whoever waits for batches."""

    def waits(self, seconds: float) -> None:
        """Called before every batch (with 0 seconds) and every second of a wait; may raise to end the wait."""

    def note(self, line: str) -> None:
        """Called with a note for the user."""


class Loader(DataLoader):
    """Batches in order, read by worker processes or, with ``num_workers=0``, by this one.

    A ``ClipzooError`` returned by a worker is raised here unchanged; torch would re-raise a worker's exception with its tracebacks.
    Close the loader after use; a closed loader restarts on demand.

    Args:
        dataset: Dataset, as for ``DataLoader``. If it has a method ``after_batch``, this is called after each batch in the process that
            read it, and returns lines for the user.
        collate: Function that builds a batch, or returns a ``ClipzooError``.
        num_workers: Number of worker processes.
        name: Description of what is read, for messages.
        timeout: Maximum seconds per batch.
        options: Further arguments of ``DataLoader``.

    Attributes:
        collate: The argument.
        watch: Object that is notified of waits.
    """

    def __init__(self, dataset: object, collate: Callable, num_workers: int, *, name: str, timeout: float = TIMEOUT, **options: object):
        options.setdefault("generator", torch.Generator())  # separate, so that loading does not use the run's generator
        workers = {"num_workers": num_workers, "persistent_workers": num_workers > 0, "worker_init_fn": _begin}
        super().__init__(dataset, collate_fn=_Sent(collate, dataset), **workers, **options)
        self.collate, self.name, self.seconds = collate, name, timeout
        self.watch: Watch | None = None
        self._stream: Iterator | None = None  # of parcels from several passes
        self._next: tuple[int, int] | None = None  # the place of its next batch
        self._end = 0  # the pass before which it ends
        self._turn: object = None  # of the iterator that reads it

    def __iter__(self) -> Iterator:
        batches = self._parcels()
        while True:
            if self.watch is not None:
                self.watch.waits(0.0)
            parcel = next(batches, None)
            if parcel is None:
                return
            for line in parcel.notes:
                self.say(line)
            batch = parcel.opened()
            if isinstance(batch, ClipzooError):
                raise batch
            yield batch

    def _parcels(self) -> Iterator[Parcel]:
        """One pass. If the batch sampler says where it is (``EpochBatches.place``), workers may be ahead of it, in its next pass."""
        place = getattr(self.batch_sampler, "place", None)
        if place is None:
            yield from super().__iter__()
            return
        if not self.num_workers:
            yield from itertools.islice(super().__iter__(), len(self) - place[1])
            return
        if place != self._next:
            self._stream, self._end = super().__iter__(), self.batch_sampler.end
        mine = self._turn = object()
        epoch, start = place
        for batch in range(start, len(self)):
            if self._turn is not mine:
                raise BuildError(f"the loader of the {self.name} was closed or started again; this pass of it has ended")
            self._next = None  # whatever interrupts the wait, the stream is not used again
            parcel = next(self._stream)
            ends = batch + 1 == len(self)
            self._next = (epoch, batch + 1) if not ends else (epoch + 1, 0) if epoch + 1 < self._end else None
            yield parcel

    def say(self, line: str) -> None:
        """Pass a note on to the user."""
        if self.watch is not None:
            self.watch.note(line)

    def close(self) -> None:
        """End the worker processes, if any."""
        workers, self._iterator = self._iterator, None
        self._stream = self._next = self._turn = None
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
                f"data.num_workers: {self.num_workers} workers for the {self.name} could not be started ({error.strerror or error}). "
                "Use fewer workers"
            ) from error


class _Workers(_MultiProcessingDataLoaderIter):
    """Torch's worker processes, with a different way to wait for them."""

    waiting: ClassVar[_Workers | None] = None
    polling: ClassVar[bool] = False
    missed: ClassVar[bool] = False
    is_listening: ClassVar[bool] = False

    def __init__(self, loader: Loader):
        self.loader, self.since = loader, None
        super().__init__(loader)
        if self._worker_pids_set:  # torch would raise on their death at an arbitrary point
            signal_handling._remove_worker_pids(id(self))
            self._worker_pids_set = False
        if not _Workers.is_listening and threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
            _Workers.is_listening = True
            _listen()

    def _try_get_data(self, timeout: float = _SLICE) -> tuple[bool, Any]:
        """Wait for one slice of time: whether a batch arrived, and the batch."""
        self.since = self.since or time.monotonic()
        _Workers.waiting = self  # a half-sent batch of a dead worker would be waited for forever
        try:
            self.check()
            found, data = super()._try_get_data(_SLICE)
        except (OSError, EOFError, RuntimeError) as error:
            raise self.unreceived(error, ". Use fewer workers, or raise the limit of open files: ulimit -n 65536") from error
        finally:
            _Workers.waiting = None
        if found:
            self.since = None
            return True, data
        self.patience(time.monotonic() - self.since)
        return False, None

    def _get_data(self) -> Any:
        try:
            return super()._get_data()
        except RuntimeError as error:  # of the thread that pins memory
            raise self.unreceived(error) from error

    def unreceived(self, error: Exception, advice: str = "") -> ProcessError:
        """The error of a reception that failed while all workers live."""
        self.look_for_the_dying()
        return ProcessError(
            f"data.num_workers: cannot receive from the worker processes of the {self.loader.name} ({first_line(error)}){advice}"
        )

    def look_for_the_dying(self) -> None:
        """Refuse to wait for a worker that is dead or about to be: the system closes the sockets of a process before it ends it.

        Raises:
            ProcessError: A worker is dead.
        """
        end = time.monotonic() + _DYING
        self.check()
        while time.monotonic() < end:
            time.sleep(_LOOK)
            self.check()

    def check(self) -> None:
        """Refuse to wait for a dead worker.

        Raises:
            ProcessError: A worker is dead.
        """
        while True:
            _Workers.polling, _Workers.missed = True, False
            try:
                dead = next((worker for worker in self._workers if not worker.is_alive()), None)
            finally:
                _Workers.polling = False
            if dead is not None:
                raise ProcessError(_obituary(self.loader, dead.pid, dead.exitcode))
            if not _Workers.missed:
                return

    def patience(self, seconds: float) -> None:
        """Continue waiting, unless the timeout has passed.

        Raises:
            ProcessError: The timeout has passed.
        """
        if self.loader.watch is not None:
            self.loader.watch.waits(seconds)
        if seconds > self.loader.seconds:
            raise ProcessError(
                f"data.num_workers: the {len(self._workers)} worker processes for the {self.loader.name} delivered no batch for "
                f"{self.loader.seconds:g} s (runtime.timeout). Is the disk or network share with the images available? "
                "data.num_workers=0 reads in the training process"
            )

    def end(self) -> None:
        """Ask all workers to end, and kill those that do not."""
        ending = threading.Thread(target=self._shutdown_workers, daemon=True)  # it may wait for a half-sent batch of a dead worker
        ending.start()
        ending.join(_GRACE)
        alive = [worker for worker in self._workers if worker.is_alive()]
        for worker in alive:
            worker.kill()
        for worker in alive:
            worker.join(_KILLED)
        ending.join(_GRACE)


def _listen() -> None:
    """Interrupt the read of a half-sent batch when its worker dies."""
    previous = signal.getsignal(signal.SIGCHLD)

    def child_ended(number: int, frame: object) -> None:
        if callable(previous):
            previous(number, frame)
        if _Workers.polling:  # an error here would interrupt Popen.poll between reaping a worker and noting that it is dead
            _Workers.missed = True
        elif _Workers.waiting is not None:
            _Workers.waiting.check()

    signal.signal(signal.SIGCHLD, child_ended)


def _obituary(loader: Loader, pid: int | None, status: int) -> str:
    died = f"was killed by {signals.described(-status)}" if status < 0 else f"ended with exit status {status}"
    advice = "data.num_workers=0 reads in the training process and shows where"
    if status == -signal.SIGKILL:
        advice = "Was there too little memory? Use fewer workers or a smaller data.batch_size; training resumes from the last checkpoint"
    elif status == -getattr(signal, "SIGBUS", 0):
        advice = "Was /dev/shm full? In Docker, start the container with --shm-size=8g or --ipc=host, or use data.num_workers=0"
    return f"data.num_workers: one of {loader.num_workers} worker processes for the {loader.name} {died} (process {pid}). {advice}"


class _Sent:
    """What a process does with the samples of a batch."""

    def __init__(self, collate: Callable, dataset: object):
        self.collate = collate
        self.after_batch = getattr(dataset, "after_batch", list)

    def __call__(self, samples: list) -> Parcel:
        parcel = Parcel(self.collate(samples), self.after_batch())
        return parcel if torch.utils.data.get_worker_info() is None else parcel.pack()


def _begin(_: int) -> None:
    signals.left_to_the_parent()
