"""Probes: classifiers on precomputed features. The import loads neither scikit-learn nor torch; the first linear probe does."""

from clipzoo.probes.base import Examples, FittedProbe, Probe
from clipzoo.probes.linear import LinearProbe
from clipzoo.probes.majority import MajorityClass
from clipzoo.probes.nearest import KNearest
from clipzoo.probes.prototype import Prototype
from clipzoo.probes.tip_adapter import TipAdapter
from clipzoo.probes.zero_shot import ZeroShot

__all__ = ["Examples", "FittedProbe", "KNearest", "LinearProbe", "MajorityClass", "Probe", "Prototype", "TipAdapter", "ZeroShot"]
