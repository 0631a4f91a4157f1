"""Building the objects of a run from a checked config. This module connects data and model: it passes the towers' tokenizer and
preprocessing to the data.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from clipzoo.commands import typed
from clipzoo.config import Config
from clipzoo.config.settings import DataSettings, EvaluationSettings, RuntimeSettings, TrainSettings
from clipzoo.engine import checkpoint, inputs, unfreezing
from clipzoo.engine.evaluation import ClassEvaluator, Evaluator, RetrievalEvaluator
from clipzoo.engine.state import Run
from clipzoo.errors import BuildError, ConfigError, DataError, did_you_mean, shortened
from clipzoo.metrics import RETRIEVAL_DEFAULTS
from clipzoo.models.base import Tower
from clipzoo.models.making import make_model
from clipzoo.records.folds import Folds, Split
from clipzoo.records.provenance import Provenance
from clipzoo.registries import (
    DATASETS,
    HOOKS,
    METRICS,
    OPTIMIZERS,
    SCHEDULES,
    SPLITTERS,
)
from clipzoo.runtime import device as runtime
from clipzoo.runtime import distributed, sharding
from clipzoo.runtime.seeds import derived_seed, seed_everything
from clipzoo.scoring.units import Unit, of_two_classes
from clipzoo.structures import Tokens
from clipzoo.text_tables import aligned

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model

DEFAULT_METRICS = {
    "classification": ("Accuracy", "BalancedAccuracy", "MacroF1", "AUROC", "LogLoss"),
    "retrieval": RETRIEVAL_DEFAULTS,
}
DEFAULT_HOOKS = ["ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook"]


def dataset(config: Config) -> Dataset:
    """Build the dataset of section ``data``."""
    return DATASETS.build(config.data.dataset)


def folds(config: Config, data: Dataset) -> Folds:
    """Split all cases of ``data`` into folds, as section ``splits`` describes.

    Raises:
        DataError: The data has classes, but no case has a label.
    """
    if data.classes and (data.labels < 0).all():
        raise DataError("data.dataset: no image has a label, so nothing can be learned or scored. Choose another split of the dataset")
    return SPLITTERS.build(config.splits).split(data.cases, data.classes)


def model(
    config: Config, device: torch.device, *, num_classes: int, channels_last: bool = True, towers: dict[str, dict] | None = None
) -> Model:
    """The model with its initial weights, which depend only on the state of torch's generator.

    Args:
        config: A checked config.
        device: Target device.
        num_classes: Number of classes of the data, for models that need it; 0 if cases have captions only.
        channels_last: Whether weights on a GPU are in channels-last memory order.
        towers: Blueprints of the towers from a checkpoint, whose weights will replace the initial ones, so none are downloaded or read.
            Optional towers missing from the checkpoint are skipped.

    On the CPU only the images are channels-last: convolutions repack their weights anyway, and the fused optimizers would copy weights,
    gradients and moments back and forth if they were not in the default order.

    Raises:
        BuildError: The model needs data with classes, and the data has none.
    """
    built = make_model(config.model, num_classes, towers).to(device)
    return built.to(memory_format=torch.channels_last) if channels_last and device.type != "cpu" else built


def metrics(settings: EvaluationSettings, data: Dataset) -> tuple[list[Metric], Metric]:
    """All metrics, and the one among them that selects the epoch.

    Raises:
        ConfigError: ``evaluation.select`` is not among the metrics, or a metric does not fit the kind of data.
    """
    kind = "classification" if data.classes else "retrieval"
    built = [METRICS.build(spec) for spec in (DEFAULT_METRICS[kind] if settings.metrics is None else settings.metrics)]
    others = [metric.name for metric in built if metric.kind != kind]
    if others:
        has = "has classes" if data.classes else "has captions and no classes"
        raise ConfigError(
            f"evaluation.metrics: {shortened(others, 3)} cannot be computed here: {type(data).__name__} {has}, so it is scored by {kind}. "
            f"Remove evaluation.metrics to use the defaults, or see: {typed('list_modules METRICS')}"
        )
    select = settings.select or {"classification": "balanced_accuracy", "retrieval": "rsum"}[kind]
    by_name = {metric.name: metric for metric in built}
    if select not in by_name:
        hint = did_you_mean(select, by_name)
        raise ConfigError(f"evaluation.select: '{select}' is not among the metrics.{hint} Available: {', '.join(by_name)}")
    return built, by_name[select]


def unit_of(config: Config) -> Unit:
    """What counts once in metrics and intervals."""
    settings = EvaluationSettings.of(config)
    return Unit(settings.unit, settings.join)


def check_decisions(config: Config, data: Dataset, splits: Sequence[Split]) -> None:
    """Refuse keys of section ``evaluation`` that need classes, a certain class, or a labelled val part in every split.

    Raises:
        ConfigError: They do not fit the data or the splits.
    """
    settings = EvaluationSettings.of(config)
    given = {key: getattr(settings, key) for key in ("calibrate", "operating_point", "positive_class")}
    for key, value in {**given, "unit": settings.unit == "group"}.items():
        if value and not data.classes:
            kind = type(data).__name__
            raise ConfigError(f"evaluation.{key}: {kind} has captions and no classes, so there are no class probabilities. Remove it")
    if settings.unit == "group":
        _check_groups(data)
    if settings.positive_class is not None and settings.positive_class not in data.classes:
        hint, classes = did_you_mean(settings.positive_class, data.classes), shortened(data.classes, 10)
        raise ConfigError(f"evaluation.positive_class: there is no class '{settings.positive_class}'.{hint} Classes: {classes}")
    if settings.calibrate:
        _check_val(config, data, splits)
    if settings.wise_ft and any(watched_part(config, split) != "val" for split in splits):
        raise ConfigError("evaluation.wise_ft: every fold needs a val part that chooses. Raise splits.val_fraction, or remove it")


def _check_groups(data: Dataset) -> None:
    label_of: dict[str, int] = {}
    for case in data.cases:
        if case.label is not None and label_of.setdefault(case.group, case.label) != case.label:
            raise ConfigError(of_two_classes(case.group, data.classes[label_of[case.group]], data.classes[case.label]))


def _check_val(config: Config, data: Dataset, splits: Sequence[Split]) -> None:
    where = "evaluation.calibrate"
    if watched_part(config, splits[0]) == "test":
        raise ConfigError(f"{where}: a temperature needs a val part that is not reported. Set splits.select_on_test=False")
    without = [split.name for split in splits if not (data.labels[data.rows_of(split.val)] >= 0).any()]
    if without:
        raise ConfigError(
            f"{where}: the val part of {shortened(without, 3)} has no labelled cases to fit a temperature on. Raise splits.val_fraction"
        )


def evaluator(net: Model, data: Dataset, tokens: Tokens | None, chosen: list[Metric], unit: Unit) -> Evaluator:
    """The evaluator: by classes if the data has any, otherwise by retrieval; ``unit`` is what counts once.

    Raises:
        BuildError: The data needs retrieval, but the model cannot encode images and captions.
    """
    if data.classes:
        return ClassEvaluator(inputs.class_captions(data, tokens), data.classes, chosen, unit)
    assert tokens is not None
    missing = net.lacks("encode_image", "encode_captions")
    if missing:
        raise BuildError(
            f"model: {type(net).__name__} cannot be scored by retrieval, as it has no {' and no '.join(missing)}, but "
            f"{type(data).__name__} has captions and no classes. Choose a model such as CLIP"
        )
    return RetrievalEvaluator(tokens, chosen)


def watched_part(config: Config, split: Split) -> str | None:
    """The part that selects the epoch: test only if explicitly requested, otherwise val if it has cases, otherwise ``None``."""
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
    provenance: Provenance,
    earlier: dict | None = None,
    features: bool = True,
) -> Run:
    """Build everything needed to train ``config`` on ``split``, with fresh weights and fresh generators.

    Args:
        config: A checked config.
        data: Dataset built from it.
        split: The three parts.
        folder: Folder for the run's files.
        log: Logger for messages.
        console: Console for progress bars.
        provenance: Provenance of the run's files. The name of its fold and ``runtime.seed`` together seed the run: another name gives
            other weights and another order.
        earlier: Result of ``checkpoint.earlier_start``. The towers are built from it and get its weights before the features of a frozen
            tower are computed for the whole run.
        features: Whether a frozen image tower may encode all images before training, if ``runtime.feature_cache`` allows it.

    Raises:
        ClipzooError: Something that the config describes cannot be built.
    """
    settings, data_settings = RuntimeSettings.of(config), DataSettings.of(config)
    train_settings, evaluation = TrainSettings.of(config), EvaluationSettings.of(config)
    device = runtime.choose_device(settings.device)
    runtime.apply(settings, device)
    seed = derived_seed(settings.seed, provenance.fold)
    seed_everything(seed)
    towers, num_classes = earlier and earlier["towers"], len(data.classes)
    net = model(config, device, num_classes=num_classes, channels_last=settings.channels_last, towers=towers)
    tokens = ready(trainable(net, train_settings, settings.strategy), data, split, data_settings, log, earlier)
    if train_settings.unfreeze is not None:
        unfreezing.to_last_stage(net, train_settings.unfreeze)  # again: a tower may have been needed for initialisation only
    fed = inputs.of(net, tokens, data, split, config, seed=seed, device=device, log=log, console=console, features=features)
    # After the weights: dropout may differ between processes, initial weights may not.
    seed_everything(seed + distributed.rank())
    autocast = runtime.choose_autocast(settings.precision, device, net)
    chosen, selector = metrics(evaluation, data)
    averaged = moving_average(net, train_settings)
    return Run(
        model=net,
        parallel=parallel(net, device, settings.strategy, averaged=averaged, autocast=autocast),
        optimizer=OPTIMIZERS.build(config.get("optimizer", {"type": "AdamW"})).build(net),
        schedule=SCHEDULES.build(config.get("schedule", {"type": "CosineSchedule"})),
        scaler=torch.amp.GradScaler(device.type, enabled=autocast == torch.float16),
        batches=fed.batches,
        train_loader=fed.train,
        eval_loaders=fed.scored,
        dataset=data,
        evaluator=evaluator(net, data, tokens, chosen, unit_of(config)),
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
        provenance=provenance,
        rounding={
            "data.eval_batch_size": data_settings.scored_batch_size,
            "runtime.device": str(device),
            "runtime.threads": torch.get_num_threads(),
            "runtime.feature_cache": "used" if fed.features is not None else None,
        },
        averaged=averaged,
        mixings=inputs.mixings(net, data_settings, train_settings),
    )


def ready(net: Model, data: Dataset, split: Split, settings: DataSettings, log: logging.Logger, earlier: dict | None) -> Tokens | None:
    """Initialise ``net`` from the data, or with its weights from an earlier start.

    Returns:
        The tokenised caption table; ``None`` for a model without a text tower.
    """
    tokens = inputs.tokens_of(net, data, settings, log)
    if earlier is not None:
        checkpoint.load_weights(net, earlier["model"], earlier["path"])
        for tower in net.children():
            if isinstance(tower, Tower):
                tower.weights = f"of {earlier['path']}"
    else:
        labels = torch.from_numpy(data.labels[data.rows_of(split.train)])
        counts = torch.bincount(labels[labels >= 0], minlength=len(data.classes))
        net.initialise(inputs.class_captions(data, tokens), counts)
    if net.tokenizer is None:  # a text tower may have been needed for ``initialise`` only
        return None
    net.prepare(tokens)
    return tokens


def trainable(net: Model, settings: TrainSettings, strategy: str = "ddp") -> Model:
    """``net``, set up for training as section ``train`` describes.

    Raises:
        BuildError: The model does not support a setting.
        ConfigError: A stage of ``unfreeze`` does not fit the model or the strategy.
    """
    if settings.unfreeze is not None:
        if strategy == "fsdp":
            raise ConfigError(
                "train.unfreeze: not supported with runtime.strategy='fsdp', which shards the weights once, at the start. Use 'ddp', or "
                "the tower's unfreeze_blocks"
            )
        unfreezing.to_last_stage(net, settings.unfreeze)  # before anything else asks which tower is frozen
    if settings.gradient_checkpointing:
        net.checkpoint_gradients()
    if settings.grad_cache:
        if net.lacks("encode", "contrast"):
            raise BuildError(f"train.grad_cache: {type(net).__name__} has no features to keep (no encode, no contrast). Remove it")
        if net.captions == "all":
            raise BuildError("train.grad_cache: this loss compares with all captions anyway. Remove it")
    return net


def moving_average(net: Model, settings: TrainSettings) -> AveragedModel | None:
    """The moving average of the weights, if ``train.ema_decay`` is set; statistics of batch normalisation are the model's own."""
    decay = settings.ema_decay
    if decay is None:
        return None

    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], _: torch.Tensor) -> None:
        n = int(averaged.n_averaged)  # on the CPU, so no wait for the device
        torch._foreach_lerp_(sharding.local(averages), sharding.local(weights), 1 - min(decay, (1 + n) / (10 + n)))

    averaged = AveragedModel(net, multi_avg_fn=update)
    return averaged


