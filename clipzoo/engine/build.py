"""Building the objects of a run from a checked config. This module connects data and model: it passes the towers' tokenizer and
preprocessing to the data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from clipzoo.config import Config
from clipzoo.config.settings import DataSettings, EvaluationSettings, RuntimeSettings, TrainSettings
from clipzoo.datasets.build import build_dataset, build_folds
from clipzoo.engine import checkpoint, inputs
from clipzoo.engine.checks.decisions import watched_part
from clipzoo.engine.checks.task import check_task, metrics
from clipzoo.engine.evaluation import ClassEvaluator, Evaluator, FindingsEvaluator, RetrievalEvaluator
from clipzoo.engine.state import Run
from clipzoo.engine.steps import unfreezing
from clipzoo.engine.steps.compiling import compile_towers
from clipzoo.engine.steps.live_vocabulary import LiveVocabulary, live_table
from clipzoo.errors import BuildError, ConfigError, DataError, shortened
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.making import make_model
from clipzoo.models.tower import Tower
from clipzoo.records.folds import Folds, Split
from clipzoo.records.provenance import Provenance
from clipzoo.registries import (
    HOOKS,
    OPTIMIZERS,
    SCHEDULES,
)
from clipzoo.runtime import device as runtime
from clipzoo.runtime import distributed, sharding
from clipzoo.runtime.progress import shown_alone
from clipzoo.runtime.seeds import derived_seed, seed_everything
from clipzoo.scoring.units import Unit
from clipzoo.structures import Preprocessing, Tokens
from clipzoo.text_tables import aligned

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.token_table import TokenCache
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model

DEFAULT_HOOKS = ["ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook"]


def dataset(config: Config, *, console: Console | None = None, is_dry: bool = False) -> Dataset:
    """Build the dataset of section ``data``. With ``data.near_duplicates`` a collective operation: the main process searches.

    Args:
        config: A checked config.
        console: Console that shows the progress of long work; ``None`` for none.
        is_dry: Whether nothing may be written, also not in the cache folder.
    """
    show = None if console is None else partial(shown_alone, console=console)
    return build_dataset(config, run=distributed.in_turns, is_dry=is_dry, show=show)


def folds(config: Config, data: Dataset) -> Folds:
    """Split all cases of ``data`` into folds, as section ``splits`` describes.

    Raises:
        DataError: The data has classes, but no case has a label.
    """
    if data.classes and not data.labelled.any():
        raise DataError("data.dataset: no image has a label, so nothing can be learned or scored. Choose another split of the dataset")
    return build_folds(config, data)


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
        BuildError: The model needs data with classes, and the data has none; or it does not support ``evaluation.tta``.
    """
    built = make_model(config.model, num_classes, towers).to(device)
    _set_test_views(built, EvaluationSettings.of(config).tta)
    return built.to(memory_format=torch.channels_last) if channels_last and device.type != "cpu" else built


def _set_test_views(net: Model, kinds: list[str] | None) -> None:
    """Let the image tower average over test views outside training, as ``evaluation.tta`` says.

    Raises:
        BuildError: The model has no image tower, or does not use it through ``tower_features``.
    """
    if not kinds:
        return
    if not net.takes_features or not isinstance(net.image_tower, Backbone):
        raise BuildError(f"evaluation.tta: {type(net).__name__} does not support it (no takes_features). Remove it")
    net.image_tower.average_over(kinds)


def unit_of(config: Config) -> Unit:
    """What counts once in metrics and intervals."""
    settings = EvaluationSettings.of(config)
    return Unit(settings.unit, settings.join)


def evaluator(net: Model, data: Dataset, tokens: Tokens | None, chosen: list[Metric], unit: Unit) -> Evaluator:
    """The evaluator: by classes or findings if the data has any, otherwise by retrieval; ``unit`` is what counts once.

    Raises:
        BuildError: The data needs retrieval, but the model cannot encode images and captions.
    """
    if data.task == "findings":
        return FindingsEvaluator(inputs.class_captions(data, tokens), data.classes, chosen)
    if data.task == "classification":
        return ClassEvaluator(inputs.class_captions(data, tokens), data.classes, chosen, unit)
    assert tokens is not None
    missing = net.lacks("encode_image", "encode_captions")
    if missing:
        raise BuildError(
            f"model: {type(net).__name__} cannot be scored by retrieval, as it has no {' and no '.join(missing)}, but "
            f"{type(data).__name__} has captions and no classes. Choose a model such as CLIP"
        )
    return RetrievalEvaluator(tokens, chosen)


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
    before_images: Callable[[Preprocessing], None] | None = None,
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
        features: Whether a frozen image tower may encode all images before training, and tokens may be kept, if
            ``runtime.feature_cache`` allows it.
        before_images: Function called before any image is read, with what the image tower requires.

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
    check_task(net, data)
    cache = inputs.token_cache(settings.feature_cache, log) if features else None
    tokens = ready(trainable(net, train_settings, settings.strategy), data, split, data_settings, log, earlier, cache)
    if train_settings.unfreeze is not None:
        unfreezing.to_last_stage(net, train_settings.unfreeze)  # again: a tower may have been needed for initialisation only
    if before_images is not None:
        before_images(net.preprocessing)
    fed = inputs.of(net, tokens, data, split, config, seed=seed, device=device, log=log, console=console, features=features)
    # After the weights: dropout may differ between processes, initial weights may not.
    seed_everything(seed + distributed.rank())
    autocast = runtime.choose_autocast(settings.precision, device, net)
    chosen, selector = metrics(evaluation, data)
    kind = OPTIMIZERS.build(config.get("optimizer", {"type": "AdamW"}))
    is_whole = train_settings.live_vocabulary and not (settings.strategy == "fsdp" and distributed.world_size() > 1)
    live = live_table(net, tokens, kind) if is_whole else None
    averaged = moving_average(net, train_settings)
    if settings.compile is not None:
        compile_towers(net, settings.compile)
    wrapped = parallel(net, device, settings.strategy, averaged=averaged, autocast=autocast)
    optimizer = kind.build(net)
    return Run(
        model=net,
        parallel=wrapped,
        optimizer=optimizer,
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
        saver=checkpoint.saver_of(folder),
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
            "runtime.compile": settings.compile,
            "data.augment_on_device": "used" if fed.augmentation is not None and device.type != "cpu" else None,
        },
        averaged=averaged,
        live=None if live is None else LiveVocabulary(live, kind, optimizer),
        mixings=inputs.mixings(net, data_settings, train_settings),
        augmentation=fed.augmentation,
    )


def ready(
    net: Model,
    data: Dataset,
    split: Split,
    settings: DataSettings,
    log: logging.Logger,
    earlier: dict | None,
    cache: TokenCache | None = None,
) -> Tokens | None:
    """Initialise ``net`` from the data, or with its weights from an earlier start.

    Returns:
        The tokenised caption table; ``None`` for a model without a text tower.
    """
    tokens = inputs.tokens_of(net, data, settings, log, cache)
    if earlier is not None:
        checkpoint.load_weights(net, earlier["model"], earlier["path"])
        for tower in net.children():
            if isinstance(tower, Tower):
                tower.weights = f"of {earlier['path']}"
    else:
        counts = data.label_counts(data.rows_of(split.train))
        net.initialise(inputs.class_captions(data, tokens), torch.from_numpy(counts))
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
    data = run_.dataset
    parts = {part: data.rows_of(getattr(run_.split, part)) for part in ("train", "val", "test")}
    lines = [f"{run_.split.name}: " + "  ".join(f"{part} {len(found)}" for part, found in parts.items()) + " cases"]
    counts = {part: np.atleast_2d(data.label_counts(rows))[-1] for part, rows in parts.items()}  # of findings, the present ones
    if 1 <= len(data.classes) <= 20:
        lines += aligned(["cases", *data.classes], [[part, *map(str, found)] for part, found in counts.items()]).splitlines()
    for part, found in counts.items():
        absent = [name for name, number in zip(data.classes, found, strict=True) if len(parts[part]) and not number]
        if absent:
            lines.append(f"note: {part} has no cases of {shortened(absent)}")
    weights = getattr(run_.model.criterion, "pos_weight" if run_.model.multi_label else "class_weights", None)
    if weights is not None and not isinstance(weights, str):  # their meaning depends on the order of the classes
        named = [f"{name} {weight:g}" for name, weight in zip(data.classes, weights, strict=True)]
        lines.append(f"{'pos_weight' if run_.model.multi_label else 'class weights'} as given: {shortened(named, 50)}")
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
        f"{run_.device} {run_.precision}{processes}; {run_.last_step} steps; hooks {', '.join(type(h).__name__ for h in run_.hooks)}"
    )
    return lines
