"""The record of a learning curve: intervals against those of the tables, the extrapolation, and its sentences."""

import math
from dataclasses import replace

import numpy as np
import pytest
from run_files import table_of
from scipy.stats import norm, t

from clipzoo.errors import CheckpointError
from clipzoo.records.tables import PredictionTable
from clipzoo.scoring.intervals import intervals_of
from clipzoo.scoring.learning_curve import LearningCurve, ShareResult, make_curve
from clipzoo.statistics.learning_curve import extrapolate
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights

ABOUT = {"name": "名字", "method": "linear", "repeats": 3, "folds_digest": "f", "data_digest": "d"}
SIZES = {0.1: 10, 0.2: 20, 0.4: 40, 0.7: 70, 1.0: 100}


def tables(error, draws: int = 3, num_groups: int = 400) -> list[ShareResult]:
    """Predictions whose share of wrong cases is ``error(groups)``; a case that is right with few groups stays right with more."""
    whole = table_of(num_groups, 1, right=1.0)
    results = []
    for share, groups in SIZES.items():
        drawn = []
        for draw in range(1 if share == 1 else draws):
            difficulty = np.random.default_rng(5).permutation(np.arange(num_groups) / num_groups)
            wrong = difficulty + 0.02 * np.random.default_rng([draw, groups]).normal(size=num_groups) < error(groups)
            probabilities = np.where(wrong[:, None], whole.probabilities[:, ::-1], whole.probabilities)
            drawn.append(replace(whole, probabilities=probabilities))
        results.append(ShareResult(share, float(groups), 2.0 * groups, drawn, {}, 3 * len(drawn)))
    return results


def power(groups):
    return 0.02 + 1.2 * groups**-0.5


def test_the_interval_of_one_draw_is_that_of_its_table():
    results = tables(power, draws=1)
    curve = make_curve(results, "balanced_accuracy", **ABOUT)
    for point, result in zip(curve.points, results, strict=True):
        expected = intervals_of(result.tables[0]).overall
        for name, values in point["metrics"].items():
            np.testing.assert_allclose(values, [expected[name].value, expected[name].low, expected[name].high], atol=1e-12)
        assert (point["value"], point["groups"], point["cases"]) == (point["metrics"]["balanced_accuracy"][0], result.groups, result.cases)


def test_draws_widen_the_interval_by_their_spread():
    result = tables(power)[1]
    (point, *_) = make_curve([result, *tables(power)[2:]], "accuracy", **ABOUT).points
    found = [intervals_of(table).overall["accuracy"] for table in result.tables]
    values = np.array([one.value for one in found])
    assert point["draws"] == pytest.approx(values) and len(set(values)) > 1 and point["value"] == pytest.approx(values.mean())
    half = (np.mean([one.high for one in found]) - np.mean([one.low for one in found])) / 2
    variances, degrees = np.array([values.var(ddof=1) / 3, (half / norm.ppf(0.975)) ** 2]), np.array([2, 399])
    spread = t.ppf(0.975, variances.sum() ** 2 / (variances**2 / degrees).sum()) * math.sqrt(variances[0])
    below = math.sqrt((values.mean() - np.mean([one.low for one in found])) ** 2 + spread**2)
    assert point["low"] == pytest.approx(values.mean() - below)
    assert point["high"] - point["value"] > np.mean([one.high for one in found]) - values.mean()


def test_the_extrapolation_by_a_naive_loop():
    """The same resampled patients and draws at all shares."""
    results = tables(power)
    curve = make_curve(results, "accuracy", seed=4, **ABOUT)
    first = results[0].tables[0]
    groups = np.unique(first.groups, return_inverse=True)[1]
    weights = bootstrap_weights(groups, first.labels, num_resamples=500, seed=4)
    shares = np.random.default_rng([4, 1]).multinomial(3, [1 / 3] * 3, size=500) / 3
    right = [[table.probabilities.argmax(1) == table.labels for table in result.tables] for result in results]
    replicates = np.empty((500, 5))
    for b in range(500):
        for p, draws in enumerate(right):
            of_draws = [np.average(draw, weights=weights[b]) for draw in draws]
            replicates[b, p] = 1 - (np.dot(of_draws, shares[b]) if len(of_draws) > 1 else of_draws[0])
    found = extrapolate(np.array([10.0, 20, 40, 70, 100]), np.array([1 - point["value"] for point in curve.points]), replicates)
    assert curve.determined and found.determined
    expected = (found.gain, found.low, found.high, 1 - found.error)
    np.testing.assert_allclose((curve.gain, curve.gain_low, curve.gain_high, curve.expected), expected, atol=1e-4)
    assert curve.value_at(200) == pytest.approx(curve.expected) and curve.largest == 100
    assert 0 < curve.gain_low < power(100) - power(200) < curve.gain_high
    assert curve.sentence().startswith("twice the training cases (100 → 200 per fold) would raise accuracy by an expected 0.0")


def test_a_loss_is_lowered():
    curve = make_curve(tables(power), "log_loss", **ABOUT)
    assert curve.gain > 0 and curve.expected < curve.value_at(curve.largest)
    assert "would lower log_loss by an expected" in replace(curve, determined=True).sentence()


def test_no_extrapolation_of_what_is_no_power_law():
    """Errors that fall ever faster: a fit would be narrow and wrong."""
    curve = make_curve(tables(lambda groups: 0.45 - 0.004 * groups), "accuracy", **ABOUT)
    assert not curve.determined and "no power law goes through its points" in curve.reason
    assert "(100 → 200 per fold), accuracy: cannot be extrapolated: " in curve.sentence()


def test_few_shares_and_undefined_scores_are_not_extrapolated():
    results = tables(power)
    assert make_curve(results[2:], "accuracy", **ABOUT).reason.startswith("3 sizes over a factor of 2.5: cannot be extrapolated")
    broken = replace_nan(results[0].tables[0])
    results[0] = ShareResult(0.1, 10.0, 20.0, [broken] * 3, {}, 9)
    curve = make_curve(results, "accuracy", **ABOUT)
    assert curve.reason == "cannot be extrapolated: it is undefined at a share" and "0.1              20.0" in curve.text()


def replace_nan(table: PredictionTable) -> PredictionTable:
    return replace(table, probabilities=np.full_like(table.probabilities, np.nan))


def test_a_record_comes_back_and_an_edited_one_does_not(tmp_path):
    results = tables(power)
    results[0] = ShareResult(0.1, 10.0, 20.0, results[0].tables, {"骨水泥型": 2, "非骨水泥型": 0}, 9)
    curve = make_curve(results, "balanced_accuracy", notes=["先"], **ABOUT)
    curve.write(tmp_path)
    again = LearningCurve.read(tmp_path)
    assert again == curve and again.text() == curve.text()
    assert curve.notes == [
        "先",
        "share 0.1: of 9 train parts, missing are '骨水泥型' from 2; what is tested of them there was never learned",
    ]
    lines = (tmp_path / "learning_curve.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "share,train_groups,train_cases,metric,value,low,high" and len(lines) == 1 + 5 * 8
    path = tmp_path / "learning_curve.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"linear"', '"knn"'), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"learning_curve.json: damaged or edited .* compute the curve again"):
        LearningCurve.read(tmp_path)
