"""Class prototypes: the mean of the examples of each class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipzoo.config.arguments import Positive
from clipzoo.probes.base import Examples, FittedProbe, Probe, normalised, softmax
from clipzoo.probes.choice import choose
from clipzoo.registries import PROBES

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)


@PROBES.register_module()
class Prototype(Probe):
    """Softmax over cosine similarities to the class prototypes (normalised, averaged, normalised), divided by a temperature.

    The temperature determines the confidence of the probabilities, but not which class is the most probable.

    Args:
        temperature: ``None`` chooses among 0.002 … 1 within the examples; if that is impossible, the model's own is used.

    Source: Snell et al. 2017, "Prototypical Networks for Few-shot Learning", arXiv:1703.05175, equations 1 and 2, with cosine instead of
    the squared Euclidean distance, as CLIP's features have unit length.
    """

    name = "prototype"
    copies = 7

    def __init__(self, temperature: Positive | None = None):
        self.temperature = temperature

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        values = TEMPERATURES if self.temperature is None else (float(self.temperature),)
        choice = choose(
            examples,
            [{"temperature": value} for value in values],
            {"temperature": 1.0 / examples.logit_scale},
            lambda folds: _held_out(examples, folds, values),
        )
        prototypes_CD, missing = prototypes(normalised(examples.features), examples.labels, examples.num_classes)
        temperature = choice.values["temperature"]

        def probabilities(features_MD: np.ndarray) -> np.ndarray:
            return softmax(_similarity(features_MD, prototypes_CD, missing) / temperature)

        return FittedProbe(probabilities, choice.values, choice.notes)


def prototypes(features_ND: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """``[C, D]`` normalised means, and ``[C]`` bool for classes without examples (whose rows are zeros)."""
    sums_CD = np.zeros((num_classes, features_ND.shape[1]))
    np.add.at(sums_CD, labels, features_ND)  # in float64; mean and sum have the same direction
    return normalised(sums_CD), np.bincount(labels, minlength=num_classes) == 0


def _similarity(features_MD: np.ndarray, prototypes_CD: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """``[M, C]`` cosines; -inf for a class without examples."""
    return np.where(missing, -np.inf, features_MD @ prototypes_CD.T)


def _held_out(examples: Examples, folds: np.ndarray, temperatures: tuple[float, ...]) -> Iterator[np.ndarray]:
    features = normalised(examples.features)
    similarity_NC = np.empty((len(examples), examples.num_classes))
    for fold in range(folds.max() + 1):
        out = folds == fold
        found = prototypes(features[~out], examples.labels[~out], examples.num_classes)
        similarity_NC[out] = _similarity(features[out], *found)
    for temperature in temperatures:
        yield similarity_NC / temperature
