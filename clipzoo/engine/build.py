"""From a checked config to objects. The only file that knows the data and the model: the tokenizer and the preprocessing belong to the
towers and reach the data from here.
"""

from __future__ import annotations

import logging
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
from clipzoo.engine import checkpoint, inputs, single_cases, unfreezing
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
    built = make_model(config.model, num_classes, towers).to(device)
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
            f"Leave evaluation.metrics out for the usual ones, or see: {typed('list_modules METRICS')}"
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
        return ClassEvaluator(inputs.class_captions(data, tokens), data.classes, chosen)
    assert tokens is not None
    missing = net.lacks("encode_image", "encode_captions")
    if missing:
        raise BuildError(
            f"model: {type(net).__name__} cannot be scored by retrieval, it has no {' and no '.join(missing)}; and "
            f"{type(data).__name__} has captions and no classes. Choose a model such as CLIP"
        )
    return RetrievalEvaluator(tokens, chosen)


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
    provenance: Provenance,
    begun: dict | None = None,
    features: bool = True,
) -> Run:
    """Everything that training ``config`` on ``split`` needs, with fresh weights and fresh generators.

    Args:
        provenance: What the run's files are made from. Its fold's name seeds this run together with ``runtime.seed``: another name gives
            other weights and another order.
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
    seed = derived_seed(settings.seed, provenance.fold)
    seed_everything(seed)
    towers, num_classes = begun and begun["towers"], len(data.classes)
    net = model(config, device, num_classes=num_classes, channels_last=settings.channels_last, towers=towers)
    tokens = ready(trainable(net, train_settings, settings.strategy), data, split, data_settings, log, begun)
    if train_settings.unfreeze is not None:
        unfreezing.to_last_stage(net, train_settings.unfreeze)  # once more: a tower may have been there for the start alone
    known = inputs.frozen_features(net, data, split, config, device=device, log=log, console=console) if features else None
    loaders = inputs.loaders(net, data, split, data_settings, tokens, known, seed=seed, device=device, timeout=settings.timeout)
    single_cases.check(net, loaders.batches, loaders.train, device)
    inputs.warn_of_double_balance(net, loaders.batches.sampler, log)
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
        batches=loaders.batches,
        train_loader=loaders.train,
        eval_loaders=loaders.scored,
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
        provenance=provenance,
        rounding={
            "data.eval_batch_size": data_settings.scored_batch_size,
            "runtime.device": str(device),
            "runtime.threads": torch.get_num_threads(),
            "runtime.feature_cache": "used" if known is not None else None,
        },
        averaged=averaged,
    )


def ready(net: Model, data: Dataset, split: Split, settings: DataSettings, log: logging.Logger, begun: dict | None) -> Tokens | None:
    """Give ``net`` what it takes from the data, or its weights from an earlier start.

    Returns:
        The caption table as its text tower reads it; ``None`` for a model without one.
    """
    tokens = inputs.tokens_of(net, data, settings, log)
    if begun is not None:
        checkpoint.load_weights(net, begun["model"], begun["path"])
        for tower in net.children():
            if isinstance(tower, Tower):
                tower.weights = f"of {begun['path']}"
    else:
        labels = torch.from_numpy(data.labels[data.rows_of(split.train)])
        counts = torch.bincount(labels[labels >= 0], minlength=len(data.classes))
        net.initialise(inputs.class_captions(data, tokens), counts)
    if net.tokenizer is None:  # a text tower may have been there for ``initialise`` alone
        return None
    net.prepare(tokens)
    return tokens


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
        if net.lacks("encode", "contrast"):
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
    parts = {part: labels[run_.dataset.rows_of(getattr(run_.split, part))] for part in ("train", "val", "test")}
    lines = [f"{run_.split.name}: " + "  ".join(f"{part} {len(found)}" for part, found in parts.items()) + " cases"]
    if 1 <= len(run_.dataset.classes) <= 20:
        rows = [[part, *map(str, np.bincount(found, minlength=len(run_.dataset.classes)))] for part, found in parts.items()]
        lines += aligned(["cases", *run_.dataset.classes], rows).splitlines()
    for part, found in parts.items():
        absent = [name for label, name in enumerate(run_.dataset.classes) if len(found) and label not in found]
        if absent:
            lines.append(f"note: {part} has no case of {shortened(absent)}")
    weights = getattr(run_.model.criterion, "class_weights", None)
    if weights is not None and not isinstance(weights, str):  # which of a list is whose, depends on the order of the classes
        named = [f"{name} {weight:g}" for name, weight in zip(run_.dataset.classes, weights, strict=True)]
        lines.append(f"class weights as given: {shortened(named, 50)}")
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
