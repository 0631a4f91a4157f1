"""Logistic regression on features."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.config.arguments import Positive
from clipzoo.probes.base import Examples, FittedProbe, Probe
from clipzoo.probes.choice import choose, log_loss
from clipzoo.probes.threads import threads_for
from clipzoo.registries import PROBES

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_USUAL = 10.0
_ITERATIONS = 1000
_ROUGH = 1e-4  # tolerance that is accurate enough for a choice


@PROBES.register_module()
class LinearProbe(Probe):
    """Multinomial logistic regression (L-BFGS, at most 1000 iterations) with an L2 penalty, using scikit-learn.

    It is fitted in convenient coordinates: features minus their mean, divided by their spread s (the root mean squared distance from the
    mean), and, with fewer examples than features, in the subspace spanned by the examples. As the intercept is not penalised and rotations
    do not change the penalty, the result is that of the original features with scikit-learn's ``C = c / s²``, up to the tolerance.

    Args:
        c: Inverse strength of the penalty relative to the squared spread, so that one value has the same meaning for all towers, whether
            their features lie close together or not. ``None`` chooses among 0.01, 0.1, … 1000 within the examples, from strong to weak
            penalties until the loss has risen twice in a row; if that is impossible, 10 is used.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020, appendix A.3.
    The sweep there has 96 steps over 12 decades on a validation set; this one has six steps, as it is repeated for every task.
    """

    name = "linear"
    copies = 10

    def __init__(self, c: Positive | None = None):
        self.c = c
        self._tolerance = 1e-7

    def refit(self, examples: Examples, chosen: Mapping[str, float]) -> FittedProbe:
        """See ``Probe.refit``; the tolerance is that of the choice, which is seven times as fast."""
        again = copy.copy(self)
        again.c, again._tolerance = chosen["c"], _ROUGH
        return again.fit(examples)

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        place = _Coordinates.of(examples.features)
        inputs = place.of_features(examples.features)
        values = STRENGTHS if self.c is None else (float(self.c),)
        choice = choose(examples, [{"c": c} for c in values], {"c": _USUAL}, lambda folds: _held_out(examples, inputs, folds, values))
        classes = np.unique(examples.labels)
        if len(classes) == 1:
            only = np.eye(examples.num_classes)[classes]
            return FittedProbe(lambda features: np.tile(only, (len(features), 1)), choice.values, choice.notes)
        model = _model(choice.values["c"], tol=self._tolerance)
        _fit(model, inputs, examples.labels, examples.weights)

        def probabilities(features_MD: np.ndarray) -> np.ndarray:
            found = np.zeros((len(features_MD), examples.num_classes))
            if len(features_MD):
                found[:, classes] = model.predict_proba(place.of_features(features_MD))
            return found

        return FittedProbe(probabilities, choice.values, choice.notes)


@dataclass(frozen=True)
class _Coordinates:
    """Coordinates of the regression, R wide.

    Attributes:
        mean: ``[D]`` mean of the examples.
        spread: Root mean squared distance from the mean; 1 if all examples are equal.
        turn_DR: Rotation into the subspace that they span; ``None`` for none.
    """

    mean: np.ndarray
    spread: float
    turn_DR: np.ndarray | None

    @classmethod
    def of(cls, features_ND: np.ndarray) -> _Coordinates:
        mean = features_ND.mean(axis=0, dtype=np.float64)
        centred = features_ND - mean
        spread = float(np.sqrt((centred**2).sum(axis=1).mean()))
        turn_DR = np.linalg.qr(centred.T)[0] if len(centred) < centred.shape[1] else None
        return cls(mean, spread if spread > 1e-9 else 1.0, turn_DR)

    def of_features(self, features_MD: np.ndarray) -> np.ndarray:
        """``[M, R]`` float64 coordinates of features."""
        centred = (features_MD - self.mean) / self.spread
        return centred if self.turn_DR is None else centred @ self.turn_DR


def _model(c: float, tol: float, warm_start: bool = False) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=_ITERATIONS, tol=tol, warm_start=warm_start)


def _fit(model: LogisticRegression, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(), threads_for(inputs.size):
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 1000 iterations the probabilities no longer change
        model.fit(inputs, labels, weights)


def _held_out(examples: Examples, inputs: np.ndarray, folds: np.ndarray, values: Sequence[float]) -> Iterator[np.ndarray]:
    """From strong to weak penalties, each solution initialising the next; ends when the log loss decides and has risen twice in a row."""
    labels, weights = examples.labels, examples.weights
    held_out = [folds == fold for fold in range(folds.max() + 1)]
    models = [_model(values[0], tol=_ROUGH, warm_start=True) for _ in held_out]
    losses: list[float] = []
    for c in values:
        logits_NC = np.full((len(labels), examples.num_classes), -np.inf)
        for out, model in zip(held_out, models, strict=True):
            model.C = c
            _fit(model, inputs[~out], labels[~out], None if weights is None else weights[~out])
            logits_NC[np.ix_(out, model.classes_)] = model.predict_log_proba(inputs[out])
        yield logits_NC
        losses.append(float(log_loss(logits_NC, labels, weights)))
        if examples.criterion is None and losses[-3:] == sorted(losses[-3:]) and len(set(losses[-3:])) == 3:
            return
