"""Config sections without a ``type``: their fields and meaning. Checked like constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval, MinLen

from clipzoo.config.arguments import Count, FilePath, Positive, Seed, Whole, checked
from clipzoo.errors import ConfigError

# Far above any practical use, and still safe: 100 000 threads cause a segmentation fault.
MOST_THREADS = 1024
MOST_WORKERS = 256
MOST_EPOCHS = 1_000_000

BatchSize = Annotated[int, Interval(ge=1, le=1_048_576)]


class Settings:
    """Base class of the section dataclasses; ``section`` is the section's name."""

    section: ClassVar[str]

    @classmethod
    def of(cls, config: Mapping) -> Settings:
        """The section of a checked config, or its defaults."""
        return cls(**config.get(cls.section, {}))


@dataclass(frozen=True)
class DataSettings(Settings):
    """Section ``data``: the dataset, and how it is batched.

    Attributes:
        dataset: Spec for DATASETS.
        batch_size: Cases per step and per process.
        augmentation: ``'none'``, ``'minimal'``, ``'standard'``, a spec for AUGMENTATIONS, or a list of them that are applied one after the
            other. Applied in training only.
        augment_on_device: Whether the device augments the batches, instead of the process that reads them; random numbers are the same,
            and pixels up to rounding. For augmentations that have a batched form.
        sampler: Spec for SAMPLERS; ``None`` visits every training case once per epoch.
        num_workers: Data loader processes; 0 loads in the training process. Results do not depend on it.
        eval_batch_size: Cases per step in evaluation; ``None`` means twice ``batch_size``.
        allow_overlong_captions: Whether to truncate captions longer than the text encoder's context instead of refusing them.
        views: Several images per case, encoded by one tower and averaged before the projection or head: ``'group'`` (all images of a
            patient), or the attribute of the dataset with the number of the examination. ``None``: every image is a case. Labels, folds,
            metrics and ``batch_size`` are then per case.
        max_views: With ``views``, the largest number of images of a case that are used at a time in training, drawn anew in every epoch.
            ``None``, and always in evaluation: all.
        near_duplicates: ``'group'`` joins the groups of nearly equal images (compressed again, resized, mirrored), as those of identical
            ones always are, so that no fold has them in two parts. ``None``: only identical ones. See ``check_data``.
        check_images: Whether to decode every image file once before training, of all parts, so that a damaged one is found at the start.
            Files that were checked before, and not changed since, are not read again (``$CLIPZOO_CACHE``).
    """

    section: ClassVar[str] = "data"
    dataset: dict
    batch_size: BatchSize = 32
    augmentation: str | dict | list = "standard"
    augment_on_device: bool = False
    sampler: str | dict | None = None
    num_workers: Annotated[int, Interval(ge=0, le=MOST_WORKERS)] = 4
    eval_batch_size: BatchSize | None = None
    allow_overlong_captions: bool = True
    views: str | None = None
    max_views: Count | None = None
    near_duplicates: Literal["group"] | None = None
    check_images: bool = True

    def __post_init__(self) -> None:
        if self.max_views is not None and self.views is None:
            raise ConfigError("data.max_views: has no effect without data.views. Set data.views='group', or remove it")

    @property
    def scored_batch_size(self) -> int:
        """Cases per evaluation step."""
        return self.eval_batch_size or 2 * self.batch_size


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Section ``train``: training length, and how a step is computed.

    Attributes:
        epochs: Passes over the training part.
        steps: Optimizer steps of the whole run; overrides ``epochs``, and the last epoch may be partial.
        clip_grad: Maximum gradient norm over all parameters; ``None`` disables clipping.
        accumulation: Batches whose gradients are averaged in one optimizer step. Adds no negatives, unless ``grad_cache`` is set.
        grad_cache: Whether to compute the loss over all cases of an accumulated group, with the memory of one batch and the exact
            gradient: first the features without gradient, then the loss, then every batch again. About a third slower.
        gradient_checkpointing: Whether the towers keep only the activations between blocks and recompute the others in the backward pass:
            much less memory, about a third slower, identical gradients.
        ema_decay: Decay of a moving average of the weights, ``average = decay * average + (1 - decay) * weights`` after every step; in
            step n the decay is min(decay, (1 + n) / (10 + n)). The averaged weights are evaluated, scored and saved as the best.
        live_vocabulary: Whether a step computes only those rows of the text tower's token table that the captions of the data use. The
            others have no gradient, so weight decay is all that changes them, and it is applied to the weights that are saved. The
            results are the same; ``False`` trains the whole table.
        unfreeze: Stages of gradual unfreezing, such as ``[dict(epoch=3, image_encoder=2), dict(epoch=6, image_encoder='all')]``: after
            that many epochs, the last so many depth groups of the tower become trainable, or all. ``None``: the trainable parameters do
            not change.
    """

    section: ClassVar[str] = "train"
    epochs: Annotated[int, Interval(ge=1, le=MOST_EPOCHS)] = 100
    steps: Count | None = None
    clip_grad: Positive | None = 1.0
    accumulation: Count = 1
    grad_cache: bool = False
    gradient_checkpointing: bool = False
    ema_decay: Annotated[float, Interval(gt=0, lt=1)] | None = None
    live_vocabulary: bool = True
    unfreeze: Annotated[list[dict[str, Whole | Literal["all"]]], MinLen(1)] | None = None

    def __post_init__(self) -> None:
        if self.grad_cache and self.accumulation == 1:
            raise ConfigError("train.grad_cache: has no effect with train.accumulation=1. Set train.accumulation to 2 or more")
        _check_stages(self.unfreeze)


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Section ``evaluation``: the metrics, and the choice of the best epoch.

    Attributes:
        metrics: Specs for METRICS, in table order. ``None``: accuracy, balanced accuracy, F1, AUROC and log loss for cases with classes;
            retrieval recalls, ranks and similarities for cases with captions only; mean AUROC, mean average precision, log loss and F1 of
            all findings for several labels per case.
        select: Metric on the val part that chooses the best epoch. ``None``: ``balanced_accuracy``, ``rsum`` or ``mean_auroc``. Of equally
            good epochs, the last one is chosen.
        every: Epochs between evaluations on the val part; the last epoch is always evaluated.
        every_steps: Optimizer steps between evaluations, instead of ``every``; the last step is always evaluated.
        calibrate: Whether to fit a temperature on the val part of each fold, store it in the scored checkpoint, and apply it to its test
            part. Needs one class per case and a val part.
        wise_ft: Whether the scored weights are a weighted mean of those before training and those of the best epoch, with the share of the
            latter (0, 0.1 … 1) that is best on the val part (WiSE-FT). For models that can do the task before training. Needs a val part.
        tta: Test-time augmentation: the tower's features of a scored image are the mean over the image and these views of it: ``'flip'``
            (mirrored; not where left and right have a meaning), ``'rotations'`` (by 5 degrees either way), ``'zooms'`` (by 5 %),
            ``'shifts'`` (by 2.5 % in four directions). ``predict`` and ``search`` do it too; every view costs a pass of the tower. A frozen
            tower averages in training as well.
        operating_point: How the summary chooses a threshold for each class on val, to report sensitivity, specificity, PPV and NPV on test:
            ``'youden'``, ``'f1'`` (the largest F1), or what to reach, such as ``{'sensitivity': 0.9}`` or ``{'specificity': 0.9}``.
            ``None`` reports none; of findings, those of ``'f1'``.
        positive_class: The only class with operating points and a decision curve, usually that of two classes which is to be detected;
            ``None`` for every class against the others.
        balance_baselines: Whether all classes count equally when a baseline is fitted. ``None``: if the training corrects imbalance, by its
            sampler or its class weights.
        unit: What counts once in metrics and intervals: ``'case'``, or ``'group'``: the cases (views, visits) of a patient are joined.
            Needs classes, of which every group has one.
        join: How the probabilities of a group's cases are joined: ``'mean'``, or ``'max'`` of each class.
    """

    section: ClassVar[str] = "evaluation"
    metrics: list | None = None
    select: str | None = None
    every: Count = 1
    every_steps: Count | None = None
    calibrate: bool = False
    wise_ft: bool = False
    tta: list[Literal["flip", "rotations", "zooms", "shifts"]] | None = None
    operating_point: (
        Literal["youden", "f1"] | dict[Literal["sensitivity", "specificity"], Annotated[float, Interval(gt=0, le=1)]] | None
    ) = None
    positive_class: str | None = None
    balance_baselines: bool | None = None
    unit: Literal["case", "group"] = "case"
    join: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        if self.tta is not None and len(set(self.tta)) < len(self.tta):
            raise ConfigError(f"evaluation.tta: a kind of views is repeated in {self.tta}. List each once")
        if isinstance(self.operating_point, Mapping) and len(self.operating_point) != 1:
            raise ConfigError("evaluation.operating_point: must name one of sensitivity and specificity, such as {'sensitivity': 0.9}")


