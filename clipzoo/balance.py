"""Weights that balance classes of different sizes, shared by the sampler and the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Method = Literal["inverse_freq", "inverse_sqrt", "balanced"]


def weight_of_a_case(class_counts: np.ndarray, method: Method, smooth_factor: float = 1.0) -> np.ndarray:
    """``[C]`` float64: the weight of one case of each class, up to a common factor.

    With n cases in the class and the smooth factor s: 1 / (n + s) for ``'inverse_freq'``, 1 / sqrt(n + s) for ``'inverse_sqrt'``, and
    1 / n for ``'balanced'``, which gives all classes the same total weight. A class without cases is weighted as if it had one.

    Args:
        class_counts: ``[C]`` int64 numbers of cases per class in the training part.
        method: Weighting rule, as above.
        smooth_factor: The term s, in cases; 0 or more. Ignored by ``'balanced'``.
    """
    import numpy as np

    sizes = np.asarray(class_counts, dtype=np.float64) + (0.0 if method == "balanced" else smooth_factor)
    sizes = np.where(sizes > 0, sizes, 1.0)
    return 1.0 / (np.sqrt(sizes) if method == "inverse_sqrt" else sizes)
