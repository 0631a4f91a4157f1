"""What a run is fed: the caption table, features of a frozen image tower, and batches of the training part and of the scored parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console

from clipzoo.config.settings import DataSettings, RuntimeSettings, TrainSettings
from clipzoo.datasets.augmentations import Mixing, augmentation_of, is_none, mixings_of
from clipzoo.datasets.augmentations.batched import BatchedAugmentation, training_transform
from clipzoo.datasets.batches.epochs import EpochBatches
from clipzoo.datasets.batches.loader import eval_loader, train_loader
from clipzoo.datasets.batches.samplers import RandomSampler
from clipzoo.datasets.image_cache.cache import ImageCache
from clipzoo.datasets.token_table import TokenCache
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine.checks import single_cases
from clipzoo.errors import ConfigError
from clipzoo.features.dataset import features_of_cases
from clipzoo.features.store import FeatureStore
from clipzoo.files import cache_folder, expanded_if_known
from clipzoo.records.folds import Split
from clipzoo.registries import SAMPLERS
from clipzoo.runtime import distributed
from clipzoo.runtime.jobs.shares import share_of_workers
from clipzoo.structures import ClassCaptions, Tokens

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.models.base import Model


def token_cache(where: str | None, log: logging.Logger) -> TokenCache | None:
    """The cache of tokens for a value of ``runtime.feature_cache``, in whose folder it is; only the main process writes."""
    folder = None if where is None else cache_folder() if where == "auto" else expanded_if_known(where)
    return None if folder is None else TokenCache(folder / "tokens", lambda message: log.info(f"note: {message}"), distributed.is_main())


def tokens_of(net: Model, data: Dataset, settings: DataSettings, log: logging.Logger, cache: TokenCache | None = None) -> Tokens | None:
    """The whole caption table, tokenised once by the model's tokenizer; ``None`` if it has no tokenizer."""
    if net.tokenizer is None:
        return None
    captions, overlong = data.captions, settings.allow_overlong_captions
    tokens = captions.tokenise(net.tokenizer, "model.text_encoder", allow_overlong=overlong, classes=data.classes, cache=cache)
    if distributed.is_main():
        if captions.note:
            log.info(captions.note)
        for warning in captions.warnings:
            log.warning(f"warning: {warning}")
    return tokens


def class_captions(data: Dataset, tokens: Tokens | None) -> ClassCaptions | None:
    """The rows of the caption table that stand for the classes; ``None`` for a model that reads no captions."""
    if tokens is None or not data.classes:
        return None
    return ClassCaptions.of(tokens, data.class_captions())


def frozen_features(
    net: Model,
    data: Dataset,
    split: Split,
    config: Mapping,
    *,
    device: torch.device,
    log: logging.Logger,
    console: Console,
    images: ImageCache | None = None,
) -> torch.Tensor | None:
    """``[N, F]`` features of a frozen image tower for every case of the split whose images are used as they are; other rows are 0.

    ``None`` if the image tower is trained, the model does not accept features, or ``config`` turns the feature cache off.
    """
    settings, cache = DataSettings.of(config), RuntimeSettings.of(config).feature_cache
    tower = net.image_tower
    if cache is None or not net.takes_features or tower is None or not tower.frozen:
        return None
    parts = ("train", "val", "test") if _unchanged(settings) else ("val", "test")
    rows = np.concatenate([data.rows_of(getattr(split, part)) for part in parts])
    if tower.weights == "random":  # features of random weights are never needed again
        cache = None
    store = FeatureStore.of(cache, lambda message: log.info(f"note: {message}"))
    table, new = features_of_cases(
        tower,
        data,
        rows,
        store,
        what=f"{split.name}: features of the frozen image tower",
        console=console,
        log=log,
        device=device,
        batch_size=settings.scored_batch_size,
        num_workers=share_of_workers(settings.num_workers),
        cache=images,
    )
    if distributed.is_main():
        found = f"features of {len(rows)} cases, from {new} newly encoded images{_unkept(store)}"
        log.info(f"{split.name}: the frozen image tower is replaced by its {found}")
    return torch.from_numpy(table)


def image_cache(config: Mapping, log: logging.Logger | None = None) -> ImageCache:
    """The cache of decoded images, as ``config`` describes it; ``log`` gets a line if there can be none."""
    settings = RuntimeSettings.of(config)
    return ImageCache.of(settings.image_cache, settings.image_cache_gib, (lambda line: None) if log is None else log.info)


def _unchanged(settings: DataSettings) -> bool:
    """Whether training sees a case's images exactly as scoring does: all of them, without augmentation."""
    return is_none(settings.augmentation) and settings.max_views is None


def _unkept(store: FeatureStore) -> str:
    return f"; they are not kept: {store.why}" if store.why else ""


@dataclass(frozen=True)
class Inputs:
    """Everything that a run is fed.

    Attributes:
        tokens: The tokenised caption table; ``None`` for a model without a text tower.
        features: ``[N, F]`` features that stand for the images of a frozen tower; see ``frozen_features``.
        batches: The order of the training part.
        train: Loader of the training part; it reads images or looks up their features.
        scored: Loaders of the val and the test part, without augmentation and shuffling.
        augmentation: What ``data.augment_on_device`` does to training batches on the device; ``None`` without it.
    """

    tokens: Tokens | None
    features: torch.Tensor | None
    batches: EpochBatches
    train: Loader
    scored: dict[str, Loader]
    augmentation: BatchedAugmentation | None = None


