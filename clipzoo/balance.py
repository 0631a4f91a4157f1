"""What balances classes of different size, for the sampler and for the losses: one meaning of each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Method = Literal["inverse_freq", "inverse_sqrt", "balanced"]


def weight_of_a_case(class_counts: np.ndarray, method: Method, smooth_factor: float = 1.0) -> np.ndarray:
    """``[C]`` float64: what each case of a class weighs, up to a common factor.

    With n cases in the class and the smooth factor s: 1 / (n + s) for ``'inverse_freq'``, 1 / sqrt(n + s) for ``'inverse_sqrt'``, and
    1 / n for ``'balanced'``, by which all classes weigh the same. A class without cases counts as one of one case.

    Args:
        class_counts: ``[C]`` int64 cases of each class in the training part.
        method: See above.
        smooth_factor: s, at least 0, in cases.
    """
    import numpy as np

    sizes = np.asarray(class_counts, dtype=np.float64) + (0.0 if method == "balanced" else smooth_factor)
    sizes = np.where(sizes > 0, sizes, 1.0)
    return 1.0 / (np.sqrt(sizes) if method == "inverse_sqrt" else sizes)
