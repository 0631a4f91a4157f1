"""Random features for probes to learn from."""

from __future__ import annotations

import numpy as np

from clipzoo.probes import Examples
from clipzoo.probes.base import normalised


def draw(num_classes: int = 3, per_class: int = 6, width: int = 8, noise: float = 0.6, seed: int = 0, **changes) -> Examples:
    """Clusters around random directions, in mixed order, with texts near them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_classes, width))
    labels = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    features = normalised(centres[labels] + noise * rng.normal(size=(len(labels), width)))
    text = normalised(centres + noise * rng.normal(size=centres.shape))
    return Examples(**{"features": features, "labels": labels, "num_classes": num_classes, "text": text, "logit_scale": 20.0, **changes})


def queries(num: int = 40, width: int = 8, seed: int = 9) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(num, width)))
