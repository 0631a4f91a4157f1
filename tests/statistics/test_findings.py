"""Weighted scores of findings against scikit-learn on the repeated rows, and against clipzoo.metrics at weights of 1."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from clipzoo.records.tables import FindingsTable
from clipzoo.registries import METRICS
from clipzoo.statistics.findings import OVERALL, PER_FINDING, FindingCases, weighted_finding_scores

LIMITS = {"fold_1": {"a": 0.4, "b": 0.6, "c": 0.5}, "fold_2": {"a": 0.3, "b": None, "c": 0.5}}


def table(seed=0, num_cases=80, signal=0.2) -> FindingsTable:
    """Ties, unknown answers, a case of which nothing is known, two images per patient, two folds."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 0, -1], (num_cases, 3), p=[0.35, 0.5, 0.15]).astype(np.int8)
    truth[7] = -1
    probabilities = np.clip((rng.normal(0.4, 0.25, truth.shape) + signal * (truth == 1)).round(1), 0.05, 0.95).astype(np.float32)
    ids = tuple(f"{i:03d}" for i in range(num_cases))
    folds = tuple("fold_1" if i < num_cases // 2 else "fold_2" for i in range(num_cases))
    return FindingsTable(("a", "b", "c"), ids, tuple(f"p{i // 2}" for i in range(num_cases)), folds, truth, probabilities)


def reference(cases: FindingCases, rows: np.ndarray):
    """The same numbers by scikit-learn, row by row."""
    truth, p, called = cases.findings[rows], cases.probabilities[rows], cases.called[rows]
    per_finding = {name: [] for name in PER_FINDING}
    for c in range(3):
        known = truth[:, c] >= 0
        y, score = truth[known, c] == 1, p[known, c]
        both = y.any() and not y.all()
        per_finding["auroc"].append(sk.roc_auc_score(y, score) if both else math.nan)
        per_finding["average_precision"].append(sk.average_precision_score(y, score) if both else math.nan)
        decided = known & (called[:, c] >= 0)
        y, said = truth[decided, c] == 1, called[decided, c] == 1
        per_finding["sensitivity"].append(sk.recall_score(y, said) if y.any() else math.nan)
        per_finding["specificity"].append(sk.recall_score(~y, ~said) if not y.all() else math.nan)
        per_finding["ppv"].append(sk.precision_score(y, said) if said.any() else math.nan)
        per_finding["npv"].append(sk.precision_score(~y, ~said) if not said.all() else math.nan)
        per_finding["f1"].append(sk.f1_score(y, said) if y.any() or said.any() else math.nan)
    known = truth >= 0
    overall = {
        "mean_auroc": np.nanmean(per_finding["auroc"]),
        "mean_average_precision": np.nanmean(per_finding["average_precision"]),
        "binary_log_loss": sk.log_loss(truth[known], p[known], labels=[0, 1]),
        "micro_f1": sk.f1_score(truth[known], p[known] >= 0.5),
    }
    return overall, per_finding


def test_integer_weights_are_repeated_rows():
    cases = FindingCases.from_table(table(), LIMITS)
    assert len(cases) == (table().findings >= 0).any(axis=1).sum() < 80
    assert set(OVERALL) == {METRICS.build(name).name for name in METRICS if METRICS.get(name).kind == "findings"}
    weights = np.random.default_rng(1).integers(0, 4, size=(150, len(cases)))
    weights[3, cases.findings[:, 0] == 1] = 0  # a finding that vanishes
    scores = weighted_finding_scores(cases, weights)
    for row in (0, 3, 70, 128, 149):
        overall, per_finding = reference(cases, np.repeat(np.arange(len(cases)), weights[row]))
        for name in OVERALL:
            assert scores.overall[name][row] == pytest.approx(overall[name], rel=1e-6), name
        for name in PER_FINDING:
            np.testing.assert_allclose(scores.per_class[name][row], per_finding[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_1_are_the_metrics(seed):
    cases = FindingCases.from_table(table(seed))
    scores = weighted_finding_scores(cases, np.ones((1, len(cases))))
    for name in METRICS:
        if METRICS.get(name).kind == "findings":
            metric = METRICS.build(name)
            assert scores.overall[metric.name][0] == pytest.approx(metric.compute(table(seed)), rel=1e-6)
    assert np.isnan(scores.per_class["sensitivity"]).all()  # there are no thresholds


def test_a_fold_without_a_threshold_is_left_out_of_what_depends_on_it():
    given = table()
    cases = FindingCases.from_table(given, LIMITS)
    rows = np.flatnonzero((given.findings >= 0).any(axis=1))
    np.testing.assert_array_equal(cases.called[:, 1] >= 0, [given.folds[i] == "fold_1" for i in rows])
    np.testing.assert_array_equal(cases.called[:, 0] == 1, [given.probabilities[i, 0] >= LIMITS[given.folds[i]]["a"] for i in rows])
    scores = weighted_finding_scores(cases, np.ones((1, len(cases))))
    first = FindingCases.from_table(given, {"fold_1": LIMITS["fold_1"]})
    assert scores.per_class["f1"][0, 1] == weighted_finding_scores(first, np.ones((1, len(first)))).per_class["f1"][0, 1]
    assert scores.per_class["auroc"][0, 1] == weighted_finding_scores(first, np.ones((1, len(first)))).per_class["auroc"][0, 1]


def test_a_probability_that_is_not_finite_makes_everything_undefined_only_where_the_answer_is_known():
    given = table()
    given.probabilities[given.findings == -1] = np.nan
    cases = FindingCases.from_table(given, LIMITS)
    assert np.isfinite(weighted_finding_scores(cases, np.ones((1, len(cases)))).overall["mean_auroc"]).all()
    given.probabilities[0, 0] = np.nan
    given.findings[0, 0] = 1
    cases = FindingCases.from_table(given, LIMITS)
    scores = weighted_finding_scores(cases, np.ones((1, len(cases))))
    assert all(np.isnan(values).all() for values in (*scores.overall.values(), *scores.per_class.values()))
