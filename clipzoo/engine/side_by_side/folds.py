"""Folds side by side: every run of a cross-validation in a process of its own, as many at once as asked for and as memory allows.

The parent checks config, data and work dir once, starts the processes, shows what they say, and writes the summary. Folds communicate
through files only, so the files are those of the sequential training, byte for byte if the number of threads is the same.

A fold that fails does not stop the others. The second process and those after it start only when the first one has told how much memory
its first step took.
"""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from clipzoo import errors
from clipzoo.config.settings import RuntimeSettings
from clipzoo.engine import work_dir
from clipzoo.engine.side_by_side.process import FoldOrder
from clipzoo.engine.side_by_side.view import FoldView
from clipzoo.engine.waiting import Interrupted
from clipzoo.errors import BuildError, ClipzooError, ProcessError
from clipzoo.records.inner import INNER_RESULT_FILE
from clipzoo.records.results import Summary
from clipzoo.runtime import device
from clipzoo.runtime.jobs import memory, shares
from clipzoo.runtime.jobs.child import Child
from clipzoo.runtime.jobs.scheduler import End, SideBySide, Task
from clipzoo.signals import described

if TYPE_CHECKING:
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.records.folds import Split

_TURN = 0.05  # seconds to wait for a message


def train_side_by_side(
    validation: CrossValidation, jobs: int | Literal["auto"], fold: int | None = None, *, accept_changed_data: bool = False
) -> Summary | None:
    """Train all folds, or one of them, several runs at a time; see ``CrossValidation.train``, which is called if it is one at a time.

    Args:
        validation: A cross-validation that has not been started.
        jobs: Number of processes; ``'auto'`` for as many as cores and memory allow.
        fold: Number of the fold, counted from 1; ``None`` for all. Inner runs of one fold are also trained side by side.
        accept_changed_data: See ``CrossValidation.train``.

    Raises:
        BuildError: The memory is too small for ``jobs`` processes.
        ClipzooError: A fold could not be trained, after the others were.
        Interrupted: A signal ended the processes, which have written their checkpoints; the same call resumes them.
    """
    splits = validation.chosen(fold)
    tasks = tasks_of(validation, splits)
    settings = RuntimeSettings.of(validation.config)
    number = shares.num_jobs(jobs, sum(not task.after for task in tasks), settings.threads)
    if number == 1:
        return validation.train(fold, accept_changed_data=accept_changed_data)
    with validation.opened(splits[0], accept_changed_data=accept_changed_data) as log:
        forget(validation)
        FoldsSideBySide(validation, log, number, is_asked_for=jobs != "auto").train(tasks, settings)
        return validation.summarise(log)


def tasks_of(validation: CrossValidation, splits: list[Split]) -> list[Task]:
    """A task for every run that is not done; a fold comes after its inner runs."""
    tasks = []
    for split in splits:
        if work_dir.is_done(validation.folder / split.name):
            continue
        inner = [
            part.name
            for part in validation.inner.get(split.name, ())
            if not (validation.folder_of(part, split) / INNER_RESULT_FILE).exists()
        ]
        tasks += [*(Task(name) for name in inner), Task(split.name, after=tuple(inner))]
    return tasks


def forget(validation: CrossValidation) -> None:
    """Free the run that was built to see whether that is possible: the processes build their own."""
    for runner in validation.rehearsed.values():
        runner.close()
    validation.rehearsed.clear()
    gc.collect()
    device.release_memory()


