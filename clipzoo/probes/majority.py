"""The lower bound for any classifier: the class frequencies."""

from __future__ import annotations

import numpy as np

from clipzoo.probes.base import Examples, FittedProbe, Probe
from clipzoo.registries import PROBES


@PROBES.register_module()
class MajorityClass(Probe):
    """Predicts the class frequencies of the examples for every image; the predicted class is the most frequent one.

    Ignores the images. Its accuracy is the share of the largest class, and its log loss the entropy of the classes.
    """

    name = "majority"
    copies = 3

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        shares = examples.counts / len(examples)
        return FittedProbe(lambda features: np.tile(shares, (len(features), 1)))
