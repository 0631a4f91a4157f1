"""From a checked config to objects. The only file that knows the data and the model: the tokenizer and the preprocessing belong to the
towers and reach the data from here.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from clipzoo.config import Config
from clipzoo.datasets.loader import EpochBatches, eval_loader, train_loader
from clipzoo.datasets.samplers import RandomSampler
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine import checkpoint, distributed, runtime, sharding, unfreezing
from clipzoo.engine.evaluation import ClassEvaluator, Evaluator, RetrievalEvaluator
from clipzoo.engine.feature_cache import FeatureStore, dataset_features
from clipzoo.engine.progress import shown
from clipzoo.engine.state import Run
from clipzoo.errors import BuildError, ConfigError, DataError, did_you_mean, shortened
from clipzoo.folds import Folds, Split
from clipzoo.metrics import RETRIEVAL_DEFAULTS
from clipzoo.registries import (
    AUGMENTATIONS,
    BACKBONES,
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SAMPLERS,
    SCHEDULES,
    SLOTS,
    SPLITTERS,
    TEXT_ENCODERS,
)
from clipzoo.results import aligned
from clipzoo.settings import DataSettings, EvaluationSettings, RuntimeSettings, TrainSettings
from clipzoo.structures import ClassCaptions, Preprocessing, Tokens

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from clipzoo.datasets.base import Dataset
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model

DEFAULT_METRICS = {
    "classification": ("Accuracy", "BalancedAccuracy", "MacroF1", "AUROC", "LogLoss"),
    "retrieval": RETRIEVAL_DEFAULTS,
}
DEFAULT_HOOKS = ["ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook"]


def dataset(config: Config) -> Dataset:
    """The dataset of section ``data``."""
    return DATASETS.build(config.data.dataset)


def folds(config: Config, data: Dataset) -> Folds:
    """The folds of section ``splits`` over all cases of ``data``.

    Raises:
        DataError: There are classes, and not one case has one.
    """
    if data.classes and (data.labels < 0).all():
        raise DataError("data.dataset: none of its images has a label, so nothing can be learnt or scored. Choose another split of it")
    return SPLITTERS.build(config.splits).split(data.cases, data.classes)


def model(
    config: Config, device: torch.device, *, num_classes: int, channels_last: bool = True, towers: dict[str, dict] | None = None
) -> Model:
    """The model with its first weights, which depend on the state of torch's generator alone.

    Args:
        config: A checked config.
        device: Where it shall be.
        num_classes: Of the data; 0 where they have captions only. For models that want to know.
        channels_last: Memory order of weights, on a GPU.
        towers: The towers' blueprints from a checkpoint, whose weights replace these at once: nothing is downloaded or read then. One that
            may be left out, and that the checkpoint does not have, is left out.

    On the CPU only the images are channels-last: convolutions repack their weights anyway, and the fused optimizers copy weights, gradients
    and moments there and back if they are not in the default order.

    Raises:
        BuildError: The model is for data with classes, and these have none.
    """
    spec = MODELS.expand(config.model)
    parameters = inspect.signature(MODELS.get(spec["type"])).parameters
    if towers is not None:
        for name in spec:
            if SLOTS.get(name) in (BACKBONES, TEXT_ENCODERS) and name not in towers and parameters[name].default is None:
                spec[name] = None
        for name, blueprint in towers.items():
            spec[name] = {**SLOTS[name].expand(spec[name]), **blueprint}
    if "num_classes" in parameters and not num_classes:
        raise BuildError(
            f"model: {spec['type']} tells classes apart, and the data have captions and no classes. Choose a model such as CLIP"
        )
    runtime_arguments = {"num_classes": num_classes} if "num_classes" in parameters else {}
    built = MODELS.build(spec, **runtime_arguments).to(device)
    return built.to(memory_format=torch.channels_last) if channels_last and device.type != "cpu" else built


def metrics(settings: EvaluationSettings, data: Dataset) -> tuple[list[Metric], Metric]:
    """All metrics, and the one of them that chooses the epoch.

    Raises:
        ConfigError: ``evaluation.select`` names none of them, or one is of another kind than the data.
    """
    kind = "classification" if data.classes else "retrieval"
    built = [METRICS.build(spec) for spec in (DEFAULT_METRICS[kind] if settings.metrics is None else settings.metrics)]
    others = [metric.name for metric in built if metric.kind != kind]
    if others:
        has = "has classes" if data.classes else "has captions and no classes"
        raise ConfigError(
            f"evaluation.metrics: {shortened(others, 3)} cannot be computed here: {type(data).__name__} {has}, so it is scored by {kind}. "
            f"Leave evaluation.metrics out for the usual ones, or see tools/list_modules.py METRICS"
        )
    select = settings.select or {"classification": "balanced_accuracy", "retrieval": "rsum"}[kind]
    by_name = {metric.name: metric for metric in built}
    if select not in by_name:
        hint = did_you_mean(select, by_name)
        raise ConfigError(f"evaluation.select: '{select}' is not among the metrics.{hint} There are: {', '.join(by_name)}")
    return built, by_name[select]


def evaluator(net: Model, data: Dataset, tokens: Tokens | None, chosen: list[Metric]) -> Evaluator:
    """By classes where there are some, otherwise by retrieval.

    Raises:
        BuildError: The data asks for retrieval, and the model has no features of images and captions.
    """
    if data.classes:
        return ClassEvaluator(class_captions(data, tokens), data.classes, chosen)
    assert tokens is not None
    missing = [name for name in ("encode_image", "encode_captions") if not hasattr(net, name)]
    if missing:
        raise BuildError(
            f"model: {type(net).__name__} cannot be scored by retrieval, it has no {' and no '.join(missing)}; and "
            f"{type(data).__name__} has captions and no classes. Choose a model such as CLIP"
        )
    return RetrievalEvaluator(tokens, chosen)


def class_captions(data: Dataset, tokens: Tokens | None) -> ClassCaptions | None:
    """The rows of the caption table that stand for the classes; ``None`` for a model that reads no captions."""
    if tokens is None or not data.classes:
        return None
    pairs = [(label, i) for label, ids in enumerate(data.class_captions()) for i in ids]
    labels, ids = (torch.tensor(column) for column in zip(*pairs, strict=True))
    return ClassCaptions(tokens=tokens.take(ids), labels=labels, caption_ids=ids, num_classes=len(data.classes))


def watched_part(config: Config, split: Split) -> str | None:
    """The part that chooses the epoch: test only on explicit wish, otherwise val where there is one, otherwise none."""
    if SPLITTERS.expand(config.splits).get("select_on_test", False):
        return "test"
    return "val" if split.val else None


def run(
    config: Config,
    data: Dataset,
    split: Split,
    folder: Path,
    *,
    log: logging.Logger,
    console: Console,
    seed_name: str,
    begun: dict | None = None,
    features: bool = True,
) -> Run:
    """Everything that training ``config`` on ``split`` needs, with fresh weights and fresh generators.

    Args:
        seed_name: Seeds this run together with ``runtime.seed``; another name gives other weights and another order.
        begun: What ``checkpoint.begun`` found of an earlier start. The towers are made from it, and hold its weights before a frozen one
            is read once for the whole run.
        features: Let a frozen image tower see all images before the training, where ``runtime.feature_cache`` allows it.

    Raises:
        ClipzooError: Something that the config describes cannot be made here.
    """
    settings, data_settings = RuntimeSettings.of(config), DataSettings.of(config)
    train_settings, evaluation = TrainSettings.of(config), EvaluationSettings.of(config)
    device = runtime.choose_device(settings.device)
    runtime.apply(settings, device)
    seed = runtime.derived_seed(settings.seed, seed_name)
    runtime.seed_everything(seed)
    towers, num_classes = begun and begun["towers"], len(data.classes)
    net = model(config, device, num_classes=num_classes, channels_last=settings.channels_last, towers=towers)
    tokens = ready(trainable(net, train_settings, settings.strategy), data, split, data_settings, log, begun)
    known = None
    if features:
        known = frozen_features(net, data, split, settings, data_settings, device=device, log=log, console=console)
    batches, loader = training_data(data, split, data_settings, net, tokens, seed=seed, pin_memory=device.type == "cuda", features=known)
    _warn_of_double_balance(net, batches.sampler, log)
    # After the weights: dropout may differ between processes, initial weights may not.
    runtime.seed_everything(seed + distributed.rank())
    autocast = runtime.choose_autocast(settings.precision, device, net)
    chosen, selector = metrics(evaluation, data)
    averaged = moving_average(net, train_settings)
    parts = {part: getattr(split, part) for part in ("val", "test")}
    return Run(
        model=net,
        parallel=parallel(net, device, settings.strategy, averaged=averaged, autocast=autocast),
        optimizer=OPTIMIZERS.build(config.get("optimizer", {"type": "AdamW"})).build(net),
        schedule=SCHEDULES.build(config.get("schedule", {"type": "CosineSchedule"})),
        scaler=torch.amp.GradScaler(device.type, enabled=autocast == torch.float16),
        batches=batches,
        train_loader=loader,
        eval_loaders={part: part_loader(data, ids, data_settings, net.preprocessing, device, known) for part, ids in parts.items()},
        dataset=data,
        evaluator=evaluator(net, data, tokens, chosen),
        split=split,
        watched=watched_part(config, split),
        metrics=chosen,
        selector=selector,
        hooks=[HOOKS.build(spec) for spec in config.get("hooks", DEFAULT_HOOKS)],
        train=train_settings,
        evaluation=evaluation,
        runtime=settings,
        device=device,
        autocast=autocast,
        folder=folder,
        log=log,
        console=console,
        is_main=distributed.is_main(),
        world_size=distributed.world_size(),
        config=config.plain(),
        averaged=averaged,
    )


def ready(net: Model, data: Dataset, split: Split, settings: DataSettings, log: logging.Logger, begun: dict | None) -> Tokens | None:
    """Give ``net`` what it takes from the data, or its weights from an earlier start.

    Returns:
        The caption table as its text tower reads it; ``None`` for a model without one.
    """
    tokens = tokens_of(net, data, settings, log)
    if begun is not None:
        checkpoint.check_classes(begun["classes"], data.classes, begun["path"])
        checkpoint.load_weights(net, begun["model"], begun["path"])
    else:
        labels = torch.from_numpy(data.labels[rows_of(data, split.train)])
        counts = torch.bincount(labels[labels >= 0], minlength=len(data.classes))
        net.initialise(class_captions(data, tokens), counts)
    if net.tokenizer is None:  # a text tower may have been there for ``initialise`` alone
        return None
    net.prepare(tokens)
    return tokens


def frozen_features(
    net: Model,
    data: Dataset,
    split: Split,
    settings: RuntimeSettings,
    data_settings: DataSettings,
    *,
    device: torch.device,
    log: logging.Logger,
    console: Console,
) -> torch.Tensor | None:
    """``[N, F]``: what a frozen image tower makes of every case of the split that it is shown unchanged; other rows are 0.

    ``None`` where the image tower learns, or the model cannot do with features.
    """
    tower = getattr(net, "image_encoder", None)
    if settings.feature_cache is None or not net.takes_features or not getattr(tower, "frozen", False):
        return None
    parts = ("train", "val", "test") if is_plain(data_settings) else ("val", "test")
    rows = np.concatenate([rows_of(data, getattr(split, part)) for part in parts])
    new = 0

    def progress(total: int) -> AbstractContextManager:
        nonlocal new
        new = total
        return shown(f"{split.name}: features of the frozen image tower", total, console, log)

    found = dataset_features(
        tower,
        data,
        rows,
        FeatureStore.of(settings.feature_cache),
        device=device,
        batch_size=data_settings.eval_batch_size or 2 * data_settings.batch_size,
        num_workers=data_settings.num_workers,
        progress=progress,
    )
    if distributed.is_main():
        log.info(f"{split.name}: the frozen image tower runs no more; features of {len(rows)} cases, of {new} new images")
    table = torch.zeros(len(data), found.shape[1])
    table[torch.from_numpy(rows)] = torch.from_numpy(found)
    return table


def is_plain(settings: DataSettings) -> bool:
    """Are training images shown as they are?"""
    return AUGMENTATIONS.expand(settings.augmentation)["type"] == "NoAugmentation"


def trainable(net: Model, settings: TrainSettings, strategy: str = "ddp") -> Model:
    """``net``, set up as section ``train`` wants it.

    Raises:
        BuildError: The model cannot do what is asked for.
        ConfigError: A stage of ``unfreeze`` does not fit it, or the strategy.
    """
    if settings.unfreeze is not None:
        if strategy == "fsdp":
            raise ConfigError(
                "train.unfreeze: does not go with runtime.strategy='fsdp', which divides the weights once, at the start. Use 'ddp', or "
                "unfreeze_blocks of the tower"
            )
        unfreezing.to_last_stage(net, settings.unfreeze)  # before anything else asks which tower is frozen
    if settings.gradient_checkpointing:
        net.checkpoint_gradients()
    if settings.cached_features:
        if not (hasattr(net, "encode") and hasattr(net, "contrast")):
            raise BuildError(f"train.cached_features: {type(net).__name__} has no features to keep (no encode, no contrast). Leave it out")
        if net.captions == "all":
            raise BuildError("train.cached_features: this loss compares with all captions anyway. Leave it out")
    return net


def moving_average(net: Model, settings: TrainSettings) -> AveragedModel | None:
    """The moving average of the weights that ``train.ema_decay`` asks for; statistics of batch norm are the model's own."""
    decay = settings.ema_decay
    if decay is None:
        return None

    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], _: torch.Tensor) -> None:
        n = int(averaged.n_averaged)  # on the CPU: the device is not waited for
        torch._foreach_lerp_(sharding.local(averages), sharding.local(weights), 1 - min(decay, (1 + n) / (10 + n)))

    averaged = AveragedModel(net, multi_avg_fn=update)
    return averaged


