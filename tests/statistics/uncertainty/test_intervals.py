"""Intervals: what they contain, degenerate tables, clusters, notes; a small simulation of coverage."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from clipzoo.errors import ConfigError
from clipzoo.records.tables import RetrievalTable
from clipzoo.registries import METRICS
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.scores import GRADED, OVERALL, PER_CLASS, Outcomes, weighted_scores
from clipzoo.statistics.uncertainty.influence import Influence
from clipzoo.statistics.uncertainty.interval_methods import wilson
from clipzoo.statistics.uncertainty.intervals import classification_intervals, retrieval_intervals
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights

RANGES = {"brier": 2.0, "log_loss": math.inf}


def simulated(rng, num_groups, *, images=1, signal=2.0, shares=(0.5, 0.3, 0.2)):
    """Labels, probabilities, groups; half of the error variance is common to the images of a group."""
    groups = np.repeat(np.arange(num_groups), images)
    labels = rng.choice(len(shares), num_groups, p=shares)[groups]
    common, own = rng.normal(size=(num_groups, len(shares)))[groups], rng.normal(size=(len(groups), len(shares)))
    logits = signal * np.eye(len(shares))[labels] + (common + own) / math.sqrt(2)
    probabilities = np.exp(logits)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True), groups


def of_correct(correct, groups=None):
    """Two classes, half each, with certain predictions."""
    labels = np.arange(len(correct)) % 2
    predicted = np.where(correct, labels, 1 - labels)
    return Cases.from_arrays(labels, np.eye(2)[predicted] * 0.8 + 0.1, groups)


def everything(found):
    return [(name, None, i) for name, i in found.overall.items()] + [(n, c, i) for n, v in found.per_class.items() for c, i in enumerate(v)]


def check(found):
    """Each interval contains its value, lies in the range, or says why there is none."""
    for name, c, i in everything(found):
        if math.isnan(i.low):
            assert i.note and i.method == "none" and math.isnan(i.high), (name, c)
        else:
            assert 0 <= i.low <= i.value <= i.high <= RANGES.get(name, 1.0), (name, c, i)


@pytest.mark.parametrize("images", [1, 3])
def test_every_metric_has_an_interval_around_its_value(images):
    found = classification_intervals(Cases.from_arrays(*simulated(np.random.default_rng(0), 90, images=images)))
    assert tuple(found.overall) == OVERALL and tuple(found.per_class) == PER_CLASS
    assert all(len(intervals) == 3 for intervals in found.per_class.values())
    check(found)
    assert all(i.low < i.value < i.high and not math.isnan(i.value) for _, _, i in everything(found))


def test_proportions_of_independent_cases_are_wilson():
    labels, probabilities, _ = simulated(np.random.default_rng(0), 120)
    found = classification_intervals(Cases.from_arrays(labels, probabilities))
    right = probabilities.argmax(axis=1) == labels
    for interval, rows in ((found.overall["accuracy"], right), (found.per_class["sensitivity"][1], right[labels == 1])):
        expected = stats.binomtest(int(rows.sum()), len(rows)).proportion_ci(method="wilson")
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high)) and interval.method == "wilson"


def test_equal_images_count_as_one():
    """Each image twice is no new knowledge: with groups the intervals stay, up to the t quantile; without groups they shrink."""
    labels, probabilities, _ = simulated(np.random.default_rng(0), 200)
    twice = np.repeat(labels, 2), np.repeat(probabilities, 2, axis=0)
    once, grouped, naive = (
        classification_intervals(Cases.from_arrays(*arrays))
        for arrays in ((labels, probabilities), (*twice, np.repeat(np.arange(200), 2)), twice)
    )
    for name in OVERALL:
        width, honest, wrong = (i.high - i.low for i in (once.overall[name], grouped.overall[name], naive.overall[name]))
        assert honest == pytest.approx(width, rel=0.05), name
        assert wrong == pytest.approx(width / math.sqrt(2), rel=0.06), name


def test_the_jackknife_is_the_brute_force_one_and_the_variance_of_a_mean():
    labels, probabilities, groups = simulated(np.random.default_rng(1), 30, images=2)
    cases = Cases.from_arrays(labels, probabilities, groups)
    outcomes = Outcomes.of(cases)
    influence = Influence.of(lambda weights: weighted_scores(outcomes, weights), groups, labels)
    left_out = [
        classification_intervals(Cases.from_arrays(labels[groups != g], probabilities[groups != g])).overall["macro_f1"].value
        for g in range(30)
    ]
    expected = 29 / 30 * sum((value - influence.points["macro_f1", None]) ** 2 for value in left_out)
    assert influence.variance(("macro_f1", None)) == pytest.approx(expected)
    means = (probabilities.argmax(axis=1) == labels).reshape(30, 2).mean(axis=1)
    assert influence.variance(("accuracy", None)) == pytest.approx(means.var(ddof=1) / 30)


def test_clustered_proportions_have_the_effective_size_and_a_t_quantile():
    labels, probabilities, groups = simulated(np.random.default_rng(1), 12, images=4)
    found = classification_intervals(Cases.from_arrays(labels, probabilities, groups)).overall["accuracy"]
    means = (probabilities.argmax(axis=1) == labels).reshape(12, 4).mean(axis=1)
    size = min(found.value * (1 - found.value) / (means.var(ddof=1) / 12), 48)
    assert found.method == "effective_wilson"
    assert any((found.low, found.high) == pytest.approx(wilson(found.value, size, stats.t.ppf(0.975, df)), abs=0.02) for df in (5, 8, 11))
    assert found.low < wilson(found.value, size, 1.96)[0] - 1e-3


def test_degrees_of_freedom_follow_the_class_that_varies():
    labels = np.array([0] * 100 + [1] * 8)
    probabilities = np.full((108, 2), 0.5)
    probabilities[:, 0] += np.random.default_rng(0).uniform(-0.4, 0.4, 108)
    probabilities[:, 1] = 1 - probabilities[:, 0]
    outcomes = Outcomes.of(Cases.from_arrays(labels, probabilities))
    influence = Influence.of(lambda weights: weighted_scores(outcomes, weights), np.arange(108), labels)
    assert influence.degrees_of_freedom(influence.deviations["sensitivity", 1]) == pytest.approx(7)
    assert influence.degrees_of_freedom(influence.deviations["sensitivity", 0]) == pytest.approx(99)
    assert 7 < influence.degrees_of_freedom(influence.deviations["balanced_accuracy", None]) < 20


def test_all_and_none_correct_have_width():
    for correct, value in ((np.ones(20, bool), 1.0), (np.zeros(20, bool), 0.0)):
        found = classification_intervals(of_correct(correct))
        check(found)
        limit = 1 - wilson(1.0, 20, 1.96)[0]
        for name in ("accuracy", "balanced_accuracy"):
            i = found.overall[name]
            assert i.value == value and i.high - i.low > 0.15
        assert abs(found.overall["accuracy"].value - value) + found.overall["accuracy"].high - found.overall[
            "accuracy"
        ].low == pytest.approx(limit, abs=1e-3)
    clustered = classification_intervals(of_correct(np.ones(20, bool), np.arange(20) // 4)).overall["accuracy"]
    assert clustered.low == pytest.approx(wilson(1.0, 5, 1.959964)[0])  # five patients, not twenty images


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(6))
def test_small_and_odd_tables_never_crash(seed):
    rng = np.random.default_rng(seed)
    for num_groups, images, shares in (
        (1, 4, (0.5, 0.5)),
        (2, 1, (0.5, 0.5)),
        (3, 2, (1.0, 0.0)),
        (12, 1, (0.8, 0.1, 0.1)),
        (25, 3, (0.96, 0.04)),
    ):
        labels, probabilities, groups = simulated(rng, num_groups, images=images, signal=rng.choice([0, 3, 30]), shares=shares)
        labels[rng.random(len(labels)) < 0.1] = -1
        check(classification_intervals(Cases.from_arrays(labels, probabilities.round(3), groups)))


def test_one_group_is_said():
    found = classification_intervals(of_correct(np.array([True, True, False, True]), np.zeros(4, int)))
    assert found.overall["log_loss"].note == "a single group" and math.isnan(found.overall["log_loss"].low)
    accuracy = found.overall["accuracy"]
    assert accuracy.high - accuracy.low > 0.7 and accuracy.note == "only 1 group"


def test_a_class_of_one_group_keeps_its_uncertainty():
    labels, probabilities, _ = simulated(np.random.default_rng(0), 60, shares=(0.6, 0.4, 0.0))
    labels[0] = 2
    found = classification_intervals(Cases.from_arrays(labels, probabilities))
    rare, macro = found.per_class["sensitivity"][2], found.overall["balanced_accuracy"]
    assert rare.high - rare.low > 0.75 and macro.high - macro.low > 0.75 / 3
    assert rare.note == macro.note == "class '2' has only 1 group"
    assert found.per_class["sensitivity"][0].note == "" and found.overall["accuracy"].note == ""


def test_notes_name_the_reason():
    labels, probabilities, _ = simulated(np.random.default_rng(0), 100, signal=9.0)
    found = classification_intervals(Cases.from_arrays(labels, probabilities))
    assert found.overall["log_loss"].note == found.overall["macro_f1"].note == "only 0 groups with a wrong prediction"
    assert "close to 1" in found.overall["auroc"].note and found.per_class["sensitivity"][0].note == ""
    absent = classification_intervals(Cases.from_arrays(np.minimum(labels, 1), probabilities)).overall
    assert absent["macro_f1"].note == "class '2' has no cases and is left out" and absent["accuracy"].note == ""
    nan = probabilities.copy()
    nan[0] = np.nan
    assert classification_intervals(Cases.from_arrays(labels, nan)).overall["accuracy"].note == "a probability is not finite"
    assert classification_intervals(Cases.from_arrays(labels - 5, nan)).overall["accuracy"].note == "no labelled cases"


def test_the_level_is_checked_and_matters():
    cases = Cases.from_arrays(*simulated(np.random.default_rng(0), 60, images=2))
    narrow, wide = (classification_intervals(cases, level=level) for level in (0.8, 0.99))
    for (_, _, a), (_, _, b) in zip(everything(narrow), everything(wide), strict=True):
        assert b.low < a.low and a.high < b.high
    with pytest.raises(ConfigError, match="level: 95 is not"):
        classification_intervals(cases, level=95)


def test_the_result_is_the_same_every_time():
    cases = Cases.from_arrays(*simulated(np.random.default_rng(0), 60, images=2))
    assert dataclasses.asdict(classification_intervals(cases)) == dataclasses.asdict(classification_intervals(cases))


def test_more_than_a_thousand_groups_give_nearly_the_same_interval():
    labels, probabilities, groups = simulated(np.random.default_rng(0), 1500)
    outcomes = Outcomes.of(Cases.from_arrays(labels, probabilities))
    found = classification_intervals(Cases.from_arrays(labels, probabilities, groups)).per_class["f1"][2]
    sizes = [weighted_scores(outcomes, np.random.default_rng(s).multinomial(1500, [1 / 1500] * 1500, size=500)) for s in range(2)]
    spread = np.concatenate([scores.per_class["f1"][:, 2] for scores in sizes]).std()
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


@pytest.mark.slow
def test_coverage_of_clustered_cases():
    """200 data sets of 60 patients with three images each; the full table is in benchmarks/coverage.py."""
    rng = np.random.default_rng(0)
    truth = classification_values(simulated(np.random.default_rng(1), 30_000, images=3))
    covered = {name: [] for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss")}
    for _ in range(200):
        found = classification_intervals(Cases.from_arrays(*simulated(rng, 60, images=3)))
        for name, hits in covered.items():
            hits.append(found.overall[name].low <= truth[name] <= found.overall[name].high)
    assert {name: 0.90 <= np.mean(hits) <= 0.99 for name, hits in covered.items()} == dict.fromkeys(covered, True)


def classification_values(arrays):
    outcomes = Outcomes.of(Cases.from_arrays(*arrays))
    return {name: values[0] for name, values in weighted_scores(outcomes, np.ones((1, len(outcomes)))).overall.items()}


def ranks_of(ahead, group=None):
    n = len(ahead)
    group = group or [""] * n
    return RetrievalTable.from_columns(
        ["image_to_text"] * n + ["text_to_image"] * n, [f"q{i}" for i in range(2 * n)], [*group, *[""] * n], ["f"] * 2 * n, [50] * 2 * n,
        [*ahead, *ahead], [0] * 2 * n, [1] * 2 * n, np.linspace(0.2, 0.9, 2 * n), np.linspace(0, 0.1, 2 * n) ** 2, [""] * 2 * n,
    )  # fmt: skip


def test_retrieval_intervals_contain_their_values():
    found = retrieval_intervals(Queries.from_table(ranks_of(np.random.default_rng(0).integers(0, 12, 80))))
    assert len(found.overall) == 16 and found.per_class == {}
    for name, i in found.overall.items():
        assert i.low < i.value < i.high and i.note == "", name
    expected = stats.binomtest(round(found.overall["i2t_r5"].value * 80), 80).proportion_ci(method="wilson")
    assert (found.overall["i2t_r5"].low, found.overall["i2t_r5"].high) == pytest.approx((expected.low, expected.high))
    assert found.overall["rsum"].method == "mover" and 0 < found.overall["rsum"].low and found.overall["rsum"].high < 600


@pytest.mark.filterwarnings("error")
def test_perfect_and_odd_retrieval():
    found = retrieval_intervals(Queries.from_table(ranks_of([0] * 30)))
    assert found.overall["i2t_r1"].low == pytest.approx(wilson(1.0, 30, 1.959964)[0]) and found.overall["i2t_r1"].high == 1
    assert found.overall["rsum"].value == 600 == found.overall["rsum"].high and found.overall["rsum"].low < 580
    assert math.isnan(found.overall["i2t_mean_rank"].low) and found.overall["i2t_mean_rank"].note == "no variation between groups"
    for size in (0, 1, 2):
        few = retrieval_intervals(Queries.from_table(ranks_of([3] * size).take(np.arange(2 * size))))
        assert all(i.note for i in few.overall.values())
    one_side = ranks_of([0, 1, 5] * 10)
    half = retrieval_intervals(Queries.from_table(one_side.take(one_side.direction == "text_to_image"))).overall
    assert math.isnan(half["i2t_r1"].value) and math.isnan(half["rsum"].value) and half["t2i_r1"].low < 1 / 3 < half["t2i_r1"].high


def test_images_of_a_patient_widen_recall():
    ahead = np.repeat(np.random.default_rng(0).integers(0, 2, 30), 4)
    apart, together = (
        retrieval_intervals(Queries.from_table(ranks_of(ahead, group))).overall["i2t_r1"]
        for group in (None, [f"p{i // 4}" for i in range(120)])
    )
    assert together.high - together.low > 1.7 * (apart.high - apart.low)


def test_a_long_tail_of_ranks_is_said():
    found = retrieval_intervals(Queries.from_table(ranks_of([0] * 58 + [40, 45])))
    assert "too narrow" in found.overall["i2t_mean_rank"].note


def test_the_interval_of_kappa_agrees_with_a_bootstrap_of_groups():
    cases = Cases.from_arrays(*simulated(np.random.default_rng(5), 120, images=2))
    assert GRADED not in classification_intervals(cases).overall
    found = classification_intervals(cases, graded=True).overall[GRADED]
    weights = bootstrap_weights(cases.groups, cases.labels, num_resamples=2000, seed=0)
    resampled = weighted_scores(Outcomes.of(cases, graded=True), weights).overall[GRADED]
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert found.value == pytest.approx(METRICS.build("QuadraticWeightedKappa").compute(cases.labels, cases.probabilities))
    assert found.method == "t" and found.low < found.value < found.high
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))
