"""The training loop. Every operation that changes the run is a line below, in order; hooks only watch.

fit ── train_epoch ── begin_stage with train.unfreeze: which blocks are trained in this epoch
   │                ├─ step        forward, backward, clip, update, clamp, average
   │                └─ validate    in the middle of an epoch, with evaluation.every_steps
   ├── validate                    all captions are encoded once; the best weights are kept, and written with the next checkpoint
   └── save_if_due                 to resume bit for bit; written while training goes on
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from clipzoo.datasets.augmentations import mixed
from clipzoo.engine import build, checkpoint
from clipzoo.engine.checks import single_cases
from clipzoo.engine.epochs.best import replaces
from clipzoo.engine.evaluation import evaluate
from clipzoo.engine.state import Run
from clipzoo.engine.steps import unfreezing
from clipzoo.engine.steps.grad_cache import autocast, cached_backward, on_device, synchronised, total
from clipzoo.engine.waiting import Interrupted
from clipzoo.errors import DataError, TrainingError
from clipzoo.runtime import distributed, sharding
from clipzoo.runtime.seeds import derived_seed
from clipzoo.structures import Batch

# Messages of allocators that raise a plain RuntimeError: torch's for the CPU, and Apple's.
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "MPS backend out of memory")


def fit(run: Run) -> None:
    """Train to the last epoch, or until a hook stops the run.

    Raises:
        Interrupted: A signal ended the run; it can be resumed from ``checkpoint_latest.pth``.
        TrainingError: A loss is not finite, or the device ran out of memory.
        ProcessError: A process that reads images died, or returns no batch.
    """
    error: BaseException | None = None
    run.call("before_fit")
    try:
        train(run)
    except BaseException as cause:
        error = cause
        raise
    finally:
        try:
            if not isinstance(error, KeyboardInterrupt):  # which ends the process at once
                run.saver.close()
        except DataError as full:
            if error is None:
                raise
            run.log.warning(f"warning: {full}")  # and the error itself comes last
        finally:
            run.call("after_fit", error)


def train(run: Run) -> None:
    """All epochs that are left; if a signal ends them, the state between two batches is saved."""
    try:
        with memory_advice(run):
            while not run.ended or run.state.evaluating:
                if run.state.batch or not run.state.evaluating:
                    train_epoch(run)
                end_epoch(run)
    except Interrupted as stop:
        if stop.agreed:
            check_finite(run)
            checkpoint.save_latest(run)
        raise


def train_epoch(run: Run) -> None:
    """One pass over the training part, or over the rest of it; it ends early at the last step of the run."""
    state, started = run.state, time.perf_counter()
    begin_stage(run)
    run.parallel.train()
    run.batches.set_epoch(state.epoch, start=state.batch, end=run.total_epochs)
    if state.batch == 0:
        run.meter.reset()
        state.metrics, run.epoch_evaluation = {}, None
    images = 0
    if state.evaluating:  # interrupted by a signal
        validate(run)
    for group in groups_of(run.train.accumulation, run.train_loader) if run.stop_reason is None else ():
        set_learning_rate(run)
        step(run, group)
        state.step += 1
        state.batch += len(group)
        images += sum(batch.image_count for batch in group)
        run.call("after_step")
        if is_logged(run):
            check_finite(run)
        if state.batch == len(run.batches) or state.step == run.total_steps:
            break
        if run.evaluation.every_steps and state.step % run.evaluation.every_steps == 0:
            validate(run)
        if run.stop_reason is not None:
            break
        pause(run)
    state.epoch += 1
    state.batch = 0
    run.epoch_seconds = time.perf_counter() - started
    run.images_per_second = images * run.world_size / run.epoch_seconds


def end_epoch(run: Run) -> None:
    """Everything after the last step of an epoch; repeated from the start if a signal interrupted its evaluation.

    Raises:
        Interrupted: A signal ended the run.
    """
    run.epoch_losses, _ = run.joint_means()
    if evaluation_is_due(run):
        validate(run)
    run.call("after_epoch")
    if asked_to_end(run):
        raise Interrupted(run.interrupt.signal)
    if run.ended:
        checkpoint.save_latest(run)
    else:
        checkpoint.save_if_due(run)


def begin_stage(run: Run) -> None:
    """Unfreeze what ``train.unfreeze`` lists for this epoch; also after a restart, and in the middle of an epoch."""
    stages = run.train.unfreeze
    if stages is None or not unfreezing.enter_stage(run.model, stages, run.state.epoch):
        return
    run.parallel = run.model  # DDP holds the parameters trained when it was built: free it before building the next
    run.parallel = build.parallel(run.model, run.device, run.runtime.strategy)
    if run.is_main:
        run.log.info(f"{run.split.name}: from epoch {run.state.epoch + 1} on {unfreezing.describe_stage(run.model, stages)}")


def pause(run: Run) -> None:
    """Between two steps of an epoch: write a checkpoint if one is due, and stop if a signal was received.

    Raises:
        Interrupted: A signal ended the run.
    """
    if asked_to_end(run):
        raise Interrupted(run.interrupt.signal)
    every = run.runtime.save_every_steps
    if every and run.state.step % every == 0:
        check_finite(run)
        checkpoint.save_latest(run, background=True)


def step(run: Run, group: list[Batch]) -> None:
    """One optimizer step over ``group``; every case has the same weight however the group is divided into batches."""
    run.optimizer.zero_grad(set_to_none=True)
    if run.train.grad_cache:
        cached_backward(run, group)
    else:
        backward(run, group)
    if run.train.clip_grad is not None:
        run.scaler.unscale_(run.optimizer)
        sharding.clip_gradients(run.model.parameters(), run.train.clip_grad, table=run.token_table)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.model.after_step()
    if run.averaged is not None:
        run.averaged.update_parameters(run.model)


def backward(run: Run, group: list[Batch]) -> None:
    """Compute the gradients of the mean loss over the cases of ``group``, one batch after the other."""
    cases = sum(len(batch) for batch in group)
    for index, batch in enumerate(group):
        with synchronised(run, is_last=index == len(group) - 1):
            trained = on_device(run, batch)
            if run.mixings:
                trained = mixed(trained, run.mixings, mixing_seed(run, index))
            with autocast(run):
                losses = run.parallel(trained)
            run.scaler.scale(total(losses) * (len(batch) / cases)).backward()  # outside autocast
        run.meter.add(losses, len(batch), run.state.step + 1)


def mixing_seed(run: Run, index: int) -> int:
    """The seed of the draws of MixUp and CutMix for batch ``index`` of the next group: a function of the run's seed and the position."""
    return derived_seed(run.batches.seed, f"mixing of epoch {run.state.epoch}, batch {run.state.batch + index}")


