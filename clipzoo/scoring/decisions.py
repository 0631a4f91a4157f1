"""Decisions that follow from probabilities: what calibration, thresholds and sets fitted on val parts achieve on test parts.

Everything is fitted on the val part of a fold and applied to its test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipzoo.errors import shortened
from clipzoo.records.results import FoldResult
from clipzoo.records.tables import PredictionTable
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.decisions.calibration import brier_score, expected_calibration_error, top_label
from clipzoo.statistics.decisions.conformal import fit_conformal, prediction_sets, set_quality
from clipzoo.statistics.decisions.temperature import apply_temperature
from clipzoo.statistics.decisions.thresholds import Criterion, decision_curve, fit_threshold, operating_point
from clipzoo.statistics.proportions import ClusteredProportion
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights

_ALPHA = 0.1
_THRESHOLDS = np.arange(1, 20) / 20
_MOST_CLASSES = 20  # with more, there is no decision curve for each, and one conformal threshold for all
_RESAMPLES, _MOST_WEIGHTS = 1000, 5_000_000  # fewer resamples of large tables, which vary less


@dataclass(frozen=True)
class Choice:
    """Operating points to report.

    Attributes:
        criterion: As in ``fit_threshold``; ``None`` for no operating points.
        wanted: Sensitivity or specificity to reach.
        positive_class: The only class to report; ``None`` for all.
    """

    criterion: Criterion | None = None
    wanted: float | None = None
    positive_class: str | None = None

    @classmethod
    def of(cls, point: str | Mapping[str, float] | None, positive_class: str | None = None) -> Choice:
        """The choice in ``evaluation.operating_point`` and ``evaluation.positive_class``."""
        if isinstance(point, Mapping):
            return cls(*next(iter(point.items())), positive_class)
        return cls(point, None, positive_class)


@dataclass(frozen=True)
class Decisions:
    """The fields of the same names of ``Summary``, and ``notes`` for it."""

    operating_points: list[dict] = field(default_factory=list)
    decision_curve: list[dict] = field(default_factory=list)
    conformal: dict = field(default_factory=dict)
    calibration: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def decide(table: PredictionTable, results: Sequence[FoldResult], val: Mapping[str, PredictionTable], choice: Choice) -> Decisions:
    """Everything on decisions for the summary; undefined numbers are ``None``.

    Args:
        table: Out-of-fold predictions.
        results: Results of the folds.
        val: Val predictions by fold; folds without are left out where something is fitted, with a note.
        choice: Operating points to report.
    """
    test = Cases.from_table(table)
    fitted_on = {name: Cases.from_table(found) for name, found in val.items()}
    notes, missing = [], [result.fold for result in results if result.fold not in val]
    if missing and (val or choice.criterion):
        notes.append(f"operating points and prediction sets leave out {shortened(missing, 3)}: no val predictions")
    single = choice.positive_class
    classes = [test.classes.index(single)] if single in test.classes else range(len(test.classes))
    weights = None
    if len(test):
        count = max(min(_RESAMPLES, _MOST_WEIGHTS // len(test)), 1)
        weights = bootstrap_weights(test.groups, num_resamples=count, seed=0)
    found = Decisions(
        operating_points=[_operating_point(test, fitted_on, c, choice) for c in classes] if choice.criterion and fitted_on else [],
        decision_curve=[_decision_curve(test, c, weights) for c in classes] if len(classes) <= _MOST_CLASSES and len(test) else [],
        conformal=_conformal(test, fitted_on) if fitted_on else {},
        calibration=_calibration(test, results, weights),
    )
    notes += [f"operating point of {p['class']}: {note}" for p in found.operating_points for note in p["notes"]]
    return Decisions(*map(_plain, (found.operating_points, found.decision_curve, found.conformal, found.calibration)), notes)


def _rows_of(test: Cases, fold: str) -> np.ndarray:
    """``[N]`` bool: the cases of a fold."""
    return test.folds == test.fold_names.index(fold) if fold in test.fold_names else np.zeros(len(test), dtype=bool)


def _operating_point(test: Cases, val: Mapping[str, Cases], c: int, choice: Choice) -> dict:
    """Thresholds of class ``c`` from the val part of each fold, and what they achieve on the test parts together."""
    called, included = np.zeros(len(test), dtype=bool), np.zeros(len(test), dtype=bool)
    thresholds, notes = {}, []
    for fold, cases in val.items():
        fitted = fit_threshold(cases.probabilities[:, c], cases.labels == c, criterion=choice.criterion, wanted=choice.wanted)
        thresholds[fold] = fitted.value
        if fitted.value is None:
            notes.append(f"{fold} is left out: {fitted.reason}")
            continue
        rows = _rows_of(test, fold)
        included |= rows
        called[rows] = test.probabilities[rows, c] >= fitted.value
    found = operating_point(called[included], test.labels[included] == c, test.groups[included])
    shares = {key: getattr(found, key) for key in ("sensitivity", "specificity", "ppv", "npv")}
    counts = ("true_positives", "false_positives", "false_negatives", "true_negatives", "prevalence")
    return {
        "class": test.classes[c],
        "criterion": choice.criterion if choice.wanted is None else f"{choice.criterion} {choice.wanted:g}",
        "thresholds": thresholds,
        **{key: getattr(found, key) for key in counts},
        **{key: share.value for key, share in shares.items()},
        "intervals": {key: _limits(share) for key, share in shares.items() if not math.isnan(share.value)},
        "notes": notes,
    }


def _decision_curve(test: Cases, c: int, weights: np.ndarray | None) -> dict:
    found = decision_curve(test.probabilities[:, c], test.labels == c, _THRESHOLDS, weights=weights)
    numbers = {key: getattr(found, key).tolist() for key in ("thresholds", "model", "low", "high", "treat_all")}
    return {"class": test.classes[c], **numbers}


def _conformal(test: Cases, val: Mapping[str, Cases]) -> dict:
    """Prediction sets with the thresholds of each fold's val part."""
    conditional = "label" if len(test.classes) <= _MOST_CLASSES else "marginal"
    sets, included = np.zeros(test.probabilities.shape, dtype=bool), np.zeros(len(test), dtype=bool)
    thresholds, notes = {}, []
    for fold, cases in val.items():
        fitted = fit_conformal(cases.labels, cases.probabilities, cases.groups, alpha=_ALPHA, conditional=conditional)
        rows = _rows_of(test, fold)
        included |= rows
        sets[rows] = prediction_sets(test.probabilities[rows], fitted)
        thresholds[fold] = fitted.thresholds.tolist()
        notes += [f"{fold}: {fitted.note}"] if fitted.note else []
    found = set_quality(sets[included], test.labels[included], test.groups[included])
    per_class = zip(test.classes, found.coverage_per_class, strict=True)
    return {
        "alpha": _ALPHA,
        "conditional": conditional,
        "coverage": found.coverage.value,
        "interval": _limits(found.coverage),
        "per_class": [{"class": name, "coverage": share.value, "interval": _limits(share)} for name, share in per_class],
        "mean_size": found.mean_size,
        "singletons": found.singletons,
        "empty": found.empty,
        "thresholds": thresholds,
        "notes": notes,
    }


