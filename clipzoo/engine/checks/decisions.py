"""Checks of the keys of section ``evaluation`` that need a kind of data, and which part selects the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.config import Config
from clipzoo.config.settings import DataSettings, EvaluationSettings
from clipzoo.errors import ConfigError, did_you_mean, shortened
from clipzoo.records.folds import Split
from clipzoo.registries import SPLITTERS
from clipzoo.scoring.units import of_two_classes
from clipzoo.statistics.findings import MEANS

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset


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
        if value and data.task == "findings" and key != "operating_point":
            what = "requires one class per image, but"
            raise ConfigError(f"evaluation.{key}: {what} {type(data).__name__} has findings (several labels per image). Remove it")
    if data.task == "findings" and SPLITTERS.expand(config.splits).get("num_repeats", 1) > 1:
        raise ConfigError("splits.num_repeats: repeats of findings (several labels per image) cannot be combined. Set it to 1")
    if data.task == "findings" and settings.select in (None, *MEANS):
        _check_answers(config, data, splits, settings.select or "mean_auroc")
    if data.task == "findings":
        _check_known(data)
    if settings.unit == "group":
        _check_groups(data, is_near=DataSettings.of(config).near_duplicates is not None)
    if settings.positive_class is not None and settings.positive_class not in data.classes:
        hint, classes = did_you_mean(settings.positive_class, data.classes), shortened(data.classes, 10)
        raise ConfigError(f"evaluation.positive_class: there is no class '{settings.positive_class}'.{hint} Classes: {classes}")
    if settings.calibrate:
        _check_val(config, data, splits)
    if settings.wise_ft and any(watched_part(config, split) != "val" for split in splits):
        raise ConfigError("evaluation.wise_ft: every fold needs a val part that chooses. Raise splits.val_fraction, or remove it")


def _check_known(data: Dataset) -> None:
    known = data.label_counts(np.arange(len(data))).sum(axis=0)
    unknown = [name for name, number in zip(data.classes, known, strict=True) if not number]
    if unknown:
        raise ConfigError(f"data.dataset.findings: nothing is known of {shortened(unknown, 3)} in any case. Remove it from findings")


def _check_groups(data: Dataset, is_near: bool) -> None:
    label_of: dict[str, int] = {}
    given: dict[str, set[str]] = {}
    for image in data.single_images.cases:
        given.setdefault(image.group, set()).add(data.single_images.given_groups.get(image.id, image.group))
    for case in data.cases:
        if case.label is not None and label_of.setdefault(case.group, case.label) != case.label:
            near = is_near and len(given.get(case.group, ())) > 1
            raise ConfigError(of_two_classes(case.group, data.classes[label_of[case.group]], data.classes[case.label], near=near))


def joined_units(config: Config, data: Dataset) -> list[str]:
    """The note of a summary whose units are groups that ``data.near_duplicates`` joined; nothing if there are none."""
    if EvaluationSettings.of(config).unit != "group" or DataSettings.of(config).near_duplicates is None:
        return []
    images = data.single_images
    given = {images.given_groups.get(case.id, case.group) for case in images.cases}
    counted = {case.group for case in images.cases}
    if len(counted) == len(given):
        return []
    return [
        f"evaluation.unit='group': groups with nearly equal or identical images count once together (data.near_duplicates='group'): "
        f"{len(given)} groups of the data make {len(counted)}"
    ]


def _check_answers(config: Config, data: Dataset, splits: Sequence[Split], select: str) -> None:
    """Refuse parts that select the epoch by a mean over findings, none of which is both present and absent there."""
    without = []
    for split in splits:
        part = watched_part(config, split)
        if part is not None and not (data.label_counts(data.rows_of(getattr(split, part))) > 0).all(axis=0).any():
            without.append(f"{split.name} ({part})")
    if without:
        raise ConfigError(
            f"evaluation.select: {select} is undefined in {shortened(without, 3)}, where no finding is both present and absent. Set "
            "evaluation.select='binary_log_loss', or give that part more cases (splits.val_fraction)"
        )


def _check_val(config: Config, data: Dataset, splits: Sequence[Split]) -> None:
    where = "evaluation.calibrate"
    if watched_part(config, splits[0]) == "test":
        raise ConfigError(f"{where}: a temperature needs a val part that is not reported. Set splits.select_on_test=False")
    without = [split.name for split in splits if not data.labelled[data.rows_of(split.val)].any()]
    if without:
        raise ConfigError(
            f"{where}: the val part of {shortened(without, 3)} has no labelled cases to fit a temperature on. Raise splits.val_fraction"
        )


def watched_part(config: Config, split: Split) -> str | None:
    """The part that selects the epoch: test only if explicitly requested, otherwise val if it has cases, otherwise ``None``."""
    if SPLITTERS.expand(config.splits).get("select_on_test", False):
        return "test"
    return "val" if split.val else None