def parallel(
    net: Model,
    device: torch.device,
    strategy: str = "ddp",
    *,
    averaged: AveragedModel | None = None,
    autocast: torch.dtype | None = None,
) -> torch.nn.Module:
    """``net`` itself or, with several processes, wrapped in DDP or with sharded towers. Call it before the optimizer is built.

    Raises:
        ConfigError: ``strategy`` does not support the precision.
    """
    if distributed.world_size() == 1:
        return net
    if strategy == "fsdp":
        if autocast == torch.float16:
            raise ConfigError(
                "runtime.strategy: 'fsdp' does not support fp16: each process would scale its part. Set runtime.precision='bf16' or 'fp32'"
            )
        if averaged is not None:
            sharding.shard(averaged.module, device)
        return sharding.shard(net, device)
    kept = net.state_dict().keys()
    tables = [name for name, _ in net.named_buffers() if name not in kept]  # equal on all processes; broadcasting them would only cost time
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(net, tables)
    return DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)


def describe(run_: Run) -> list[str]:
    """Log lines that differ from fold to fold: cases per part, classes missing from a part, device and steps."""
    labels = run_.dataset.labels
    parts = {part: labels[run_.dataset.rows_of(getattr(run_.split, part))] for part in ("train", "val", "test")}
    lines = [f"{run_.split.name}: " + "  ".join(f"{part} {len(found)}" for part, found in parts.items()) + " cases"]
    if 1 <= len(run_.dataset.classes) <= 20:
        rows = [[part, *map(str, np.bincount(found, minlength=len(run_.dataset.classes)))] for part, found in parts.items()]
        lines += aligned(["cases", *run_.dataset.classes], rows).splitlines()
    for part, found in parts.items():
        absent = [name for label, name in enumerate(run_.dataset.classes) if len(found) and label not in found]
        if absent:
            lines.append(f"note: {part} has no cases of {shortened(absent)}")
    weights = getattr(run_.model.criterion, "class_weights", None)
    if weights is not None and not isinstance(weights, str):  # their meaning depends on the order of the classes
        named = [f"{name} {weight:g}" for name, weight in zip(run_.dataset.classes, weights, strict=True)]
        lines.append(f"class weights as given: {shortened(named, 50)}")
    visited, available = run_.batches.cases_per_epoch, len(parts["train"])
    if visited < available:
        lines.append(f"note: an epoch visits {visited} of the {available} training cases, different ones each time")
    late = [stage["epoch"] for stage in run_.train.unfreeze or () if stage["epoch"] >= run_.total_epochs]
    if late:
        lines.append(f"note: train.unfreeze: the stage of epoch {late[0]} never starts, as the run has {run_.total_epochs} epochs")
    if run_.train.grad_cache and run_.batches.distinct == "caption":
        together = run_.train.accumulation
        lines.append(f"note: captions are distinct within each batch, not across the {together} batches that are contrasted together")
    processes = f", {run_.world_size} processes" if run_.world_size > 1 else ""
    lines.append(
        f"{run_.device} {run_.precision}{processes}; {run_.total_steps} steps; hooks {', '.join(type(h).__name__ for h in run_.hooks)}"
    )
    return lines
