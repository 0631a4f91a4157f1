"""Weighted scores against scikit-learn on the repeated rows, and against clipzoo.metrics at weights of 1."""

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from clipzoo.metrics import per_class
from clipzoo.registries import METRICS
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.scores import GRADED, MACRO, OVERALL, PER_CLASS, Outcomes, flattened, point_scores, weighted_scores


def example(num_cases=80, num_classes=4, seed=0):
    """Whole logits, so that there are ties; with more than three classes the first one is never the true one."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.arange(1, num_classes) if num_classes > 3 else num_classes, num_cases)
    logits = (rng.normal(size=(num_cases, num_classes)) + 1.5 * np.eye(num_classes)[labels]).round()
    probabilities = np.exp(logits)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def reference(labels, probabilities):
    """The same numbers by scikit-learn, row by row."""
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    found = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "log_loss": sk.log_loss(labels, probabilities, labels=range(num_classes)),
        "quadratic_weighted_kappa": sk.cohen_kappa_score(labels, predicted, weights="quadratic", labels=range(num_classes)),
        "brier": np.mean(((probabilities - np.eye(num_classes)[labels]) ** 2).sum(axis=1)),
    }
    rows = {name: [] for name in PER_CLASS}
    for c in range(num_classes):
        true, called = labels == c, predicted == c
        rows["sensitivity"].append(sk.recall_score(true, called) if true.any() else np.nan)
        rows["specificity"].append(sk.recall_score(~true, ~called) if not true.all() else np.nan)
        rows["ppv"].append(sk.precision_score(true, called) if called.any() else np.nan)
        rows["npv"].append(sk.precision_score(~true, ~called) if not called.all() else np.nan)
        rows["precision"].append(sk.precision_score(true, called, zero_division=0) if true.any() else np.nan)
        rows["f1"].append(sk.f1_score(true, called, zero_division=0) if true.any() else np.nan)
        rows["auroc"].append(sk.roc_auc_score(true, probabilities[:, c]) if true.any() and not true.all() else np.nan)
    for name, of_class in MACRO.items():
        defined = [value for value in rows[of_class] if not np.isnan(value)]
        found[name] = np.mean(defined) if defined else np.nan
    return found, rows


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_integer_weights_are_repeated_rows(num_classes):
    labels, probabilities = example(num_classes=num_classes)
    weights = np.random.default_rng(1).integers(0, 4, size=(150, len(labels)))  # more than one block
    weights[3, labels == labels[0]] = 0  # a class that vanishes
    scores = weighted_scores(Outcomes.of(Cases.from_arrays(labels, probabilities), graded=True), weights)
    for row in (0, 3, 70, 128, 149):
        rows = np.repeat(np.arange(len(labels)), weights[row])
        overall, classes = reference(labels[rows], probabilities[rows])
        for name in (*OVERALL, GRADED):
            assert scores.overall[name][row] == pytest.approx(overall[name], rel=1e-12, nan_ok=True), name
        for name in PER_CLASS:
            np.testing.assert_allclose(scores.per_class[name][row], classes[name], rtol=1e-12, err_msg=name)


def test_weights_of_one_are_the_metrics_of_clipzoo():
    labels, probabilities = example()
    labels[:5] = -1
    scores = point_scores(Outcomes.of(Cases.from_arrays(labels, probabilities)))
    for name in ("Accuracy", "BalancedAccuracy", "MacroF1", "MacroPrecision", "MacroRecall", "AUROC", "LogLoss"):
        metric = METRICS.build({"type": name})
        assert scores.overall[metric.name][0] == pytest.approx(metric.compute(labels, probabilities), rel=1e-12), name
    rows = per_class(labels, probabilities, ["a", "b", "c", "d"])
    for theirs, ours in {"precision": "precision", "recall": "sensitivity", "f1": "f1", "auroc": "auroc"}.items():
        np.testing.assert_allclose(scores.per_class[ours][0], [row[theirs] for row in rows], rtol=1e-12)


def test_log_loss_of_impossible_cases_is_clipped_as_in_scikit_learn():
    labels, probabilities = np.array([0, 1, 1]), np.array([[0.0, 1.0], [0.2, 0.8], [0.0, 1.0]])
    expected = sk.log_loss(labels, probabilities)
    assert point_scores(Outcomes.of(Cases.from_arrays(labels, probabilities))).overall["log_loss"][0] == pytest.approx(expected, rel=1e-12)


def test_one_probability_that_is_not_finite_makes_every_metric_nan():
    labels, probabilities = example()
    probabilities[3] = np.nan
    scores = point_scores(Outcomes.of(Cases.from_arrays(labels, probabilities)))
    assert all(np.isnan(values).all() for _, _, values in flattened(scores))


@pytest.mark.filterwarnings("error")
def test_degenerate_tables_do_not_warn():
    one_class = point_scores(Outcomes.of(Cases.from_arrays(np.zeros(5, dtype=int), np.ones((5, 1)))))
    assert one_class.overall["accuracy"][0] == 1 and one_class.overall["log_loss"][0] == 0 and np.isnan(one_class.overall["auroc"][0])
    empty = point_scores(Outcomes.of(Cases.from_arrays(np.array([-1]), np.array([[0.5, 0.5]]))))
    assert all(np.isnan(values).all() for _, _, values in flattened(empty))
    none = weighted_scores(Outcomes.of(Cases.from_arrays(*example())), np.zeros((0, 80)))
    assert all(values.shape == (0,) for _, _, values in flattened(none))


def test_joined_outcomes_score_each_model_on_its_own_scale():
    labels, first = example(seed=0)
    second = example(seed=5)[1] ** 3  # another scale
    second /= second.sum(axis=1, keepdims=True)
    outcomes = [Outcomes.of(Cases.from_arrays(labels, p)) for p in (first, second)]
    both = Outcomes.join(*outcomes)
    ones, zeros = np.ones(len(labels)), np.zeros(len(labels))
    joined = weighted_scores(both, np.stack([np.concatenate([ones, zeros]), np.concatenate([zeros, ones])]))
    for row, alone in enumerate(outcomes):
        for (name, c, values), (_, _, expected) in zip(flattened(joined), flattened(point_scores(alone)), strict=True):
            np.testing.assert_allclose(values[row], expected[0], rtol=1e-12, err_msg=f"{name} {c}")
    same = Outcomes.join(outcomes[0], outcomes[0])
    assert (same.ranks[: len(labels)] == same.ranks[len(labels) :]).all()


def test_joined_ranks_are_the_mid_ranks_within_each_model():
    """A model that cannot tell cases apart has the rank of the middle case of another model, whatever its probability is."""
    labels = np.array([0, 1, 0, 1, 0])
    told = np.array([0.91, 0.92, 0.93, 0.94, 0.95])
    both = Outcomes.join(*(Outcomes.of(Cases.from_arrays(labels, np.stack([p, 1 - p], axis=1))) for p in (told, np.full(5, 0.1))))
    assert both.ranks[:, 0].tolist() == [0, 1, 2, 3, 4, 2, 2, 2, 2, 2]


def test_two_thousand_resamples_are_fast():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 10, 1000), rng.dirichlet(np.ones(10), 1000)
    outcomes = Outcomes.of(Cases.from_arrays(labels, probabilities))
    weights = rng.integers(0, 3, size=(2000, 1000)).astype(np.float32)
    started = time.process_time()
    weighted_scores(outcomes, weights)
    assert time.process_time() - started < 2
