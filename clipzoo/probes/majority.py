"""The least that any classifier must beat: how frequent the classes are."""

from __future__ import annotations

import numpy as np

from clipzoo.probes.base import Examples, FittedProbe, Probe
from clipzoo.registries import PROBES


@PROBES.register_module()
class MajorityClass(Probe):
    """Gives every image the shares of the classes among the examples; its prediction is the most frequent class.

    It does not look at the images. Its accuracy is the share of the largest class, and its log loss the entropy of the classes.
    """

    name = "majority"

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        shares = examples.counts / len(examples)
        return FittedProbe(lambda features: np.tile(shares, (len(features), 1)))
