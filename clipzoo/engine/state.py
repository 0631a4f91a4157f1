"""The state of a run in memory, and the few numbers that survive a restart."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch import nn

from clipzoo.config.settings import EvaluationSettings, RuntimeSettings, TrainSettings
from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.records.folds import Split
from clipzoo.records.inner import EpochChoice
from clipzoo.records.provenance import Provenance
from clipzoo.runtime import distributed
from clipzoo.signals import Interrupt
from clipzoo.structures import is_measure

if TYPE_CHECKING:
    from torch.optim.swa_utils import AveragedModel

    from clipzoo.datasets.augmentations import Mixing
    from clipzoo.datasets.augmentations.batched import BatchedAugmentation
    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.batches.epochs import EpochBatches
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.engine.evaluation import Evaluation, Evaluator
    from clipzoo.engine.saver import Saver
    from clipzoo.engine.steps.live_vocabulary import LiveVocabulary
    from clipzoo.hooks.base import Hook
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model
    from clipzoo.optim.schedules import Schedule


@dataclass
class TrainState:
    """The numbers that survive a restart. Weights, optimizer, scaler, generators and hooks keep their own state.

    Attributes:
        epoch: Number of finished epochs.
        batch: Number of finished batches of the current epoch; not 0 in a checkpoint written in the middle of an epoch.
        step: Number of optimizer steps made.
        skipped: Number of steps skipped by the fp16 gradient scaler, which the schedule ignores. Updated when a step is logged.
        best_score: Best value of the selecting metric so far; NaN before the first.
        best_epoch: Epoch of the best value, counted from 1; 0 before the first.
        best_step: Step of the best value.
        metrics: Metrics of the last evaluation in the current epoch; empty before it.
        notes: Notes on the training, for readers of the result.
        evaluating: Whether an evaluation has begun but not finished; a restart repeats it first.
        curve: Epoch and selecting metric of every evaluation so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: int = 0
    best_score: float = math.nan
    best_epoch: int = 0
    best_step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    evaluating: bool = False
    curve: list[list[float]] = field(default_factory=list)


class LossMeter:
    """Sums of the named losses of an epoch, weighted by the number of cases and kept on the device, so that no step waits for it.

    Other values that a model reports (with names that begin with ``in_batch_``) are averaged in the same way, but not part of the total.

    Also records the first step with a loss that is not finite.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Start an epoch."""
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64 if self.device.type != "mps" else torch.float32, device=self.device)
        self.cases = 0
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self.bad_losses = torch.zeros(0, device=self.device)

    def add(self, losses: dict[str, torch.Tensor], cases: int, step: int) -> None:
        """Add the losses of one batch of ``cases`` cases, detached."""
        values = torch.stack([value.detach().float() for value in losses.values()])
        if not self.names:
            self.names = list(losses)
            self.sums = self.sums.new_zeros(len(values))
            self.bad_losses = torch.zeros_like(values)
        first = (self.bad_step < 0) & ~torch.isfinite(values).all()
        self.bad_losses = torch.where(first, values, self.bad_losses)
        self.bad_step = torch.where(first, torch.full_like(self.bad_step, step), self.bad_step)
        self.sums += values.to(self.sums.dtype) * cases
        self.cases += cases

    def means(self) -> dict[str, float]:
        """The mean of each loss of this process so far, and their total as ``loss``; waits for the device."""
        return means_between(None, self.totals())

    def totals(self) -> dict:
        """The names, sums and number of cases so far, as plain types; waits for the device."""
        return {"names": list(self.names), "sums": self.sums.tolist(), "cases": self.cases}

    def not_finite(self) -> tuple[int, dict[str, float]] | None:
        """The first step with a loss that is not finite, and its losses; waits for the device."""
        step = int(self.bad_step)
        return None if step < 0 else (step, dict(zip(self.names, self.bad_losses.tolist(), strict=True)))

    def state_dict(self) -> dict:
        """The state for a checkpoint in the middle of an epoch."""
        return {"names": self.names, "sums": self.sums.cpu(), "cases": self.cases}

    def load_state_dict(self, state: dict) -> None:
        """Restore ``state_dict``."""
        self.reset()
        self.names, self.cases = list(state["names"]), state["cases"]
        self.sums = state["sums"].to(self.device, self.sums.dtype)
        self.bad_losses = torch.zeros(len(self.names), device=self.device)


def means_between(earlier: dict | None, now: dict) -> dict[str, float]:
    """The mean of each loss over the cases between two ``totals`` of one epoch, and their total as ``loss``.

    Args:
        earlier: The earlier totals; ``None`` for the beginning of the epoch.
        now: The later totals.
    """
    before, cases = ([0.0] * len(now["sums"]), 0) if earlier is None else (earlier["sums"], earlier["cases"])
    count = max(now["cases"] - cases, 1)
    means = {name: (b - a) / count for name, a, b in zip(now["names"], before, now["sums"], strict=True)}
    losses = {name: value for name, value in means.items() if not is_measure(name)}
    measures = {name: value for name, value in means.items() if is_measure(name)}
    return {"loss": sum(losses.values()), **(losses if len(losses) > 1 else {}), **measures}


