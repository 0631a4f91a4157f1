"""One vector per class: the mean of its examples."""

from __future__ import annotations

import numpy as np

from clipzoo.config.arguments import Positive
from clipzoo.probes.base import Examples, FittedProbe, Probe, normalised, softmax
from clipzoo.probes.choice import choose, log_loss
from clipzoo.registries import PROBES

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)


@PROBES.register_module()
class Prototype(Probe):
    """Cosine similarity to the mean of a class's examples (normalised, averaged, normalised), divided by a temperature, softmax.

    The temperature says how sure the probabilities are; which class is the most probable does not depend on it.

    Args:
        temperature: ``None`` chooses among 0.002 … 1 inside the examples; where that is impossible, the model's own is taken.

    Source: Snell et al. 2017, "Prototypical Networks for Few-shot Learning", arXiv:1703.05175, equations 1 and 2. The distance there is the
    squared Euclidean one; here it is the cosine, as CLIP's features have no length.
    """

    name = "prototype"

    def __init__(self, temperature: Positive | None = None):
        self.temperature = temperature

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        values = TEMPERATURES if self.temperature is None else (float(self.temperature),)
        choice = choose(
            examples,
            [{"temperature": value} for value in values],
            {"temperature": 1.0 / examples.logit_scale},
            lambda folds: _losses(examples, folds, values),
        )
        prototypes_CD, missing = prototypes(normalised(examples.features), examples.labels, examples.num_classes)
        temperature = choice.values["temperature"]

        def probabilities(features_MD: np.ndarray) -> np.ndarray:
            return softmax(_similarity(features_MD, prototypes_CD, missing) / temperature)

        return FittedProbe(probabilities, choice.values, choice.notes)


def prototypes(features_ND: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """``[C, D]`` normalised means, and ``[C]`` bool where a class has no example (its row is zeros)."""
    sums_CD = np.zeros((num_classes, features_ND.shape[1]))
    np.add.at(sums_CD, labels, features_ND)  # in float64; the mean and the sum have the same direction
    return normalised(sums_CD), np.bincount(labels, minlength=num_classes) == 0


def _similarity(features_MD: np.ndarray, prototypes_CD: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """``[M, C]`` cosines; -inf for a class without an example."""
    return np.where(missing, -np.inf, features_MD @ prototypes_CD.T)


def _losses(examples: Examples, folds: np.ndarray, temperatures: tuple[float, ...]) -> np.ndarray:
    features = normalised(examples.features)
    similarity_NC = np.empty((len(examples), examples.num_classes))
    for fold in range(folds.max() + 1):
        out = folds == fold
        found = prototypes(features[~out], examples.labels[~out], examples.num_classes)
        similarity_NC[out] = _similarity(features[out], *found)
    return np.array([log_loss(similarity_NC / temperature, examples.labels) for temperature in temperatures])