def validate(run: Run) -> None:
    """Score the watched part, and keep the weights if none so far were better."""
    state = run.state
    if run.watched is None:
        return
    state.evaluating = True
    run.epoch_evaluation = evaluate(run, run.watched)
    state.evaluating = False
    state.metrics = run.epoch_evaluation.metrics
    value, epoch = state.metrics[run.selector.name], state.epoch + (state.batch > 0)
    state.curve.append([float(epoch), value])
    if replaces(value, state.best_score, run.selector.greater_is_better):
        state.best_score, state.best_epoch, state.best_step = value, epoch, state.step
        checkpoint.keep_best(run)
    run.call("after_eval")


def evaluation_is_due(run: Run) -> bool:
    """Whether the epoch that just ended is to be evaluated. The last one always is."""
    if run.state.step >= run.last_step:
        return True
    if run.stop_reason is not None:
        return False  # an evaluation in the middle of the epoch ended the training
    every_steps = run.evaluation.every_steps
    return run.state.step % every_steps == 0 if every_steps else run.state.epoch % run.evaluation.every == 0


def set_learning_rate(run: Run) -> None:
    """Set the learning rate of the next step: a pure function of the number of steps made, without skipped ones."""
    factor = run.schedule.factor(run.state.step - run.state.skipped, run.total_steps, run.steps_per_epoch)
    for group in run.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def groups_of(size: int, batches: Iterator[Batch]) -> Iterator[list[Batch]]:
    """Consecutive groups of ``size`` batches; the last may be shorter."""
    batches = iter(batches)
    while group := list(itertools.islice(batches, size)):
        yield group


def is_logged(run: Run) -> bool:
    """Whether this step waits for the device: every ``runtime.log_every`` steps; every step on a CPU, where waiting is almost free."""
    at_end = run.state.batch in (0, len(run.batches))
    return run.device.type == "cpu" or at_end or run.state.step % run.runtime.log_every == 0


def check_finite(run: Run) -> None:
    """Stop the run if a loss was not finite, and update the number of steps that the scaler skipped.

    Raises:
        TrainingError: A loss was not finite.
    """
    found = run.meter.not_finite()
    if found:
        step_, losses = found
        values = ", ".join(f"{name} = {value}" for name, value in losses.items())
        rates = ", ".join(f"{rate:.2e}" for rate in sorted({g["lr"] for g in run.optimizer.param_groups}))
        raise TrainingError(
            f"{run.split.name}: the loss is not finite at step {step_} (epoch {run.state.epoch + 1}): {values}; learning rate {rates}. "
            "Lower optimizer.lr, set train.clip_grad, or use runtime.precision='fp32'; checkpoints of earlier epochs are kept"
        )
    if run.scaler.is_enabled():
        counters = [values["step"] for values in run.optimizer.state.values() if "step" in values][:1]
        run.state.skipped = run.state.step - int(counters[0]) if counters else 0


def asked_to_end(run: Run) -> bool:
    """Whether any process received a signal. Processes exchange this at logged steps only; all must agree, or some would hang."""
    if distributed.world_size() == 1:
        return run.interrupt.signal is not None
    signals = [s for s in distributed.gathered(run.interrupt.signal) if s is not None] if is_logged(run) else []
    if signals:  # without one, keep any signal that arrived meanwhile for the next exchange
        run.interrupt.signal = signals[0]
    return bool(signals)


@contextmanager
def memory_advice(run: Run) -> Iterator[None]:
    """Replace an out-of-memory error inside by advice on what to lower.

    Raises:
        TrainingError: The device ran out of memory.
    """
    try:
        yield
    except RuntimeError as cause:
        if is_out_of_memory(cause):
            raise TrainingError(out_of_memory(run)) from cause
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the CPU's allocator, raised ``error`` because it ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def out_of_memory(run: Run) -> str:
    """The out-of-memory message: what to lower, with the values of this run."""
    size, batch = run.model.preprocessing.size, run.batches.batch_size
    advice = []
    if batch > single_cases.smallest_batch(run.model):
        advice.append(f"data.batch_size (now {batch}) with train.accumulation (now {run.train.accumulation}) to compensate")
    advice += [f"model.image_encoder.image_size (now {size})", "a smaller tower such as resnet18 or starnet_s1"]
    if run.autocast is None and run.device.type == "cuda":
        advice.append("runtime.precision='auto'")
    return f"{run.split.name}: {run.device} ran out of memory at step {run.state.step + 1}. Lower " + ", or ".join(advice)
