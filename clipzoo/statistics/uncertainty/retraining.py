"""What training adds to the uncertainty of a cross-validated metric, where models are quick to train again.

The out-of-fold predictions of a cross-validation are not independent: each case is also a training case of the others. An interval that
takes the models as given misses that, and is too narrow where there is little to learn (Bates, Hastie and Tibshirani 2021). Here the whole
procedure, training included, is repeated without one block of groups at a time.

A metric that is a mean over cases can be decomposed into effects of single cases, of pairs, and so on (Efron and Stein 1981); let effects
of k cases contribute the variance v_k. The jackknife with training has the expectation V_J = sum k v_k, which is too large. The variance
of the terms as if they were independent, V_0, is at least sum v_k / k if an effect shows in the terms of its own k cases. Then, by
Cauchy-Schwarz, sqrt(V_0 V_J) is at least sum v_k, the variance sought, and equal to it if all effects are of one order. Where training is
stable, V_J = V_0, and little changes: with ten blocks the factor is about 1.03 by chance. Deviations are from the value of all cases, so
that learning from fewer cases counts too. Using the geometric mean is our own; ``benchmarks/random_labels.py`` shows how it covers.

Shapes: N cases · G groups · K blocks of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clipzoo.statistics.cases import Cases
from clipzoo.statistics.scores import Outcomes, flattened, point_scores
from clipzoo.statistics.uncertainty.estimates import Estimates
from clipzoo.statistics.uncertainty.influence import Key
from clipzoo.statistics.uncertainty.resampling import jackknife_weights

NUM_BLOCKS = 10  # the standard error of the factor is then about 12 %


def without_blocks(cases: Cases, *, num_blocks: int = NUM_BLOCKS) -> Iterator[np.ndarray]:
    """``[N]`` bool for each of K blocks of groups: the cases that remain without it. Classes are spread evenly over the blocks.

    Args:
        cases: N cases of G groups.
        num_blocks: Largest K, 2 or more.
    """
    for weights in jackknife_weights(cases.groups, cases.labels, max_blocks=num_blocks).weights:
        yield weights > 0


def widening(cases: Cases, left_out: Sequence[Cases]) -> dict[Key, float]:
    """Factor, 1 or more, of the standard error of each metric.

    Args:
        cases: Out-of-fold predictions.
        left_out: K tables: those of the cross-validation without one block of groups each, in training and in testing.

    Returns:
        Factor by metric; metrics without variance are left out.
    """
    influence = Estimates.of_cases(cases, Outcomes.of(cases), 0.95).influence
    values: dict[Key, list[float]] = {key: [] for key in influence.points}
    for table in left_out:
        for name, c, found in flattened(point_scores(Outcomes.of(table))):
            values[name, c].append(float(found[0]))
    factors = {}
    for key, of_blocks in values.items():
        retrained, fixed = _variance(influence.points[key], np.array(of_blocks)), influence.variance(key)
        if retrained > 0 and fixed > 0:
            factors[key] = float(max(retrained / fixed, 1.0) ** 0.25)
    return factors


def _variance(value: float, left_out: np.ndarray) -> float:
    """Jackknife variance around the value of all cases; NaN if the metric is undefined without one of the blocks."""
    return float((len(left_out) - 1) / len(left_out) * ((left_out - value) ** 2).sum())