def of(
    net: Model,
    tokens: Tokens | None,
    data: Dataset,
    split: Split,
    config: Mapping,
    *,
    seed: int,
    device: torch.device,
    log: logging.Logger,
    console: Console,
    features: bool = True,
) -> Inputs:
    """The inputs of a run on ``split``, checked against what ``net`` can learn from.

    Args:
        net: Model with its initial weights; it defines the preprocessing, and its loss defines which captions a batch needs.
        tokens: Result of ``tokens_of``; ``None`` for a model without a text tower.
        data: Dataset with the cases.
        split: The three parts.
        config: A checked config.
        seed: Seed of order, captions and augmentation.
        device: Device that the batches will be moved to.
        log: Logger for messages.
        console: Console for progress bars.
        features: Whether a frozen image tower may encode all images now, if ``runtime.feature_cache`` allows it, and decoded images may be
            kept (``runtime.image_cache``).

    Raises:
        ConfigError: The training part gives no batches to learn from, or the model does not support several images per case.
    """
    settings = DataSettings.of(config)
    if data.single_images is not data and not net.takes_views:
        raise ConfigError(f"data.views: {type(net).__name__} does not support several images per case (no takes_views). Remove it")
    images = image_cache(config, log) if features else None
    outputs = {"device": device, "log": log, "console": console}
    table = frozen_features(net, data, split, config, images=images, **outputs) if features else None
    batches = training_batches(data, split, settings, net, seed)
    timeout = RuntimeSettings.of(config).timeout
    common = {
        "num_workers": share_of_workers(settings.num_workers),
        "pin_memory": device.type == "cuda",
        "timeout": timeout,
        "cache": images,
    }
    on_device = settings.augment_on_device
    transform, augment = training_transform(augmentation_of(settings.augmentation), net.preprocessing, one_by_one=not on_device)
    train = train_loader(
        data,
        batches,
        transform,
        tokens,
        all_captions=net.captions == "all",
        augment=None if on_device else augment,
        features=table if _unchanged(settings) else None,
        **common,
    )
    transform = evaluation_transform(net.preprocessing)
    scored = {
        part: eval_loader(
            data,
            data.rows_of(getattr(split, part)),
            transform,
            batch_size=settings.scored_batch_size,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            features=table,
            name=f"{part} cases",
            **common,
        )
        for part in ("val", "test")
    }
    single_cases.check(net, batches, train, device)
    warn_of_double_balance(net, batches.sampler, log)
    return Inputs(tokens, table, batches, train, scored, augment if on_device else None)


def mixings(net: Model, settings: DataSettings, train: TrainSettings) -> list[Mixing]:
    """The members of ``data.augmentation`` that mix images.

    Raises:
        ConfigError: The model or ``train.grad_cache`` does not support them.
    """
    found = mixings_of(settings.augmentation)
    names = ", ".join(type(one).__name__ for one in found)
    if found and train.grad_cache:
        raise ConfigError(f"data.augmentation: {names} cannot be used with train.grad_cache. Remove one of the two")
    if found and settings.views is not None:
        raise ConfigError(f"data.augmentation: {names} cannot be used with data.views. Remove one of the two")
    if found and not net.takes_mixed:
        raise ConfigError(f"data.augmentation: {type(net).__name__} does not support {names} (no takes_mixed). Remove it")
    return found


def training_batches(data: Dataset, split: Split, settings: DataSettings, net: Model, seed: int) -> EpochBatches:
    """The order of the training part.

    Raises:
        ConfigError: It is too small for a batch, or its batches have nothing to contrast with.
    """
    rows = data.rows_of(split.train)
    _check_contrast(data, len(rows), settings, net, split)
    sampler = RandomSampler() if settings.sampler is None else SAMPLERS.build(settings.sampler)
    if data.task == "findings" and getattr(sampler, "distinct", "case") == "caption":
        kind = type(sampler).__name__
        raise ConfigError(f"data.sampler: {kind} tells images by their captions, but images without findings have none. Use RandomSampler")
    sampler.order(data.labels_if_any[rows], 0, seed)  # fails now, before a work dir is made, if it cannot order these cases
    rank, world_size = distributed.rank(), distributed.world_size()
    batches = EpochBatches(data, rows, sampler, batch_size=settings.batch_size, seed=seed, rank=rank, world_size=world_size)
    if not len(batches):
        raise ConfigError(f"{split.name}: {len(rows)} training cases are too few for a batch in each of {world_size} processes")
    return batches


def _check_contrast(data: Dataset, num_cases: int, settings: DataSettings, net: Model, split: Split) -> None:
    """Refuse a loss that has nothing to compare with, or that would compare with captions of the scored parts."""
    if net.captions == "none":
        return
    if net.captions == "all":
        if not data.classes:
            loss = type(net.criterion or net).__name__
            raise ConfigError(
                f"model.loss: {loss} compares with the captions of all classes, but {type(data).__name__} has captions and no classes. "
                "Use MultiPositiveContrastiveLoss"
            )
        return
    if distributed.world_size() > 1:
        return
    if settings.batch_size == 1:
        others = ", or a loss over all captions such as CaptionCrossEntropyLoss" if data.classes else ""
        raise ConfigError(
            f"data.batch_size: batches of 1 have nothing to contrast with. Use 2 or more (train.accumulation adds no negatives){others}"
        )
    if num_cases == 1:
        raise ConfigError(
            f"{split.name}: there is a single training case and nothing to contrast it with. Put more cases into the train part"
        )


def warn_of_double_balance(net: Model, sampler: object, log: logging.Logger) -> None:
    """Warn if rare classes are both drawn more often and weighted more, which overcompensates."""
    loss = net.criterion
    if getattr(sampler, "balances", False) and getattr(loss, "balances", False) and distributed.is_main():
        log.warning(
            f"warning: data.sampler {type(sampler).__name__} and model.loss.class_weights of {type(loss).__name__} both correct the "
            "imbalance of classes, so rare classes count twice. Remove one of the two"
        )