@dataclass(frozen=True)
class RuntimeSettings(Settings):
    """Section ``runtime``: device, precision, processes and caches.

    Attributes:
        seed: Seed of initial weights, data order, augmentation and dropout.
        device: ``'auto'`` uses a GPU if available; or ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``.
        precision: ``'auto'`` uses bf16 or fp16 autocast if the device benefits; or ``'fp32'``, ``'bf16'``, ``'fp16'``.
        threads: CPU threads of torch; ``None`` keeps torch's default.
        log_every: Steps between progress lines; the device is synchronised at these steps only.
        deterministic: Whether to prefer deterministic GPU kernels (slower), warning where none exists. CPU runs are always reproducible.
        channels_last: Whether images and convolutions use the channels-last memory format.
        save_every: Epochs between saves of the checkpoints, which are written while training goes on. ``None``: as soon as that takes at
            most a twentieth of the time, or a minute has passed. In any case they are saved at the end, on a stop, and on Ctrl-C.
        save_every_steps: Optimizer steps between additional saves, for epochs that take hours.
        feature_cache: Folder for features of frozen image towers, which then process every image once for all runs; ``'auto'`` means
            ``$CLIPZOO_CACHE``, or ``~/.cache/clipzoo``. ``None`` disables the cache: every epoch runs the tower. The tokens of 20 000
            captions or more are kept in the same folder.
        compile: Mode of ``torch.compile`` for the towers in training: ``'default'``, ``'reduce-overhead'`` (CUDA graphs) or
            ``'max-autotune'``. Worth it on GPUs, after a minute or more of compilation; the last digits differ. ``None``: not compiled.
        image_cache: Folder for decoded images, scaled for the tower: every image is decoded once for all epochs, folds and runs, which
            changes no result; ``'auto'`` as for ``feature_cache``. ``None`` disables the cache.
        image_cache_gib: Largest size of that folder in GiB. What was not used for the longest time makes room.
        strategy: Distributed strategy. ``'ddp'``: every process holds the whole model. ``'fsdp'``: the towers' weights, gradients and
            optimizer state are sharded, for towers that do not fit one device; the result is the same up to rounding.
        report: Language of ``report.html``, written when all folds are done: ``'en'`` or ``'zh'``; ``None`` for no report.
        timeout: Seconds to wait for another process before the run ends: for a batch from ``data.num_workers``, or for the other training
            processes, one of which may be writing, scoring or preparing while the others wait.
    """

    section: ClassVar[str] = "runtime"
    seed: Seed = 42
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads: Annotated[int, Interval(ge=1, le=MOST_THREADS)] | None = None
    log_every: Count = 20
    deterministic: bool = False
    channels_last: bool = True
    save_every: Count | None = None
    save_every_steps: Count | None = None
    feature_cache: FilePath | None = "auto"
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    image_cache: FilePath | None = "auto"
    image_cache_gib: Annotated[float, Interval(ge=0.01, le=1_000_000)] = 4.0
    strategy: Literal["ddp", "fsdp"] = "ddp"
    report: Literal["en", "zh"] | None = "en"
    timeout: Annotated[float, Interval(gt=0, le=10_000_000)] = 1800.0

    def __post_init__(self) -> None:
        for name in ("feature_cache", "image_cache"):
            if getattr(self, name) == "":
                raise ConfigError(f"runtime.{name}: the name of the folder is empty. Set 'auto', a folder, or None for no cache")
        if self.compile is not None and self.strategy == "fsdp":
            raise ConfigError("runtime.compile: not supported with runtime.strategy='fsdp'. Remove one of the two")


def _check_stages(stages: list[dict] | None) -> None:
    """Refuse stages of ``TrainSettings.unfreeze`` that are out of order; the towers are unknown here."""
    done, learning = 0, {}
    for index, stage in enumerate(stages or ()):
        where = f"train.unfreeze.{index}"
        epoch, towers = stage.get("epoch"), {name: blocks for name, blocks in stage.items() if name != "epoch"}
        if not isinstance(epoch, int) or epoch <= done or not towers:
            raise ConfigError(f"{where}: {stage} must name a tower, and an epoch after {done}")
        for name, blocks in towers.items():
            count = math.inf if blocks == "all" else blocks
            if count < learning.get(name, 0):
                raise ConfigError(f"{where}.{name}: {blocks} is less than an earlier stage; a stage cannot freeze a block again")
            learning[name] = count
        done = epoch


_SECTIONS = (DataSettings, TrainSettings, EvaluationSettings, RuntimeSettings)
SETTINGS: dict[str, type[Settings]] = {cls.section: checked(cls, owner=cls.section) for cls in _SECTIONS}
