"""Whether larger or smaller values of a metric are better, by its name. Imports no numpy, so that stored results print immediately."""

from __future__ import annotations

_LOSSES = ("log_loss", "binary_log_loss", "brier", "mean_rank", "median_rank", "negative_similarity")


def greater_is_better(name: str) -> bool:
    """Whether larger values of a metric are better; retrieval metrics may start with ``i2t_`` or ``t2i_``."""
    return name.removeprefix("i2t_").removeprefix("t2i_") not in _LOSSES
