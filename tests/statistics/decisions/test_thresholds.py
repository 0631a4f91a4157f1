"""Thresholds against scikit-learn's ROC curve and a search over all cuts; decision curves against the definition."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.decisions.thresholds import decision_curve, fit_threshold, fit_thresholds, operating_point
from clipzoo.statistics.proportions import rao_scott_wilson


def example(num=120, seed=0, decimals=1):
    """Rounded scores, so that there are ties."""
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=num) < 0.3
    return (1 / (1 + np.exp(-rng.normal(size=num) - 1.5 * positive))).round(decimals), positive


def rates(scores, positive, threshold):
    called = scores >= threshold
    return called[positive].mean(), (~called)[~positive].mean()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 6])
def test_youden_is_the_largest_distance_of_the_roc_curve(seed, decimals):
    scores, positive = example(seed=seed, decimals=decimals)
    false_rate, true_rate, _ = roc_curve(positive, scores, drop_intermediate=False)
    found = fit_threshold(scores, positive)
    assert found.sensitivity + found.specificity - 1 == pytest.approx((true_rate - false_rate).max())
    assert rates(scores, positive, found.value) == pytest.approx((found.sensitivity, found.specificity))
    assert (found.num_positive, found.num_negative) == (positive.sum(), (~positive).sum())


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9])
def test_a_wanted_rate_is_reached_at_the_least_cost(wanted):
    for seed in range(5):
        scores, positive = example(seed=seed, decimals=2)
        every = np.array([rates(scores, positive, t) for t in np.unique(scores)[1:]])
        sensitive = fit_threshold(scores, positive, criterion="sensitivity", wanted=wanted)
        specific = fit_threshold(scores, positive, criterion="specificity", wanted=wanted)
        assert sensitive.specificity == pytest.approx(every[every[:, 0] >= wanted, 1].max()) and sensitive.sensitivity >= wanted
        assert specific.sensitivity == pytest.approx(every[every[:, 1] >= wanted, 0].max()) and specific.specificity >= wanted
        assert rates(scores, positive, sensitive.value) == pytest.approx((sensitive.sensitivity, sensitive.specificity))


def test_nine_of_ten_reach_90_percent():
    scores = np.r_[np.arange(10) / 10 + 0.05, 0.06]
    found = fit_threshold(scores, np.arange(11) < 10, criterion="sensitivity", wanted=0.9)
    assert found.sensitivity == pytest.approx(0.9) and found.value == pytest.approx((0.06 + 0.15) / 2)


def test_the_threshold_lies_midway_and_neighbouring_floats_are_kept_apart():
    assert fit_threshold(np.array([0.2, 0.4]), np.array([False, True])).value == pytest.approx(0.3)
    low, high = 0.5, np.nextafter(0.5, 1)
    found = fit_threshold(np.array([low, high]), np.array([False, True]))
    assert low < found.value <= high


def test_of_equal_youden_indices_the_more_sensitive_wins():
    found = fit_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True]))
    assert (found.sensitivity, found.specificity, found.value) == (1, 0.5, pytest.approx(0.15))


SENSITIVE = "a sensitivity of 0.9 is reached on val only by calling every case positive"
SPECIFIC = "a specificity of 1 is reached on val only by calling no case positive"


@pytest.mark.parametrize(
    ("scores", "positive", "arguments", "reason"),
    [
        ([0.1, 0.9], [0, 0], {}, "val has no positive case of this class"),
        ([0.1, 0.9], [1, 1], {}, "val has no negative case of this class"),
        ([0.1, np.nan], [0, 1], {}, "probabilities are not finite"),
        ([0.5, 0.5], [0, 1], {}, "no threshold is better than chance on val"),
        ([0.1, 0.1, 0.9, 0.9], [0, 1, 0, 1], {}, "no threshold is better than chance on val"),
        ([0.9, 0.1], [0, 1], {}, "no threshold is better than chance on val"),
        ([0.1, 0.2, 0.3], [1, 0, 1], {"criterion": "sensitivity", "wanted": 0.9}, SENSITIVE),
        ([0.1, 0.2, 0.3], [0, 1, 0], {"criterion": "specificity", "wanted": 1}, SPECIFIC),
    ],
)  # fmt: skip
def test_there_may_be_no_threshold(scores, positive, arguments, reason):
    found = fit_threshold(np.array(scores), np.array(positive), **arguments)
    assert found.value is None and found.reason == reason and np.isnan(found.sensitivity)


def test_one_threshold_per_class_ignores_unknown_labels():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, 40), rng.dirichlet(np.ones(3), 40)
    found = fit_thresholds(np.r_[labels, -1], np.r_[probabilities, [[1, 0, 0]]])
    assert found[1] == fit_threshold(probabilities[:, 1], labels == 1) and found[2].reason.startswith("val has no positive case")


def test_operating_point_counts_as_scikit_learn_does():
    scores, positive = example()
    groups, called = np.arange(120) // 2, scores >= 0.6
    found = operating_point(called, positive, groups)
    tn, fp, fn, tp = confusion_matrix(positive, called).ravel()
    assert (found.true_negatives, found.false_positives, found.false_negatives, found.true_positives) == (tn, fp, fn, tp)
    shares = [found.sensitivity, found.specificity, found.ppv, found.npv]
    assert [s.value for s in shares] == pytest.approx([tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)])
    assert found.prevalence == positive.mean() and found.ppv == rao_scott_wilson(positive[called], groups[called])
    assert found.npv == rao_scott_wilson(~positive[~called], groups[~called])


def test_a_share_of_nothing_is_nan():
    found = operating_point(np.zeros(3, dtype=bool), np.array([True, False, True]), np.arange(3))
    assert np.isnan(found.ppv.value) and found.sensitivity.value == 0 and found.npv.num_cases == 3


def test_net_benefit_is_its_definition():
    scores, positive = example()
    thresholds = np.array([0.0, 0.1, 0.3, 0.6])
    found = decision_curve(scores, positive, thresholds)
    for index, p in enumerate(thresholds):
        called = scores >= p
        assert found.model[index] == pytest.approx(((called & positive).sum() - (called & ~positive).sum() * p / (1 - p)) / 120)
        assert found.treat_all[index] == pytest.approx(positive.mean() - (1 - positive.mean()) * p / (1 - p))
    assert (found.treat_none == 0).all() and np.isnan(found.low).all()
    assert len(decision_curve(scores, positive).thresholds) == 99


def test_net_benefit_of_resamples_is_that_of_the_repeated_rows():
    scores, positive = example(40)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=200)
    found = decision_curve(scores, positive, np.array([0.3]), weights=weights)
    rows = [np.repeat(np.arange(40), w) for w in weights]
    again = [decision_curve(scores[r], positive[r], np.array([0.3])).model[0] for r in rows]
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])))


def test_nan_and_bad_input():
    found = decision_curve(np.array([0.5, np.nan]), np.array([1, 0]), weights=np.ones((3, 2)))
    assert np.isnan(found.model).all() and np.isnan(found.treat_all).all() and np.isnan(found.low).all()
    with pytest.raises(DataError, match="thresholds must be at least 0 and below 1"):
        decision_curve(np.ones(2), np.ones(2), np.array([1.0]))
    with pytest.raises(DataError, match="threshold: 2 cases, 3 labels"):
        fit_threshold(np.ones(2), np.ones(3))
    for arguments, message in (
        ({"criterion": "roc"}, "criterion is 'roc'"),
        ({"wanted": 0.9}, "wanted has no meaning for 'youden'"),
        ({"criterion": "sensitivity"}, "wanted sensitivity is None"),
        ({"criterion": "specificity", "wanted": 95}, "wanted specificity is 95"),
    ):
        with pytest.raises(ConfigError, match=message):
            fit_threshold(np.ones(2), np.ones(2), **arguments)


@pytest.mark.parametrize("prevalence", [0.3, 0.85])
def test_the_threshold_of_the_largest_f1_is_that_of_a_search_over_all(prevalence):
    """None is chosen if calling every case positive is better than every threshold between two scores."""
    without = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        positive = rng.random(40) < prevalence
        scores = np.clip((rng.normal(0.4, 0.2, 40) + 0.2 * positive).round(1), 0, 1)
        found = fit_threshold(scores, positive, criterion="f1").value

        def f1(threshold, scores=scores, positive=positive):
            called = scores >= threshold
            return 2 * (called & positive).sum() / (called.sum() + positive.sum())

        inner = [(low + high) / 2 for low, high in zip(np.unique(scores)[:-1], np.unique(scores)[1:], strict=True)]
        best = max(map(f1, inner))
        if best < f1(-1.0) - 1e-12:
            assert found is None
            without += 1
        else:
            assert found == pytest.approx(min(t for t in inner if f1(t) >= best - 1e-12))
    assert (without > 5) == (prevalence > 0.5)


def test_f1_has_no_threshold_where_val_tells_nothing_apart():
    equal = fit_threshold(np.full(5, 0.3), np.array([1, 0, 0, 1, 0]), criterion="f1")
    assert equal.value is None and equal.reason == "calling every case positive has the largest F1 on val"
    assert fit_threshold(np.array([0.1, 0.4]), np.array([0, 0]), criterion="f1").reason == "val has no positive case of this class"
    with pytest.raises(ConfigError, match="wanted has no meaning for 'f1'"):
        fit_threshold(np.array([0.1, 0.4]), np.array([0, 1]), criterion="f1", wanted=0.9)
