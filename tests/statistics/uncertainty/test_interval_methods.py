"""Interval formulas against scipy, a root search, and special cases."""

import numpy as np
import pytest
from scipy import optimize, stats

from clipzoo.statistics.uncertainty.interval_methods import effective_size, log_t, logit_t, median_limits, mover, plain_t, wilson


@pytest.mark.parametrize("hits,size", [(0, 7), (3, 7), (20, 20), (180, 200)])
def test_wilson_is_the_one_of_scipy(hits, size):
    for level in (0.8, 0.95):
        expected = stats.binomtest(hits, size).proportion_ci(level, method="wilson")
        found = wilson(hits / size, size, stats.norm.ppf(0.5 + level / 2))
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_inverts_the_score_test_for_any_size():
    def distance(p, value=0.7, size=13.7, quantile=2.3):
        return (value - p) ** 2 - quantile**2 * p * (1 - p) / size

    expected = optimize.brentq(distance, 0.01, 0.7), optimize.brentq(distance, 0.7, 0.99)
    assert wilson(0.7, 13.7, 2.3) == pytest.approx(expected, abs=1e-9)


def test_effective_size_is_the_number_of_independent_cases():
    assert effective_size(0.8, 0.8 * 0.2 / 50) == pytest.approx(50)
    assert all(np.isnan(effective_size(value, variance)) for value, variance in ((1.0, 0.1), (0.0, 0.0), (0.5, 0.0), (0.5, np.nan)))


def test_transformed_intervals_are_symmetric_on_their_scale():
    low, high = logit_t(0.9, 0.0004, 2.0)
    logit = [np.log(p / (1 - p)) for p in (low, 0.9, high)]
    assert logit[1] - logit[0] == pytest.approx(logit[2] - logit[1]) == pytest.approx(2 * 0.02 / 0.09)
    low, high = log_t(0.5, 0.01, 2.0)
    assert low * high == pytest.approx(0.25) and high / 0.5 == pytest.approx(np.exp(0.4))
    assert plain_t(0.3, 0.01, 2.0) == pytest.approx((0.1, 0.5))


def test_mover_of_symmetric_limits_is_the_usual_standard_error():
    rho = np.array([[1, 0.3], [0.3, 1]])
    se, quantile = np.array([0.05, 0.1]), 1.96
    limits = [(v - quantile * s, v + quantile * s) for v, s in zip((0.6, 0.8), se, strict=True)]
    expected = quantile * np.sqrt(se[0] ** 2 + se[1] ** 2 - 2 * 0.3 * se[0] * se[1])
    assert mover([0.6, 0.8], limits, rho, [1, -1]) == pytest.approx((-0.2 - expected, -0.2 + expected))


def test_mover_takes_the_limit_on_the_right_side():
    """Newcombe 1998, method 10: 56/70 - 48/80 gives 0.0524 to 0.3339."""
    limits = [wilson(56 / 70, 70, 1.959964), wilson(48 / 80, 80, 1.959964)]
    assert mover([0.8, 0.6], limits, np.eye(2), [1, -1]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_median_limits_have_the_coverage_of_order_statistics():
    rng = np.random.default_rng(0)
    covered = [low <= 0.5 <= high for low, high in (median_limits(rng.random(81), np.arange(81), 1.96) for _ in range(500))]
    assert 0.92 < np.mean(covered) < 0.98
    values, places = np.sort(rng.random(27)), []
    for repeats in (1, 3):  # each value three times in its group says what it says once
        limits = median_limits(np.repeat(values, repeats), np.arange(27 * repeats) // repeats, 1.96)
        places.append([int(np.searchsorted(values, limit)) for limit in limits])
    assert np.abs(np.subtract(*places)).max() <= 1 and places[0][1] - places[0][0] > 8
    assert median_limits(np.array([1.0, 1.0, 1.0]), np.arange(3), 1.96) == (1.0, 1.0)
