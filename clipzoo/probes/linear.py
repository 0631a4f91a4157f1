"""Logistic regression on the features."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.errors import ConfigError
from clipzoo.probes.base import Examples, FittedProbe, Probe
from clipzoo.probes.choice import choose
from clipzoo.registries import PROBES

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
_ITERATIONS = 1000


@PROBES.register_module()
class LinearProbe(Probe):
    """Multinomial logistic regression (L-BFGS, at most 1000 iterations) with an L2 penalty, through scikit-learn.

    Fewer examples than features are first turned into the space that they span. Penalty and loss do not change under a rotation, so the
    result is the same, and a task of 25 images is learnt in milliseconds.

    Args:
        c: Inverse strength of the penalty, scikit-learn's ``C``. ``None`` chooses among 0.1, 1, … 10000 inside the examples, from strong
            to weak penalties until the loss has risen twice in a row; where that is impossible, 10 is taken.

    Raises:
        ConfigError: ``c`` is not positive.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020, appendix A.3.
    The sweep there has 96 steps over 12 decades on a validation set; this one has six steps, as it is made again for every task.
    """

    name = "linear"

    def __init__(self, c: float | None = None):
        if c is not None and not c > 0:
            raise ConfigError(f"LinearProbe: c={c} must be above 0. Usual: 0.1 … 1000")
        self.c = c

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        values = STRENGTHS if self.c is None else (float(self.c),)
        inputs, turn_DR = _spanned(examples.features.astype(np.float64))
        choice = choose(examples, [{"c": c} for c in values], {"c": 10.0}, lambda folds: _losses(examples, inputs, folds, values))
        classes = np.unique(examples.labels)
        if len(classes) == 1:
            only = np.eye(examples.num_classes)[classes]
            return FittedProbe(lambda features: np.tile(only, (len(features), 1)), choice.values, choice.notes)
        model = _model(choice.values["c"], tol=1e-8)
        _fit(model, inputs, examples.labels)

        def probabilities(features_MD: np.ndarray) -> np.ndarray:
            found = np.zeros((len(features_MD), examples.num_classes))
            if len(features_MD):
                turned = features_MD.astype(np.float64)
                found[:, classes] = model.predict_proba(turned if turn_DR is None else turned @ turn_DR)
            return found

        return FittedProbe(probabilities, choice.values, choice.notes)


def _spanned(features_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Examples in coordinates of the space they span ``[N, R]``, and what turns features into these ``[D, R]``; ``None``: nothing does."""
    if len(features_ND) >= features_ND.shape[1]:
        return features_ND, None
    turn_DR = np.linalg.qr(features_ND.T)[0]
    return features_ND @ turn_DR, turn_DR


def _model(c: float, tol: float, warm_start: bool = False) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=_ITERATIONS, tol=tol, warm_start=warm_start)


def _fit(model: LogisticRegression, inputs: np.ndarray, labels: np.ndarray) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 1000 iterations the probabilities no longer move
        model.fit(inputs, labels)


def _losses(examples: Examples, inputs: np.ndarray, folds: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    """Strong penalties first, each solution the start of the next; what comes after two rises in a row is not tried and infinite."""
    labels = examples.labels
    held_out = [folds == fold for fold in range(folds.max() + 1)]
    models = [_model(values[0], tol=1e-5, warm_start=True) for _ in held_out]
    total = np.full(len(values), np.inf)
    for index, c in enumerate(values):
        total[index] = 0.0
        for out, model in zip(held_out, models, strict=True):
            model.C = c
            _fit(model, inputs[~out], labels[~out])
            right = model.predict_proba(inputs[out])[np.arange(out.sum()), np.searchsorted(model.classes_, labels[out])]
            total[index] -= np.log(np.maximum(right, np.finfo(np.float64).tiny)).sum()
        if index > 1 and total[index] > total[index - 1] > total[index - 2]:
            break
    return total / len(labels)
