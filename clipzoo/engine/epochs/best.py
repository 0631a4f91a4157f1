"""When an evaluation replaces the best one so far.

On a few val cases the selecting metric takes few values, so that many epochs are equally good by it. The log loss of the same predictions
is continuous and tells them apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One evaluation, as far as the choice of the epoch is concerned.

    Attributes:
        value: The selecting metric; NaN if undefined.
        log_loss: Log loss of the same predictions; NaN for retrieval, and if unknown.
    """

    value: float
    log_loss: float = math.nan

    def replaces(self, best: Score, greater_is_better: bool) -> bool:
        """Whether this evaluation, the later one, is chosen instead of ``best``.

        Of two equal values, that with the lower log loss is chosen; if log losses are equal or undefined, the later one.
        """
        if self.value != best.value:
            return is_better(self.value, best.value, greater_is_better)
        return not self.log_loss > best.log_loss


def is_better(value: float, best: float, greater_is_better: bool) -> bool:
    """Whether ``value`` is strictly better. NaN never is, and any defined value is better than NaN."""
    if value != value:
        return False
    return best != best or (value > best if greater_is_better else value < best)
