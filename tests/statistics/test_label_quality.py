"""Suspicious labels against a loop, cleanlab where it is installed, and planted errors."""

import sys

import numpy as np
import pytest

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.label_quality import confident_joint_issues, rank_labels


def example(num=300, num_classes=4, seed=0):
    """Labels of which 5 % are wrong, probabilities that know the truth fairly well, and which are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, num_classes, num)
    weights = np.exp(rng.normal(size=(num, num_classes)) + 3 * np.eye(num_classes)[true])
    wrong = rng.permutation(num) < num // 20
    return (
        np.where(wrong, (true + rng.integers(1, num_classes, num)) % num_classes, true),
        weights / weights.sum(axis=1, keepdims=True),
        wrong,
    )


@pytest.mark.parametrize("method", ["self_confidence", "normalised_margin"])
def test_scores_and_order_are_those_of_a_loop(method):
    labels, probabilities, _ = example()
    found = rank_labels(labels, probabilities, method=method)
    for row, given, suggested, score in zip(found.rows, found.given, found.suggested, found.scores, strict=True):
        p = probabilities[row]
        others = max(p[c] for c in range(4) if c != given)
        assert score == pytest.approx(p[given] if method == "self_confidence" else (p[given] - others + 1) / 2)
        assert (given, suggested) == (labels[row], p.argmax())
    assert (np.diff(found.scores) >= 0).all() and sorted(found.rows) == list(range(300))


@pytest.mark.parametrize("method", ["self_confidence", "normalised_margin"])
def test_planted_errors_are_among_the_first_tenth(method):
    labels, probabilities, wrong = example()
    found = rank_labels(labels, probabilities, method=method)
    assert wrong[found.rows[:30]].sum() >= 0.9 * wrong.sum()
    assert wrong[found.rows[found.is_issue]].mean() > 0.5


def test_confident_joint_is_that_of_a_loop():
    labels, probabilities, _ = example(num_classes=3)
    means = [probabilities[labels == c, c].mean() for c in range(3)]
    for row, found in enumerate(confident_joint_issues(labels, probabilities)):
        reached = [c for c in range(3) if probabilities[row, c] >= means[c]]
        assert found == bool(reached and max(reached, key=lambda c, row=row: probabilities[row, c]) != labels[row])


def test_equal_probabilities_make_no_issue():
    """The mean of six 0.7 is above 0.7 in floating point; a case must reach the mean of its equals all the same."""
    probabilities = np.array([[0.7, 0.3]] * 6 + [[0.8, 0.2]])
    assert sum([0.7] * 6) / 6 > 0.7
    assert confident_joint_issues(np.array([0] * 6 + [1]), probabilities).tolist() == [False] * 6 + [True]


def test_unknown_labels_and_nan_are_excluded_and_rows_are_those_of_the_input():
    labels, probabilities, _ = example(40)
    labels[3], probabilities[7] = -1, np.nan
    found = rank_labels(labels, probabilities)
    assert sorted(found.rows) == [row for row in range(40) if row not in (3, 7)] and (labels[found.rows] == found.given).all()
    assert len(rank_labels(labels[:0], probabilities[:0])) == 0
    single = rank_labels(np.zeros(3, dtype=int), np.ones((3, 1)), method="normalised_margin")
    assert not single.is_issue.any() and single.scores.tolist() == [1, 1, 1]
    absent = rank_labels(np.zeros(40, dtype=int), example(40)[1])
    assert absent.is_issue.sum() == 0  # no other class has cases


def test_equal_to_cleanlab():
    filters = pytest.importorskip("cleanlab.filter")
    ranks = pytest.importorskip("cleanlab.rank")
    labels, probabilities, _ = example()
    expected = filters.find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    np.testing.assert_array_equal(confident_joint_issues(labels, probabilities), expected)
    for method, name in (("self_confidence", "self_confidence"), ("normalised_margin", "normalized_margin")):
        found = rank_labels(labels, probabilities, method=method)
        np.testing.assert_allclose(found.scores, ranks.get_label_quality_scores(labels, probabilities, method=name)[found.rows], atol=1e-12)
    found = rank_labels(labels, probabilities, method="cleanlab")
    first = filters.find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    np.testing.assert_array_equal(found.rows[: len(first)], first)
    assert found.is_issue[: len(first)].all() and not found.is_issue[len(first) :].any()


def test_without_cleanlab_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    labels, probabilities, _ = example(40)
    with pytest.raises(
        ConfigError, match="suspicious labels: method 'cleanlab' requires the package cleanlab. Run pip install cleanlab, or use"
    ):
        rank_labels(labels, probabilities, method="cleanlab")
    assert len(rank_labels(labels, probabilities)) == 40


def test_bad_input():
    with pytest.raises(
        ConfigError, match="suspicious labels: method is 'margin'. Allowed are 'self_confidence', 'normalised_margin', 'cleanlab'"
    ):
        rank_labels(np.zeros(2, dtype=int), np.ones((2, 2)), method="margin")
    with pytest.raises(DataError, match="suspicious labels: 2 labels, 3 rows"):
        rank_labels(np.zeros(2, dtype=int), np.ones((3, 2)))