def tokens_of(net: Model, data: Dataset, settings: DataSettings, log: logging.Logger) -> Tokens | None:
    """The whole caption table, tokenised once by the model's own tokenizer; ``None`` where it has none."""
    if net.tokenizer is None:
        return None
    tokens = data.captions.tokenise(
        net.tokenizer, "model.text_encoder", allow_overlong=settings.allow_overlong_captions, classes=data.classes
    )
    if distributed.is_main():
        for warning in data.captions.warnings:
            log.warning(f"warning: {warning}")
    return tokens


def training_data(
    data: Dataset,
    split: Split,
    settings: DataSettings,
    net: Model,
    tokens: Tokens | None,
    *,
    seed: int,
    pin_memory: bool,
    features: torch.Tensor | None = None,
) -> tuple[EpochBatches, DataLoader]:
    """The order of the training part, and the loader that reads it, or looks its ``features`` up."""
    rows = rows_of(data, split.train)
    _check_contrast(data, len(rows), settings, net, split)
    sampler = RandomSampler() if settings.sampler is None else SAMPLERS.build(settings.sampler)
    sampler.order(data.labels[rows], 0, seed)  # one that cannot order these cases says so now, before there is a work dir
    batches = EpochBatches(
        data,
        rows,
        sampler,
        batch_size=settings.batch_size,
        seed=seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    if not len(batches):
        raise ConfigError(f"{split.name}: {len(rows)} training cases give no batch to each of {distributed.world_size()} processes")
    augment = AUGMENTATIONS.build(settings.augmentation).build(net.preprocessing)
    loader = train_loader(
        data,
        batches,
        augment,
        tokens,
        all_captions=net.captions == "all",
        num_workers=settings.num_workers,
        pin_memory=pin_memory,
        features=features if is_plain(settings) else None,
    )
    return batches, loader


def _check_contrast(data: Dataset, num_cases: int, settings: DataSettings, net: Model, split: Split) -> None:
    """Refuse a loss that has nothing to compare with, or that would compare with the captions of the parts that are scored."""
    if net.captions == "none":
        return
    if net.captions == "all":
        if not data.classes:
            loss = type(getattr(net, "loss", net)).__name__
            raise ConfigError(
                f"model.loss: {loss} compares with the captions of all classes, and {type(data).__name__} has captions and no classes. "
                "Use MultiPositiveContrastiveLoss"
            )
        return
    if distributed.world_size() > 1:
        return
    if settings.batch_size == 1:
        others = ", or a loss over all captions such as CaptionCrossEntropyLoss" if data.classes else ""
        raise ConfigError(
            "data.batch_size: in batches of 1 there is nothing to contrast with. "
            f"Use 2 or more (train.accumulation adds no negatives){others}"
        )
    if num_cases == 1:
        raise ConfigError(
            f"{split.name}: there is a single training case, and nothing to contrast it with. Give more cases to the train part"
        )


def _warn_of_double_balance(net: Model, sampler: object, log: logging.Logger) -> None:
    """Say so where rare classes are drawn more often *and* weigh more: together they overshoot."""
    loss = getattr(net, "loss", None)
    if getattr(sampler, "balances", False) and getattr(loss, "balances", False) and distributed.is_main():
        log.warning(
            f"warning: data.sampler {type(sampler).__name__} and model.loss.class_weights of {type(loss).__name__} both correct the "
            "imbalance of classes, so rare ones count twice. Leave one of them out"
        )


def part_loader(
    data: Dataset,
    case_ids: tuple[str, ...],
    settings: DataSettings,
    preprocessing: Preprocessing,
    device: torch.device,
    features: torch.Tensor | None = None,
) -> DataLoader:
    """The loader of a part that is scored, or of its ``features``: no augmentation, no shuffling."""
    return eval_loader(
        data,
        rows_of(data, case_ids),
        evaluation_transform(preprocessing),
        batch_size=settings.eval_batch_size or 2 * settings.batch_size,
        num_workers=settings.num_workers,
        pin_memory=device.type == "cuda",
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        features=features,
    )


def rows_of(data: Dataset, case_ids: tuple[str, ...]) -> np.ndarray:
    """Rows in the dataset of case ids."""
    return np.array([data.rows[case_id] for case_id in case_ids], dtype=np.int64)


def parallel(
    net: Model,
    device: torch.device,
    strategy: str = "ddp",
    *,
    averaged: AveragedModel | None = None,
    autocast: torch.dtype | None = None,
) -> torch.nn.Module:
    """The model itself, or, where several processes train, DDP around it or its towers divided among them. Before the optimizer is made.

    Raises:
        ConfigError: ``strategy`` does not go with the precision.
    """
    if distributed.world_size() == 1:
        return net
    if strategy == "fsdp":
        if autocast == torch.float16:
            raise ConfigError(
                "runtime.strategy: 'fsdp' does not go with fp16: each process would scale its part. Set runtime.precision='bf16' or 'fp32'"
            )
        if averaged is not None:
            sharding.shard(averaged.module, device)
        return sharding.shard(net, device)
    kept = net.state_dict().keys()
    tables = [name for name, _ in net.named_buffers() if name not in kept]  # computed alike by all; broadcasting them would only cost time
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(net, tables)
    return DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)


