"""Inner folds: the number of epochs is chosen by a cross-validation inside the training part, which is then trained on as a whole.

    fold_1/inner_1 … inner_N   one run each, scored after every epoch on its own val part; no test part is read
    fold_1                     one run on all training cases, for the epoch with the best mean, scored once on the test part

This is nested cross-validation (Varma and Simon, 2006, https://doi.org/10.1186/1471-2105-7-91) with the number of epochs as the only
parameter. Every training case has a say in the choice, and every one is learned from, for the price of N more trainings.

The last run follows the learning rates of the inner ones: the schedule of all epochs, of which it makes the first ones. A schedule that was
compressed to the chosen number of epochs would decay earlier than in the runs that chose it, so that the same number would mean something
else. An epoch of the last run has more steps than one of the inner runs, as it has more cases: what is carried over is how often every case
is seen.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from clipzoo.config import Config
from clipzoo.config.settings import EvaluationSettings, TrainSettings
from clipzoo.engine.build import DEFAULT_HOOKS
from clipzoo.engine.epochs.best import replaces
from clipzoo.errors import ConfigError, TrainingError
from clipzoo.records.inner import EpochChoice, InnerResult
from clipzoo.records.results import FoldResult
from clipzoo.registries import HOOKS, SPLITTERS

NOT_KEPT = ("ResultsHook", "TensorBoardHook", "MetricsCSVHook")  # of inner runs nobody looks at more than the history


def number_of(config: Config) -> int:
    """Number of inner folds; 0 for none."""
    return SPLITTERS.expand(config.splits).get("inner_folds", 0)


def check(config: Config) -> None:
    """Refuse keys that contradict ``splits.inner_folds``.

    Raises:
        ConfigError: The number of epochs is not what is to be chosen, or a val part would be needed.
    """
    if not number_of(config):
        return
    evaluation, train = EvaluationSettings.of(config), TrainSettings.of(config)
    reasons = {
        "splits.select_on_test": (SPLITTERS.expand(config.splits).get("select_on_test"), "would choose the epoch on the test part"),
        "evaluation.every_steps": (evaluation.every_steps, "evaluates between epochs, but whole epochs are chosen. Use evaluation.every"),
        "train.steps": (train.steps, "makes an epoch of an inner run mean something else. Use train.epochs"),
        "evaluation.wise_ft": (evaluation.wise_ft, "needs a val part, which inner folds do not leave"),
        "evaluation.calibrate": (evaluation.calibrate, "needs a val part, which inner folds do not leave"),
    }
    found = [f"{key}: excludes splits.inner_folds, as it {why}. Remove one of the two" for key, (value, why) in reasons.items() if value]
    if found:
        raise ConfigError("\n".join(found))


def cost(config: Config) -> list[str]:
    """What inner folds cost, for the log; nothing without them."""
    number = number_of(config)
    if not number:
        return []
    return [
        f"splits.inner_folds={number} trains {number + 1} networks per fold: {number} on {number - 1}/{number} of its training cases, "
        f"{TrainSettings.of(config).epochs} epochs each, to choose the epoch, and 1 on all of them"
    ]


def chosen_epochs(config: Config, results: Sequence[FoldResult]) -> list[str]:
    """The note of a summary on the chosen epochs; nothing without inner folds."""
    number = number_of(config)
    if not number:
        return []
    epochs = ", ".join(str(result.epoch) for result in results)
    return [f"epochs chosen by {number} inner folds: {epochs} (of {TrainSettings.of(config).epochs})"]


def inner_config(config: Config) -> Config:
    """The config of an inner run: without pictures, tables and trackers."""
    return config.with_values({"hooks": hooks_without(config, NOT_KEPT)})


def hooks_without(config: Config, names: Sequence[str] = ()) -> list:
    """The hooks of a config, without trackers (also a plugin's, which must be imported) and without those of some types."""
    hooks = [dict(hook) if isinstance(hook, Mapping) else hook for hook in config.get("hooks", DEFAULT_HOOKS)]

    def is_kept(name: str) -> bool:
        return name not in names and not HOOKS.get(name).is_tracker

    return [hook for hook in hooks if is_kept(hook["type"] if isinstance(hook, dict) else hook)]


def choose(results: Sequence[InnerResult], greater_is_better: bool) -> EpochChoice:
    """The epoch with the best mean of the selecting metric, among those that every inner run evaluated; the last of equally good ones.

    A run in which a value is never defined, such as the AUROC of a val part with one class, is left out of its mean.

    Args:
        results: One per inner fold.
        greater_is_better: Whether higher values of the selecting metric are better.

    Raises:
        TrainingError: The mean is not defined for any epoch.
    """
    common = sorted(set.intersection(*(set(result.epochs) for result in results)))
    means = _means([dict(zip(result.epochs, result.scores, strict=True)) for result in results], common)
    epoch, best = 0, math.nan
    for candidate in common:
        if replaces(means[candidate], best, greater_is_better):
            epoch, best = candidate, means[candidate]
    if not epoch:
        where = results[0].fold.rpartition("-")[0]
        raise TrainingError(f"{where}: {results[0].metric} was never defined on all inner val parts, so no epoch could be chosen")
    return EpochChoice(epoch, results[0].metric, best, len(results))


def _means(curves: Sequence[Mapping[int, float]], epochs: Sequence[int]) -> dict[int, float]:
    """Epoch -> mean, rounded so that equal means are equal: sums of other numbers may differ in the last digit."""
    defined = [curve for curve in curves if any(value == value for value in curve.values())]
    return {epoch: round(statistics.fmean(c[epoch] for c in defined), 12) if defined else math.nan for epoch in epochs}
