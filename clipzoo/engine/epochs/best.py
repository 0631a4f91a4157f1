"""When an evaluation replaces the best one so far.

On a few val cases the selecting metric takes few values, so that many epochs are equally good by it. ``benchmarks/few_val_cases.py``
measures what different rules lose.
"""

from __future__ import annotations


def replaces(value: float, best: float, greater_is_better: bool) -> bool:
    """Whether the later evaluation is chosen: if it is as good as the best one, or better. NaN never is; any defined value replaces NaN."""
    if value != value:
        return False
    return best != best or (value >= best if greater_is_better else value <= best)
