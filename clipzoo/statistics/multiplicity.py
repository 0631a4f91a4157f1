"""P-values of several comparisons.

Shapes: M comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipzoo.errors import DataError


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p-values so that the chance of any false finding among M comparisons stays below the level, under any dependence.

    The k-th smallest of M p-values is multiplied by M - k + 1, then made monotone and cut off at 1.

    Args:
        p_values: ``[M]`` float in [0, 1]; NaN for a comparison that was not possible, which is not counted in M.

    Returns:
        ``[M]`` float64 adjusted p-values in the order of ``p_values``; NaN stays NaN.

    Raises:
        DataError: A p-value is outside [0, 1].

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    p_values_M = np.asarray(p_values, dtype=np.float64).reshape(-1)
    known = np.flatnonzero(~np.isnan(p_values_M))
    p = p_values_M[known]
    if ((p < 0) | (p > 1)).any():
        raise DataError(f"holm: a p-value of {p[(p < 0) | (p > 1)][0]:g}. P-values are between 0 and 1")
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.full(len(p_values_M), np.nan)
    adjusted[known[order]] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted
