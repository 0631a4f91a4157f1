"""ROC and precision–recall curves: against scikit-learn, their areas, naive loops over resamples, and coverage of the bands."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from clipzoo.errors import DataError
from clipzoo.statistics.decisions.curves import precision_recall_curve, roc_curve
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights


def drawn(seed: int, cases: int = 80, digits: int = 1):
    """Scores with ties, outcomes and groups."""
    generator = np.random.default_rng(seed)
    positive = generator.random(cases) < 0.3
    return np.round(generator.normal(positive * 1.2), digits), positive, np.sort(generator.integers(0, cases // 2, cases))


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed: int):
    scores, positive, _ = drawn(seed)
    found = roc_curve(scores, positive)
    false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.x, false)
    np.testing.assert_allclose(found.y, true)
    assert np.isclose(np.trapezoid(found.y, found.x), metrics.roc_auc_score(positive, scores))
    found = precision_recall_curve(scores, positive)
    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(found.x[1:], recall[:-1][::-1])
    np.testing.assert_allclose(found.y[1:], precision[:-1][::-1])
    assert found.y[0] == found.y[1] and found.x[0] == 0
    area = float((np.diff(found.x) * found.y[1:]).sum())
    assert np.isclose(area, metrics.average_precision_score(positive, scores))


def test_bands_equal_a_loop_over_resamples():
    scores, positive, groups = drawn(7)
    groups = np.unique(groups, return_inverse=True)[1]
    weights = bootstrap_weights(groups, positive.astype(np.int64), num_resamples=60, seed=1)
    found = roc_curve(scores, positive, weights=weights), precision_recall_curve(scores, positive, weights=weights)
    rates, precisions = [], []
    for row in weights.astype(int):
        s, p = np.repeat(scores, row), np.repeat(positive, row)
        thresholds = np.unique(s)[::-1]
        true = np.array([0, *((s >= t)[p].mean() for t in thresholds)])
        false = np.array([0, *((s >= t)[~p].mean() for t in thresholds)])
        precision = np.array([p[s >= t].mean() for t in thresholds])
        rates.append([max(np.interp(x, false, true), true[false <= x + 1e-12].max()) for x in found[0].points])
        precisions.append([precision[np.flatnonzero(true[1:] >= r - 1e-12)[0]] for r in found[1].points])
    for curve, naive in zip(found, (rates, precisions), strict=True):
        np.testing.assert_allclose([curve.low, curve.high], np.quantile(naive, [0.025, 0.975], axis=0), atol=1e-12)


def test_undefined_curves_are_empty_and_lengths_are_checked():
    for curve in (roc_curve, precision_recall_curve):
        for scores, positive in (([0.1, 0.2], [True, True]), ([0.1, 0.2], [False, False]), ([np.nan, 0.2], [True, False]), ([], [])):
            assert not len(curve(np.array(scores), np.array(positive, dtype=bool)).x)
        with pytest.raises(DataError, match="2 scores, 1 outcomes"):
            curve(np.zeros(2), np.ones(1, dtype=bool))


@pytest.mark.slow
def test_the_bands_cover():
    """Pointwise bands of 95 % contain the true curve of two normal distributions about as often; clusters of two do not narrow them."""
    from scipy.stats import norm

    generator, inside, points = np.random.default_rng(0), [], np.arange(101) / 100
    true = norm.cdf(1.2 - norm.ppf(1 - points[5:60]))
    for _ in range(200):
        groups = np.repeat(np.arange(100), 2)
        positive = np.repeat(generator.random(100) < 0.4, 2)
        scores = positive * 1.2 + np.repeat(generator.normal(size=100), 2) * 0.8 + generator.normal(size=200) * 0.6
        weights = bootstrap_weights(groups, positive.astype(np.int64), num_resamples=300, seed=3)
        found = roc_curve(scores, positive, weights=weights)
        inside.append((found.low[5:60] <= true) & (true <= found.high[5:60]))
    assert 0.91 <= np.mean(inside) <= 0.98