@dataclass
class Run:
    """One training run on one split: everything that ``loop.py`` and the hooks work with.

    Attributes:
        model: The model itself; ``parallel`` is what training calls (the model, or its DDP wrapper).
        evaluator: Evaluator that scores a part.
        watched: The part that selects the epoch: ``'val'``, ``'test'`` with ``select_on_test``, or ``None`` without a selection.
        metrics: Metrics to compute.
        selector: The one of ``metrics`` that selects the epoch.
        folder: Folder for the run's files.
        is_main: Whether this process writes files and messages.
        world_size: Number of processes.
        provenance: Provenance of the run's files.
        mixings: Members of the augmentation that mix the images of a batch.
        augmentation: What ``data.augment_on_device`` does to training batches on the device; ``None`` without it.
        rounding: Values of the keys that may change between two starts and affect the last digits.
        averaged: Moving average of the weights, if ``train.ema_decay`` is set.
        saver: Writer of the checkpoints.
        live: The rows of the token table that are trained, if ``train.live_vocabulary`` is on and of use.
        epoch_evaluation: The last evaluation of the current epoch; ``None`` before it, and after a restart.
        epoch_losses: Mean training losses of the last epoch.
        epoch_seconds: Wall time of the last epoch's training, or of the remainder of an epoch resumed in the middle.
        images_per_second: Training images per second in that time, over all processes.
        stop_reason: Reason for ending early, set by a hook with ``stop``.
    """

    model: Model
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    batches: EpochBatches
    train_loader: Loader
    eval_loaders: dict[str, Loader]
    dataset: Dataset
    evaluator: Evaluator
    split: Split
    watched: str | None
    metrics: Sequence[Metric]
    selector: Metric
    hooks: Sequence[Hook]
    train: TrainSettings
    evaluation: EvaluationSettings
    runtime: RuntimeSettings
    device: torch.device
    autocast: torch.dtype | None
    folder: Path
    log: logging.Logger
    console: Console
    is_main: bool
    world_size: int
    config: dict
    provenance: Provenance
    rounding: dict[str, str | int | None]
    saver: Saver
    state: TrainState = field(default_factory=TrainState)
    interrupt: Interrupt = field(default_factory=Interrupt)
    averaged: AveragedModel | None = None
    live: LiveVocabulary | None = None
    choice: EpochChoice | None = None
    mixings: Sequence[Mixing] = ()
    augmentation: BatchedAugmentation | None = None
    epoch_evaluation: Evaluation | None = None
    epoch_losses: dict[str, float] = field(default_factory=dict)
    epoch_seconds: float = 0.0
    images_per_second: float = 0.0
    stop_reason: str | None = None
    meter: LossMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = LossMeter(self.device)

    @property
    def precision(self) -> str:
        """``'fp32'``, ``'bf16'`` or ``'fp16'``: the value of ``runtime.precision`` on this device, with ``'auto'`` resolved."""
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.autocast]

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps per epoch, including a last one with fewer batches than ``accumulation``."""
        return math.ceil(len(self.batches) / self.train.accumulation)

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps of the whole schedule."""
        return self.train.steps or self.steps_per_epoch * self.train.epochs

    @property
    def last_step(self) -> int:
        """Number of optimizer steps of the whole run: fewer than ``total_steps`` if inner folds chose an earlier epoch."""
        return self.total_steps if self.choice is None else self.choice.epoch * self.steps_per_epoch

    @property
    def total_epochs(self) -> int:
        """Number of epochs of the whole run; the last may be incomplete."""
        return math.ceil(self.last_step / self.steps_per_epoch)

    @property
    def token_table(self) -> nn.Parameter | None:
        """The trained token table of the text tower, if it has one: the whole, or its live rows."""
        tower = self.model.text_tower
        return tower.token_weight if isinstance(tower, TextEncoder) else None

    @property
    def ended(self) -> bool:
        """Whether all steps are made, or a hook ended the training."""
        return self.state.step >= self.last_step or self.stop_reason is not None

    @property
    def scored(self) -> Model:
        """The model that is evaluated and saved: the moving average, if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    @property
    def epoch_metrics(self) -> dict[str, float]:
        """Metrics of the last evaluation in the current epoch; empty for an epoch without one."""
        return self.state.metrics

    def joint_means(self, since: dict | None = None) -> tuple[dict[str, float], dict]:
        """Mean losses of the epoch over all processes, as their losses may differ. A collective operation.

        Args:
            since: Totals returned by an earlier call in this epoch, to average over the cases after it only; ``None`` for all cases.

        Returns:
            The means, in the form of ``LossMeter.means``, and the present totals.
        """
        parts = distributed.gathered(self.meter.totals())
        sums = [sum(values) for values in zip(*(part["sums"] for part in parts), strict=True)]
        now = {"names": parts[0]["names"], "sums": sums, "cases": sum(part["cases"] for part in parts)}
        return means_between(since, now), now

    def stop(self, reason: str) -> None:
        """End training after the current epoch or, if called in an evaluation in its middle, after that."""
        self.stop_reason = reason

    def call(self, moment: str, *arguments: object) -> None:
        """Call ``moment`` on every hook, in list order."""
        for hook in self.hooks:
            getattr(hook, moment)(self, *arguments)
