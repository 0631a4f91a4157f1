"""What the data can be scored by (one class per case, captions, or findings), and which metrics and losses fit that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.commands import typed
from clipzoo.config.settings import EvaluationSettings
from clipzoo.errors import ConfigError, did_you_mean, shortened
from clipzoo.metrics import RETRIEVAL_DEFAULTS
from clipzoo.registries import METRICS

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model

DEFAULT_METRICS = {
    "classification": ("Accuracy", "BalancedAccuracy", "MacroF1", "AUROC", "LogLoss"),
    "retrieval": RETRIEVAL_DEFAULTS,
    "findings": ("MeanAUROC", "MeanAveragePrecision", "BinaryLogLoss", "MicroF1"),
}
_DEFAULT_SELECT = {"classification": "balanced_accuracy", "retrieval": "rsum", "findings": "mean_auroc"}
_HAS = {
    "classification": "has classes",
    "retrieval": "has captions and no classes",
    "findings": "has findings (several labels per image)",
}


def metrics(settings: EvaluationSettings, data: Dataset) -> tuple[list[Metric], Metric]:
    """All metrics, and the one among them that selects the epoch.

    Raises:
        ConfigError: ``evaluation.select`` is not among the metrics, or a metric does not fit the kind of data.
    """
    kind = data.task
    built = [METRICS.build(spec) for spec in (DEFAULT_METRICS[kind] if settings.metrics is None else settings.metrics)]
    others = [metric.name for metric in built if metric.kind != kind]
    if others:
        raise ConfigError(
            f"evaluation.metrics: {shortened(others, 3)} cannot be computed here: {type(data).__name__} {_HAS[kind]}, so it is scored by "
            f"{kind}. Remove evaluation.metrics to use the defaults, or see: {typed('list_modules METRICS')}"
        )
    select = settings.select or _DEFAULT_SELECT[kind]
    by_name = {metric.name: metric for metric in built}
    if select not in by_name:
        hint = did_you_mean(select, by_name)
        raise ConfigError(f"evaluation.select: '{select}' is not among the metrics.{hint} Available: {', '.join(by_name)}")
    return built, by_name[select]


def check_task(net: Model, data: Dataset) -> None:
    """Refuse a loss for one class per case on data with findings, and the reverse.

    Raises:
        ConfigError: The model's loss does not fit the data.
    """
    name = type(net.criterion or net).__name__
    if data.task == "findings" and not net.multi_label:
        what = "chooses one class per image" if net.captions == "none" else "compares images with captions, not with each finding"
        other = "BinaryCrossEntropyLoss" if net.captions == "none" else "ClassSigmoidLoss"
        raise ConfigError(f"model.loss: {name} {what}, but {type(data).__name__} {_HAS['findings']}. Use {other}")
    if data.task == "findings" and net.captions == "batch":
        raise ConfigError(
            f"model.loss: {name} compares with the captions drawn for a batch, but an image without findings has none. "
            "Use ClassSigmoidLoss, or a loss with captions='all'"
        )
    if data.task != "findings" and net.multi_label:
        other = "CrossEntropyLoss" if net.captions == "none" else "CaptionCrossEntropyLoss"
        other = other if data.classes else "MultiPositiveContrastiveLoss"
        raise ConfigError(
            f"model.loss: {name} is for findings (several labels per image), but {type(data).__name__} {_HAS[data.task]}. Use {other}, or "
            "a TableDataset with findings or separator"
        )
