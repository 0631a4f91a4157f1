"""Intervals of findings: around their values, close to a bootstrap of patients, honest where there is little, and they cover."""

import math
from dataclasses import replace

import numpy as np
import pytest

from clipzoo.errors import ConfigError
from clipzoo.statistics.findings import OVERALL, PER_FINDING, FindingCases, weighted_finding_scores
from clipzoo.statistics.proportions import wilson
from clipzoo.statistics.uncertainty.finding_intervals import finding_intervals
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights


def simulated(rng, num_groups=90, images=2, shares=(0.4, 0.25, 0.6), signal=1.5) -> FindingCases:
    """Half of the variance of scores is common to the images of a patient; thresholds are at a half."""
    groups = np.repeat(np.arange(num_groups), images)
    truth = (rng.random((num_groups, len(shares))) < shares)[groups].astype(np.int8)
    common, own = rng.normal(size=(num_groups, len(shares)))[groups], rng.normal(size=truth.shape)
    probabilities = 1 / (1 + np.exp(-(signal * (truth - 0.5) + (common + own) / math.sqrt(2))))
    truth[rng.random(truth.shape) < 0.05] = -1
    names = tuple("abc"[: len(shares)])
    return FindingCases(names, truth, probabilities, (probabilities >= 0.5).astype(np.int8), groups)


def everything(found):
    return [(n, None, i) for n, i in found.overall.items()] + [(n, c, i) for n, v in found.per_class.items() for c, i in enumerate(v)]


@pytest.mark.parametrize("images", [1, 2])
def test_every_metric_has_an_interval_around_its_value(images):
    cases = simulated(np.random.default_rng(0), images=images)
    found = finding_intervals(cases)
    assert tuple(found.overall) == OVERALL and tuple(found.per_class) == PER_FINDING and found.num_groups == 90
    scores = weighted_finding_scores(cases, np.ones((1, len(cases))))
    for name, c, interval in everything(found):
        expected = scores.overall[name][0] if c is None else scores.per_class[name][0, c]
        assert interval.value == pytest.approx(expected) and 0 <= interval.low < interval.value < interval.high, (name, c)
    methods = {name: found.per_class[name][0].method for name in PER_FINDING}
    proportion = "wilson" if images == 1 else "effective_wilson"
    assert methods["sensitivity"] == proportion and methods["auroc"] == methods["average_precision"] == "logit_t"
    assert found.overall["mean_auroc"].method == "mover"


def test_proportions_of_independent_cases_are_wilson():
    cases = simulated(np.random.default_rng(1), images=1)
    present = cases.findings[:, 0] == 1
    low, high = wilson((cases.called[present, 0] == 1).sum(), present.sum())
    found = finding_intervals(cases).per_class["sensitivity"][0]
    assert (found.low, found.high) == pytest.approx((float(low), float(high)))


def test_intervals_agree_with_a_bootstrap_of_patients():
    cases = simulated(np.random.default_rng(2), num_groups=150)
    found = finding_intervals(cases)
    resampled = weighted_finding_scores(cases, bootstrap_weights(cases.groups, num_resamples=1500, seed=0))
    for name, c, interval in everything(found):
        values = resampled.overall[name] if c is None else resampled.per_class[name][:, c]
        low, high = np.quantile(values, [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.22 * (high - low)), (name, c)


def test_little_data_is_said_and_never_crashes():
    rng = np.random.default_rng(3)
    few = simulated(rng, num_groups=25, shares=(0.3, 0.5, 0.5))
    few.findings[few.findings[:, 1] == 1, 1] = 0
    few.findings[:, 2] = -1
    found = finding_intervals(few)
    assert math.isnan(found.per_class["auroc"][1].value) and math.isnan(found.per_class["auroc"][2].low)
    assert found.per_class["auroc"][0].note.startswith("'a' is present in only")
    mean, only = found.overall["mean_auroc"], found.per_class["auroc"][0]
    assert mean.note.endswith("and is left out") and mean.value == only.value
    assert (mean.low, mean.high) == pytest.approx((only.low, only.high), rel=0.01)
    single = simulated(rng, num_groups=1, images=3)
    assert all(
        math.isnan(i.low) or 0 <= i.low <= i.value <= i.high for _, _, i in everything(finding_intervals(single)) if not math.isnan(i.value)
    )
    nothing = replace(
        few, findings=np.zeros((0, 3), np.int8), probabilities=np.zeros((0, 3)), called=np.zeros((0, 3), np.int8), groups=np.zeros(0, int)
    )
    assert all(math.isnan(i.value) and i.note == "nothing is known" for _, _, i in everything(finding_intervals(nothing)))
    few.probabilities[0, 0] = np.nan
    few.findings[0, 0] = 1
    assert all(i.note == "a probability is not finite" for _, _, i in everything(finding_intervals(few)))
    with pytest.raises(ConfigError, match="is not a confidence level"):
        finding_intervals(few, level=95)


@pytest.mark.slow
def test_they_cover():
    """400 samples of 60 patients with two images: 95 % intervals contain the value of the population in 92 to 98 % of samples."""
    rng = np.random.default_rng(4)
    population = simulated(rng, num_groups=20_000)
    scores = weighted_finding_scores(population, np.ones((1, len(population))))
    names = {*((name, None) for name in OVERALL), *((name, 1) for name in PER_FINDING)}
    value = {(name, c): scores.overall[name][0] if c is None else scores.per_class[name][0, c] for name, c in names}
    inside = dict.fromkeys(names, 0)
    for _ in range(400):
        for name, c, interval in everything(finding_intervals(simulated(rng, num_groups=60))):
            if (name, c) in names:
                inside[name, c] += interval.low <= value[name, c] <= interval.high
    assert all(0.92 <= count / 400 <= 0.985 for count in inside.values()), {key: count / 400 for key, count in inside.items()}