def describe(run_: Run) -> list[str]:
    """Lines for the log that differ from fold to fold: cases per part, classes a part lacks, device and steps."""
    labels = run_.dataset.labels
    parts = {part: labels[rows_of(run_.dataset, getattr(run_.split, part))] for part in ("train", "val", "test")}
    lines = [f"{run_.split.name}: " + "  ".join(f"{part} {len(found)}" for part, found in parts.items()) + " cases"]
    if 1 <= len(run_.dataset.classes) <= 20:
        rows = [[part, *map(str, np.bincount(found, minlength=len(run_.dataset.classes)))] for part, found in parts.items()]
        lines += aligned(["cases", *run_.dataset.classes], rows).splitlines()
    for part, found in parts.items():
        absent = [name for label, name in enumerate(run_.dataset.classes) if len(found) and label not in found]
        if absent:
            lines.append(f"note: {part} has no case of {shortened(absent)}")
    visited, available = run_.batches.cases_per_epoch, len(parts["train"])
    if visited < available:
        lines.append(f"note: an epoch visits {visited} of the {available} training cases, others each time")
    late = [stage["epoch"] for stage in run_.train.unfreeze or () if stage["epoch"] >= run_.total_epochs]
    if late:
        lines.append(f"note: train.unfreeze: the stage of epoch {late[0]} never begins, as the run has {run_.total_epochs} epochs")
    if run_.train.cached_features and run_.batches.distinct == "caption":
        together = run_.train.accumulation
        lines.append(f"note: captions are distinct in each batch, not among the {together} batches that are contrasted together")
    processes = f", {run_.world_size} processes" if run_.world_size > 1 else ""
    lines.append(
        f"{run_.device} {run_.precision}{processes}; {run_.total_steps} steps; hooks {', '.join(type(h).__name__ for h in run_.hooks)}"
    )
    return lines
