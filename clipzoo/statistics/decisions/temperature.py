"""Temperature scaling: one number, fitted on the val part of a fold, that makes the probabilities of its test part honest.

Shapes: N cases · C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipzoo.errors import DataError

LOWEST, HIGHEST = 0.05, 20.0

_SMALLEST = np.finfo(np.float32).tiny  # stands for a probability of 0, whose logarithm is not finite
_HALVINGS = 60


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: Divisor of the log-probabilities, 0.05 to 20; above 1 makes probabilities less extreme, 1 leaves them as they are.
        log_loss_before: Mean log loss of the cases that it was fitted on, in nats.
        log_loss_after: The same with the temperature applied; never larger.
        num_cases: N.
        note: Why the value is at a limit, or 1 by default; empty otherwise.
    """

    value: float
    log_loss_before: float
    log_loss_after: float
    num_cases: int
    note: str = ""


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> Temperature:
    """Find the temperature that minimises the log loss.

    The loss is convex in 1 / temperature, so that bisection on its slope finds the minimum. If every case is predicted correctly, the loss
    falls for ever as the temperature approaches 0, and the cases do not determine a value: it is then 1.

    Args:
        labels: ``[N]`` int true classes of the val part; cases with -1 are excluded.
        probabilities: ``[N, C]`` float; rows may also sum to less or more than 1.

    Raises:
        DataError: The arrays differ in length.

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2. Log-probabilities stand for logits, from which they
    differ by a constant per case.
    """
    labels_N = np.asarray(labels)
    if len(labels_N) != len(probabilities):
        raise DataError(f"temperature: {len(labels_N)} labels, {len(probabilities)} rows of probabilities. Both need one per case")
    logs_NC = _logarithms(np.asarray(probabilities)[labels_N >= 0])
    labels_N = labels_N[labels_N >= 0]
    if not len(labels_N) or not np.isfinite(logs_NC).all():
        note = "probabilities are not finite" if len(labels_N) else "no labelled cases"
        return Temperature(1.0, float("nan"), float("nan"), len(labels_N), note)
    before, value, note = _loss(logs_NC, labels_N, 1.0), 1.0, ""
    if (logs_NC[np.arange(len(labels_N)), labels_N] == logs_NC.max(axis=1)).all():
        note = f"{len(labels_N)} cases do not determine a temperature: all are predicted correctly"
    elif _slope(logs_NC, labels_N, 1 / LOWEST) < 0:
        value, note = LOWEST, f"limited to {LOWEST:g}: probabilities hardly differ between classes"
    elif _slope(logs_NC, labels_N, 1 / HIGHEST) >= 0:
        value, note = HIGHEST, f"limited to {HIGHEST:g}: predictions are no better than chance"
    else:
        value = _minimum(logs_NC, labels_N)
    return Temperature(value, before, min(_loss(logs_NC, labels_N, 1 / value), before), len(labels_N), note)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """``[N, C]`` float64 softmax of log-probabilities / temperature; the order of the classes does not change, and NaN stays NaN.

    Args:
        probabilities: ``[N, C]`` float.
        temperature: Above 0.

    Raises:
        DataError: The temperature is not a number above 0.
    """
    if not 0 < temperature < np.inf:
        raise DataError(f"temperature: {temperature:g}. It must be above 0")
    return np.exp(_log_softmax(_logarithms(probabilities) / temperature))


def _minimum(logs_NC: np.ndarray, labels_N: np.ndarray) -> float:
    """Temperature between the limits at which the slope is 0."""
    low, high = np.log(1 / HIGHEST), np.log(1 / LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(logs_NC, labels_N, np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))


def _log_softmax(logits_NC: np.ndarray) -> np.ndarray:
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))


def _loss(logs_NC: np.ndarray, labels_N: np.ndarray, inverse: float) -> float:
    """Mean log loss at an inverse temperature."""
    return float(-_log_softmax(inverse * logs_NC)[np.arange(len(labels_N)), labels_N].mean())


def _slope(logs_NC: np.ndarray, labels_N: np.ndarray, inverse: float) -> float:
    """Derivative of the mean log loss by the inverse temperature: expected minus true log-probability; it never falls."""
    expected_N = (np.exp(_log_softmax(inverse * logs_NC)) * logs_NC).sum(axis=1)
    return float((expected_N - logs_NC[np.arange(len(labels_N)), labels_N]).mean())
