"""The config sections that have no ``type``: what they hold, and what it means. Checked like constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval, MinLen

from clipzoo.config.arguments import Count, FilePath, Positive, Seed, Whole, checked
from clipzoo.errors import ConfigError

# Far above every use, and where a process still lives: 100 000 threads are a segmentation fault.
MOST_THREADS = 1024
MOST_WORKERS = 256
MOST_EPOCHS = 1_000_000

BatchSize = Annotated[int, Interval(ge=1, le=1_048_576)]


class Settings:
    """Base of the sections' dataclasses; ``section`` is the section's name."""

    section: ClassVar[str]

    @classmethod
    def of(cls, config: Mapping) -> Settings:
        """The section as a checked config says it, or its defaults."""
        return cls(**config.get(cls.section, {}))


@dataclass(frozen=True)
class DataSettings(Settings):
    """Section ``data``: the dataset and how batches are made of it.

    Attributes:
        dataset: What DATASETS builds.
        batch_size: Cases per step and process.
        augmentation: ``'none'``, ``'minimal'``, ``'standard'``, or what AUGMENTATIONS builds. Used for training only.
        sampler: What SAMPLERS builds; ``None`` visits every training case once per epoch.
        num_workers: Loader processes; 0 reads in the training process. Results do not depend on it.
        eval_batch_size: Cases per step in evaluation; ``None`` means twice ``batch_size``.
        allow_overlong_captions: Captions longer than the text encoder's context are cut instead of refused.
    """

    section: ClassVar[str] = "data"
    dataset: dict
    batch_size: BatchSize = 32
    augmentation: str | dict = "standard"
    sampler: str | dict | None = None
    num_workers: Annotated[int, Interval(ge=0, le=MOST_WORKERS)] = 4
    eval_batch_size: BatchSize | None = None
    allow_overlong_captions: bool = True

    @property
    def scored_batch_size(self) -> int:
        """Cases per step in evaluation."""
        return self.eval_batch_size or 2 * self.batch_size


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Section ``train``: how long, and how a step is made.

    Attributes:
        epochs: Passes over the training part.
        steps: Optimizer steps of the whole run; where given it counts instead of ``epochs``, and the last epoch may be a part of one.
        clip_grad: Largest gradient norm, over all parameters; ``None`` does not clip.
        accumulation: Batches whose gradients are averaged into one optimizer step. It adds no negatives, unless ``cached_features``.
        cached_features: The loss is taken over all cases of an accumulated group at once, with the memory of one batch and the exact
            gradient: features first, without gradient; then the loss; then every batch once more. About a third slower.
        gradient_checkpointing: The towers keep the activations between blocks only, and compute the others again in the backward pass:
            much less memory, about a third slower, the same gradients.
        ema_decay: Keep a moving average of the weights, ``average = decay * average + (1 - decay) * weights`` after every step, with a
            smaller decay at first, min(decay, (1 + n) / (10 + n)) in step n. It is what is evaluated, scored and saved as the best.
        unfreeze: Stages from which more of a tower learns, as ``[dict(epoch=3, image_encoder=2), dict(epoch=6, image_encoder='all')]``:
            when so many epochs are finished, the last so many depth groups of the tower, or all. ``None``: what learns, learns from the
            start.
    """

    section: ClassVar[str] = "train"
    epochs: Annotated[int, Interval(ge=1, le=MOST_EPOCHS)] = 100
    steps: Count | None = None
    clip_grad: Positive | None = 1.0
    accumulation: Count = 1
    cached_features: bool = False
    gradient_checkpointing: bool = False
    ema_decay: Annotated[float, Interval(gt=0, lt=1)] | None = None
    unfreeze: Annotated[list[dict[str, Whole | Literal["all"]]], MinLen(1)] | None = None

    def __post_init__(self) -> None:
        if self.cached_features and self.accumulation == 1:
            raise ConfigError("train.cached_features: it joins the batches of train.accumulation, which is 1")
        _check_stages(self.unfreeze)


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Section ``evaluation``: what is measured, and what chooses the epoch.

    Attributes:
        metrics: What METRICS builds, in the order of the tables. ``None``: accuracy, balanced accuracy, F1, AUROC and log loss where cases
            have classes; recalls, ranks and similarities of retrieval where they have captions only.
        select: Name of the metric that chooses the best epoch on the val part. ``None``: ``balanced_accuracy``, or ``rsum``.
        every: Evaluate on the val part every so many epochs; the last epoch is always evaluated.
        every_steps: Evaluate every so many optimizer steps instead; the last step is always evaluated.
    """

    section: ClassVar[str] = "evaluation"
    metrics: list | None = None
    select: str | None = None
    every: Count = 1
    every_steps: Count | None = None


@dataclass(frozen=True)
class RuntimeSettings(Settings):
    """Section ``runtime``: the machine.

    Attributes:
        seed: Of initial weights, order, augmentation and dropout.
        device: ``'auto'`` takes a GPU where there is one; ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``.
        precision: ``'auto'`` takes bf16 or fp16 autocast where the device gains from it; ``'fp32'``, ``'bf16'``, ``'fp16'``.
        threads: CPU threads of torch; ``None`` leaves torch's own choice.
        log_every: Steps between two lines of training progress; the device is waited for at these steps only.
        deterministic: Prefer deterministic GPU kernels (slower), and warn where there is none. CPU runs are always reproducible.
        channels_last: Memory order of images and convolutions.
        save_every: Epochs between two writings of ``checkpoint_latest.pth``; the end, a stop and Ctrl-C always write it.
        save_every_steps: Write it also every so many optimizer steps, for epochs that take hours.
        feature_cache: Folder for the features of frozen image towers, which see every image once and for all runs; ``'auto'`` is
            ``$CLIPZOO_CACHE``, or ``~/.cache/clipzoo``. ``None`` keeps none: every epoch runs the tower.
        strategy: What several processes share. ``'ddp'``: each holds the whole model. ``'fsdp'``: each holds a part of the towers' weights,
            gradients and optimizer state, for towers that do not fit; the result is the same up to rounding.
        timeout: Seconds until a wait for another process ends the run: for a batch from ``data.num_workers``, or for the other processes of
            the training, of which one may write, score or prepare while the others wait.
    """

    section: ClassVar[str] = "runtime"
    seed: Seed = 42
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads: Annotated[int, Interval(ge=1, le=MOST_THREADS)] | None = None
    log_every: Count = 20
    deterministic: bool = False
    channels_last: bool = True
    save_every: Count = 1
    save_every_steps: Count | None = None
    feature_cache: FilePath | None = "auto"
    strategy: Literal["ddp", "fsdp"] = "ddp"
    timeout: Annotated[float, Interval(gt=0, le=10_000_000)] = 1800.0


def _check_stages(stages: list[dict] | None) -> None:
    """Refuse stages of ``TrainSettings.unfreeze`` that do not follow one another; the towers are not known here."""
    done, learning = 0, {}
    for index, stage in enumerate(stages or ()):
        where = f"train.unfreeze.{index}"
        epoch, towers = stage.get("epoch"), {name: blocks for name, blocks in stage.items() if name != "epoch"}
        if not isinstance(epoch, int) or epoch <= done or not towers:
            raise ConfigError(f"{where}: {stage} needs a tower, and an epoch after {done}")
        for name, blocks in towers.items():
            count = math.inf if blocks == "all" else blocks
            if count < learning.get(name, 0):
                raise ConfigError(f"{where}.{name}: {blocks} is less than learns before; a stage takes no block back")
            learning[name] = count
        done = epoch


_SECTIONS = (DataSettings, TrainSettings, EvaluationSettings, RuntimeSettings)
SETTINGS: dict[str, type[Settings]] = {cls.section: checked(cls, owner=cls.section) for cls in _SECTIONS}