@dataclass
class FoldsSideBySide:
    """The processes of one cross-validation.

    Attributes:
        validation: The cross-validation, whose work dir is open.
        log: Its log.
        number: Number of processes.
        is_asked_for: Whether the user asked for this number; otherwise it is lowered if the memory is too small.
    """

    validation: CrossValidation
    log: logging.Logger
    number: int
    is_asked_for: bool
    messages: SimpleQueue = field(default_factory=SimpleQueue)
    children: list[Child] = field(default_factory=list)  # also of the past
    failures: dict[str, ClipzooError] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)  # signals that others sent to the processes
    is_open: bool = False  # whether processes may begin without waiting for the first
    view: FoldView = field(init=False)

    def train(self, tasks: list[Task], settings: RuntimeSettings) -> None:
        """Run all tasks, and raise what went wrong.

        Raises:
            ClipzooError: See ``train_side_by_side``.
            Interrupted: A signal ended the processes.
        """
        validation = self.validation
        slots = shares.slots(self.number, [settings.device], gpus=device.gpus_for(settings.device))
        self.greet(tasks, settings)
        self.view = FoldView.on(validation.console, len(tasks), self.number)
        try:
            with validation.interrupt.listening() as interrupt:
                ends = SideBySide(slots, self.start, self.ended, self.turn).run(tasks, interrupt)
                if interrupt.signal is not None:
                    raise Interrupted(interrupt.signal)
        finally:
            self.view.close()
            for child in self.children:
                child.dismiss()
        self.raise_failures([task.name for task in tasks if ends.get(task.name) is None])

    def greet(self, tasks: list[Task], settings: RuntimeSettings) -> None:
        """Log what is done already, how many processes work, and what each of them has."""
        names = {task.name for task in tasks}
        for split in self.validation.folds.splits:
            if split.name not in names and work_dir.is_done(self.validation.folder / split.name):
                self.log.info(f"{split.name}: already done, skipped")
        threads = settings.threads or int(shares.share(self.number)[shares.THREADS])
        self.log.info(f"{len(tasks)} runs, {self.number} side by side with {threads} threads each")
        if settings.threads is None and threads != shares.cores():
            self.log.info(
                f"note: one run alone would have {shares.cores()} threads, which changes the last digits. "
                f"Set runtime.threads={threads} for the same results with and without --jobs"
            )

    def start(self, task: Task, slot: shares.Slot) -> Child | End:
        """Give a run to a process that has done its own, or to a new one."""
        child = next((child for child in self.children if child.is_free and child.environment == slot.environment), None)
        try:
            child = child or self.new_child(slot)
        except OSError as error:
            self.fail(task.name, ProcessError(f"{task.name}: its process could not be started ({error.strerror or error})"))
            return End.BADLY
        child.take(task.name)
        self.let_begin()
        return child

    def new_child(self, slot: shares.Slot) -> Child:
        """Start a process."""
        validation, folder = self.validation, str(self.validation.folder.absolute())
        order = FoldOrder(
            config=validation.config.plain(),
            name=validation.config.name,
            folder=folder,
            folds=validation.folds.digest,
            introduces=not self.children,
            has_bars=self.view.has_bars,
            commands=sys.argv[0],
        )
        module = "clipzoo.engine.side_by_side.process"
        child = Child(module, order, title=[folder], environment=slot.environment, messages=self.messages)
        self.children.append(child)
        return child

    def turn(self) -> None:
        """Deal with the messages of all processes, or wait a moment for one."""
        with suppress(Empty):
            self.hear(*self.messages.get(timeout=_TURN))
            while True:
                self.hear(*self.messages.get_nowait())

    def hear(self, child: Child, kind: str, content: Any) -> None:
        """Deal with a message of a process."""
        if kind == "log":
            self.log.log(content[0], "%s", content[1])
        elif kind == "line":
            self.log.info("%s: %s", child.task, content)
        elif kind == "bar":
            self.view.show(child.task, content)
        elif kind == "hide":
            self.view.hide(content)
        elif kind == "ready":
            child.memory = content
            self.let_begin()
        elif kind == "memory" and not self.is_open:
            self.open(memory.Taken(**content))
        elif kind == "done":
            child.is_done = True
        elif kind == "error":
            self.failures[child.task] = getattr(errors, content[0], ClipzooError)(content[1])
        elif kind == "stopped":
            self.stops[child.task] = content

    @property
    def working(self) -> list[Child]:
        """The processes that have a run."""
        return [child for child in self.children if not child.is_done]

    def let_begin(self) -> None:
        """Let processes begin that are ready: all of them, or a single one while nobody knows how much memory it takes."""
        for child in self.working:
            if child.memory is not None and not child.has_begun and (self.is_open or not any(other.has_begun for other in self.working)):
                child.begin()

    def open(self, taken: memory.Taken) -> None:
        """The first process knows how much memory it takes: let as many others begin as there is room for.

        Raises:
            BuildError: The user asked for more.
        """
        self.is_open = True
        fit = fitting(self.number, taken.used, memory.available(), [child.memory or 0 for child in self.working if not child.has_begun])
        where, need, free = "memory", taken.used, memory.available()
        on_gpu = fitting_gpu(self.number, taken.gpu_used, taken.gpu_free)
        if on_gpu < fit:
            fit, where, need, free = on_gpu, "GPU memory", taken.gpu_used, taken.gpu_free
        if fit < self.number:
            line = f"a run takes {memory.in_words(need)} of {where}, and {memory.in_words(free)} are free beside the first"
            if self.is_asked_for:
                raise BuildError(f"--jobs {self.number}: {line}. Use --jobs {fit} or --jobs auto, or lower data.batch_size")
            self.log.info(f"{line}: {fit} at a time")
            self.close_slots(self.number - fit)
        self.let_begin()

    def close_slots(self, number: int) -> None:
        """Use so many places less."""
        waiting = [child for child in self.working if not child.has_begun]
        for child in waiting[len(waiting) - number :]:
            child.dismiss()
            child.memory = None  # so that it does not begin

    def ended(self, task: Task, status: int, seconds: float) -> End:
        """How a run ended."""
        self.turn()
        child = next(child for child in self.children if child.task == task.name)
        child.is_done = True
        end = End.NOT_BEGUN if not child.has_begun and status == 0 else End.BADLY if status else End.WELL
        self.is_open |= end is End.WELL  # also without a step, such as a fold that only had to be scored
        if end is not End.NOT_BEGUN:
            self.view.ended(task.name, seconds)
        if end is End.BADLY and self.validation.interrupt.signal is None:
            failure = ProcessError(f"{task.name}: {self.describe(task.name, status)}. Start again to resume it")
            self.fail(task.name, self.failures.get(task.name, failure))
        self.let_begin()
        return end

    def describe(self, name: str, status: int) -> str:
        """Why a process ended that nobody asked to."""
        if name in self.stops:
            return f"its process was asked to end by {described(self.stops[name])}, and has written its checkpoint"
        if status >= 0:
            return f"its process ended with status {status}; the lines above say why"
        out_of_memory = ", as the system does when memory runs out" if -status == 9 else ""
        return f"its process was killed by {described(-status)}{out_of_memory}"

    def fail(self, name: str, error: ClipzooError) -> None:
        """Record the failure of a run, and say it at once if others go on."""
        self.failures[name] = error
        if self.working:
            self.log.error(f"error: {error}  (the other runs go on)")

    def raise_failures(self, dropped: list[str]) -> None:
        """Raise the failures as one error of the first one's type."""
        if not self.failures:
            return
        found = list(self.failures.values())
        lines = list(dict.fromkeys(str(error) for error in found))
        lines += [f"{', '.join(dropped)}: not trained, as an inner run failed"] if dropped else []
        raise type(found[0])("\n".join(lines))


def fitting(number: int, need: int, free: int | None, ready: list[int]) -> int:
    """How many of ``number`` processes fit into the memory.

    Args:
        number: Number of processes, the first of which has what it needs.
        need: Bytes that a process needs.
        free: Bytes that are free now; ``None`` if nobody knows.
        ready: Bytes that processes which wait have already.
    """
    if free is None:
        return number
    room, fit = memory.SPARE * free, 1
    for index in range(number - 1):
        room -= max(need - (ready[index] if index < len(ready) else 0), 0)
        if room < 0:
            break
        fit += 1
    return fit


def fitting_gpu(number: int, need: int, free: int) -> int:
    """How many of ``number`` processes fit on the GPUs, which take turns; ``free`` is what the first one's GPU has left."""
    if not need:
        return number
    return max(device.num_gpus(), 1) * (1 + int(memory.SPARE * free / need))
