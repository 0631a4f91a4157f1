"""Holm's adjustment against the closed test that it abbreviates."""

from itertools import combinations

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.statistics.multiplicity import holm


def closed_test(p_values):
    """Adjusted p-value of a hypothesis: the largest Bonferroni p-value of any set of hypotheses that contains it."""
    rows = range(len(p_values))
    sets = [subset for size in range(1, len(p_values) + 1) for subset in combinations(rows, size)]
    return [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if row in s) for row in rows]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closed_bonferroni_test(seed):
    p_values = np.random.default_rng(seed).uniform(size=5) ** 3
    p_values[3] = p_values[0]  # a tie
    np.testing.assert_allclose(holm(p_values), closed_test(p_values), rtol=1e-12)


def test_known_numbers():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_comparison_that_was_not_possible_is_not_counted():
    np.testing.assert_array_equal(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert holm([]).shape == (0,) and holm([0.2]).tolist() == [0.2]


def test_p_values_outside_of_0_to_1_are_refused():
    with pytest.raises(DataError, match=r"holm: a p-value of 1\.5\. "):
        holm([0.2, 1.5])