def _calibration(test: Cases, results: Sequence[FoldResult], weights: np.ndarray | None) -> dict:
    """Calibration error of the largest probability, Brier score, and what the temperatures of the folds changed."""
    found = expected_calibration_error(*top_label(test.labels, test.probabilities), test.groups, weights=weights)
    fitted = {result.fold: result.calibration for result in results if result.calibration}
    cases = [int(_rows_of(test, fold).sum()) for fold in fitted]
    losses = {}
    for key in ("log_loss_before", "log_loss_after") if sum(cases) else ():
        values = [found_[f"test_{key}"] for found_ in fitted.values()]
        losses[key] = math.nan if None in values else float(np.average(values, weights=cases))
    return {
        "ece": found.debiased,
        "interval": [found.low, found.high],
        "ece_plug_in": found.plug_in,
        "num_bins": found.num_bins,
        "brier": brier_score(test.labels, test.probabilities),
        "temperatures": {fold: one["temperature"] for fold, one in fitted.items()},
        "log_loss_before": losses.get("log_loss_before"),
        "log_loss_after": losses.get("log_loss_after"),
        "note": found.note,
    }


def _limits(share: ClusteredProportion) -> list[float]:
    return [share.low, share.high]


def _plain(value: object) -> object:
    """A copy with ``None`` for NaN, as JSON stores it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def log_loss_change(table: PredictionTable, temperature: float) -> dict[str, float]:
    """Mean log loss of calibrated predictions, in nats, without the temperature (``test_log_loss_before``) and with it."""
    before = apply_temperature(table.probabilities, 1 / temperature)
    return {"test_log_loss_before": _log_loss(table.labels, before), "test_log_loss_after": _log_loss(table.labels, table.probabilities)}


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    known = labels >= 0
    if not known.any():
        return float("nan")
    chosen = np.asarray(probabilities, dtype=np.float64)[known, labels[known]]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())
