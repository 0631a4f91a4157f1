"""Every metric against counting by hand, and on the corners: absent classes, ties, unlabelled cases."""

import math
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

from clipzoo.metrics import AUROC, Accuracy, BalancedAccuracy, LogLoss, MacroF1, MacroPrecision, Metric, confusion_matrix, per_class
from clipzoo.registries import METRICS

CLASSIFICATION = [name for name in METRICS if METRICS.get(name).kind == "classification"]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def random_case(seed: int, num_cases: int = 40, num_classes: int = 4, absent: tuple[int, ...] = ()):
    generator = np.random.default_rng(seed)
    labels = generator.choice([c for c in range(num_classes) if c not in absent], num_cases)
    # Few distinct values, so that ties happen, and float32 as predictions are.
    weights = generator.integers(1, 6, (num_cases, num_classes)).astype(np.float32)
    return labels, weights / weights.sum(axis=1, keepdims=True)


def first_largest(row) -> int:
    return max(range(len(row)), key=lambda c: (row[c], -c))


def naive_scores(labels, probabilities):
    """Per class: precision, recall, F1, AUROC, by counting cases and pairs; None where undefined."""
    predicted = [first_largest(row) for row in probabilities]
    rows = []
    for c in range(probabilities.shape[1]):
        hit = sum(y == c and p == c for y, p in zip(labels, predicted, strict=True))
        true, said = sum(y == c for y in labels), predicted.count(c)
        if not true:
            rows.append((None, None, None, None))
            continue
        pairs = [(a, b) for a, y in zip(probabilities[:, c], labels, strict=True) if y == c
                 for b, z in zip(probabilities[:, c], labels, strict=True) if z != c]  # fmt: skip
        area = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs) if pairs else None
        rows.append((hit / said if said else 0.0, hit / true, 2 * hit / (true + said), area))
    return rows


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values)


@pytest.mark.parametrize("absent", [(), (0,), (1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_counting(seed, absent):
    labels, probabilities = random_case(seed, absent=absent)
    rows = naive_scores(labels, probabilities)
    expected = {
        "accuracy": np.mean([first_largest(row) == y for row, y in zip(probabilities, labels, strict=True)]),
        "macro_precision": mean(r[0] for r in rows),
        "macro_recall": mean(r[1] for r in rows),
        "balanced_accuracy": mean(r[1] for r in rows),
        "macro_f1": mean(r[2] for r in rows),
        "auroc": mean(r[3] for r in rows),
        "log_loss": -np.mean([math.log(row[y]) for row, y in zip(probabilities.astype(float), labels, strict=True)]),
    }
    got = {metric.name: metric.compute(labels, probabilities) for metric in (METRICS.build(name) for name in CLASSIFICATION)}
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    for row, (precision, recall, f1, area) in zip(per_class(labels, probabilities, "abcd"), rows, strict=True):
        values = [math.nan if v is None else v for v in (precision, recall, f1, area)]
        assert [row[key] for key in ("precision", "recall", "f1", "auroc")] == pytest.approx(values, nan_ok=True)


def test_an_absent_class_is_skipped_and_not_zero():
    labels, probabilities = np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]])
    assert BalancedAccuracy().compute(labels, probabilities) == 1
    assert MacroF1().compute(labels, probabilities) == 1
    assert AUROC().compute(labels, probabilities) == 1
    row = per_class(labels, probabilities, ["a", "b", "c"])[2]
    assert row["class"] == "c" and row["cases"] == 0
    assert all(math.isnan(row[key]) for key in ("precision", "recall", "f1", "auroc"))


def test_a_class_that_is_never_predicted_has_precision_zero():
    labels, probabilities = np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]])
    assert MacroPrecision().compute(labels, probabilities) == 0.25
    assert MacroF1().compute(labels, probabilities) == pytest.approx((2 / 3) / 2)


def test_a_predicted_class_without_cases_costs_recall_only():
    labels, probabilities = np.array([0, 0]), np.array([[0.8, 0.2], [0.2, 0.8]])
    assert BalancedAccuracy().compute(labels, probabilities) == 0.5
    assert math.isnan(AUROC().compute(labels, probabilities))


def test_ties_go_to_the_lowest_class():
    probabilities = np.full((2, 4), 0.25)
    assert Accuracy().compute(np.array([0, 1]), probabilities) == 0.5
    assert confusion_matrix(np.array([0, 1]), probabilities)[:, 0].tolist() == [1, 1, 0, 0]
    assert AUROC().compute(np.array([0, 1]), probabilities) == 0.5


def test_confusion_matrix_counts_true_by_predicted():
    labels, probabilities = random_case(0, absent=(2,))
    expected = np.zeros((4, 4), int)
    for y, row in zip(labels, probabilities, strict=True):
        expected[y, first_largest(row)] += 1
    got = confusion_matrix(labels, probabilities)
    assert got.dtype == np.int64 and got.tolist() == expected.tolist()


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_metric_is_nan_where_it_is_undefined_and_ignores_unlabelled_cases(name):
    metric = METRICS.build(name)
    assert isinstance(metric, Metric) and metric.name and isinstance(metric.greater_is_better, bool)
    labels, probabilities = random_case(1)
    value = metric.compute(labels, probabilities)
    assert type(value) is float and math.isfinite(value)
    more = np.concatenate([probabilities, np.full((1, 4), np.nan)])
    assert metric.compute(np.append(labels, -1), more) == value
    assert math.isnan(metric.compute(labels[:0], probabilities[:0]))
    assert math.isnan(metric.compute(np.full(40, -1), probabilities))
    assert math.isnan(metric.compute(np.append(labels, 0), more))


def test_only_log_loss_is_better_when_lower():
    assert [name for name in CLASSIFICATION if not METRICS.get(name).greater_is_better] == ["LogLoss"]


def test_corners_of_the_tables():
    one = np.ones((3, 1), np.float32)
    assert LogLoss().compute(np.zeros(3, int), one) == 0
    assert LogLoss().compute(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-math.log(np.finfo(float).eps))
    assert confusion_matrix(np.array([-1]), np.array([[0.5, 0.5]])).tolist() == [[0, 0], [0, 0]]
    assert [row["cases"] for row in per_class(np.array([-1]), np.array([[0.5, 0.5]]), "ab")] == [0, 0]


def test_importing_the_package_imports_no_scikit_learn_and_no_torch():
    program = "import sys, clipzoo.metrics; sys.exit(any(m in sys.modules for m in ('sklearn', 'torch')))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_quadratic_weighted_kappa_of_grades():
    """By counting pairs of grades; two grades off costs four times one grade off; chance is 0, and one grade alone is undefined."""
    kappa = METRICS.build("QuadraticWeightedKappa")
    labels, probabilities = random_case(3, num_cases=60)
    predicted = np.array([first_largest(row) for row in probabilities])
    observed = sum((a - b) ** 2 for a, b in zip(labels, predicted, strict=True)) / 60
    expected = sum((a - b) ** 2 for a in labels for b in predicted) / 60**2
    assert kappa.compute(labels, probabilities) == pytest.approx(1 - observed / expected)
    grades = np.array([0, 1, 2, 3] * 3)
    near, far = grades.copy(), grades.copy()
    near[0], far[0] = 1, 2
    one_off, two_off = (kappa.compute(grades, np.eye(4)[found]) for found in (near, far))
    assert 1 > one_off > two_off and (1 - two_off) / (1 - one_off) == pytest.approx(4, rel=0.2)
    assert kappa.compute(grades, np.eye(4)[grades]) == 1
    assert math.isnan(kappa.compute(np.ones(5, dtype=int), np.eye(3)[np.ones(5, dtype=int)]))
    assert kappa.compute(np.ones(4, dtype=int), np.eye(3)[[0, 1, 2, 1]]) == 0  # a constant label agrees by chance only


@pytest.mark.parametrize("seed", range(4))
def test_every_metric_equals_scikit_learns(seed):
    """On more cases, with probabilities of 0 and 1, ties, and a class without cases."""
    from sklearn import metrics as reference

    labels, probabilities = random_case(seed, num_cases=300, num_classes=5, absent=(3,) if seed % 2 else ())
    probabilities[:7] = np.eye(5, dtype=np.float32)[np.arange(7) % 5]
    predicted, classes = probabilities.argmax(axis=1), np.arange(5)
    present = np.isin(classes, labels)
    scores = reference.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0.0)[:3]
    shares = probabilities.astype(np.float64)
    areas = [reference.roc_auc_score(labels == c, shares[:, c]) for c in classes[present]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that sum to 1 up to 1e-7 only
        expected = {
            "accuracy": reference.accuracy_score(labels, predicted),
            "balanced_accuracy": scores[1][present].mean(),
            "macro_f1": scores[2][present].mean(),
            "macro_precision": scores[0][present].mean(),
            "auroc": np.mean(areas),
            "log_loss": reference.log_loss(labels, shares / shares.sum(axis=1, keepdims=True), labels=classes),
        }
    for name, value in expected.items():
        metric = next(METRICS.get(key) for key in CLASSIFICATION if METRICS.get(key).name == name)()
        assert metric.compute(labels, probabilities) == pytest.approx(value, abs=1e-12), name
    assert (confusion_matrix(labels, probabilities) == reference.confusion_matrix(labels, predicted, labels=classes)).all()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint64])
def test_the_type_of_labels_changes_nothing(kind):
    """20 classes: a label times their number exceeds 8 bits."""
    labels, probabilities = random_case(0, num_cases=300, num_classes=20)
    for metric in (BalancedAccuracy(), MacroF1(), LogLoss()):
        assert metric.compute(labels.astype(kind), probabilities) == metric.compute(labels, probabilities)
    assert (confusion_matrix(labels.astype(kind), probabilities) == confusion_matrix(labels, probabilities)).all()
    assert per_class(labels.astype(kind), probabilities, "abcdefghijklmnopqrst") == per_class(labels, probabilities, "abcdefghijklmnopqrst")


def test_many_classes_need_little_memory():
    """A matrix of 20 000 x 20 000 counts would take 3 GB."""
    labels, probabilities = random_case(0, num_cases=10, num_classes=20_000)
    tracemalloc.start()
    MacroF1().compute(labels, probabilities)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
