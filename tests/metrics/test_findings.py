"""Metrics of findings against counting pairs and ranks, and where they are undefined."""

import math

import numpy as np
import pytest

from clipzoo.errors import ConfigError
from clipzoo.metrics.findings import auroc_per_finding, average_precision_per_finding
from clipzoo.records.tables import FindingsTable
from clipzoo.registries import METRICS


def example(seed=0, num_cases=60, num_findings=3):
    """With ties and unknown answers."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 0, -1], (num_cases, num_findings), p=[0.3, 0.5, 0.2]).astype(np.int8)
    probabilities = np.clip((rng.normal(0.4, 0.25, truth.shape) + 0.2 * (truth == 1)).round(1), 0.05, 0.95).astype(np.float32)
    return truth, probabilities


def table(truth, probabilities) -> FindingsTable:
    names = tuple(f"f{c}" for c in range(truth.shape[1]))
    ids = tuple(f"{i:03d}" for i in range(len(truth)))
    return FindingsTable(names, ids, ids, ("fold_1",) * len(ids), truth, probabilities)


def naive_areas(truth, scores):
    """AUROC by pairs, average precision as the sum over distinct scores of recall gained times precision."""
    known = [(score, y) for score, y in zip(scores.tolist(), truth.tolist(), strict=True) if y >= 0]
    positives = [score for score, y in known if y == 1]
    negatives = [score for score, y in known if y == 0]
    area = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives) / (len(positives) * len(negatives))
    precision = gained = 0.0
    for level in sorted({score for score, _ in known}, reverse=True):
        called = [y for score, y in known if score >= level]
        recall = sum(called) / len(positives)
        precision += (recall - gained) * sum(called) / len(called)
        gained = recall
    return area, precision


@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_counting(seed):
    truth, probabilities = example(seed)
    found = {name: METRICS.build(name).compute(table(truth, probabilities)) for name in METRICS if METRICS.get(name).kind == "findings"}
    areas = [naive_areas(truth[:, c], probabilities[:, c].astype(float)) for c in range(3)]
    assert found["MeanAUROC"] == pytest.approx(np.mean([a for a, _ in areas]))
    assert found["MeanAveragePrecision"] == pytest.approx(np.mean([p for _, p in areas]))
    answers = [(y, p) for y, p in zip(truth.ravel().tolist(), probabilities.astype(float).ravel().tolist(), strict=True) if y >= 0]
    assert found["BinaryLogLoss"] == pytest.approx(-np.mean([math.log(p if y else 1 - p) for y, p in answers]))
    hits = sum(y == 1 and p >= 0.5 for y, p in answers)
    assert found["MicroF1"] == pytest.approx(2 * hits / (sum(y for y, _ in answers) + sum(p >= 0.5 for _, p in answers)))


def test_a_finding_with_one_answer_only_is_left_out_of_the_means_not_counted_as_zero():
    truth, probabilities = example()
    truth[:, 1] = np.where(truth[:, 1] == 1, 0, truth[:, 1])
    truth[:, 2] = -1
    areas = auroc_per_finding(truth, probabilities)
    assert np.isnan(areas[1:]).all() and np.isnan(average_precision_per_finding(truth, probabilities)[1:]).all()
    assert METRICS.build("MeanAUROC").compute(table(truth, probabilities)) == areas[0]
    truth[:, 0] = 1
    assert math.isnan(METRICS.build("MeanAUROC").compute(table(truth, probabilities)))
    truth[:] = -1
    assert all(math.isnan(METRICS.build(n).compute(table(truth, probabilities))) for n in METRICS if METRICS.get(n).kind == "findings")


def test_the_threshold_of_f1_is_in_its_name_and_in_its_range():
    truth, probabilities = example()
    low, half = METRICS.build({"type": "MicroF1", "threshold": 0.3}), METRICS.build("MicroF1")
    assert (low.name, half.name) == ("micro_f1_at_0.3", "micro_f1")
    assert low.compute(table(truth, probabilities)) != half.compute(table(truth, probabilities))
    nothing = np.zeros((4, 2), dtype=np.int8)
    assert math.isnan(half.compute(table(nothing, np.full((4, 2), 0.1, np.float32))))
    assert half.compute(table(nothing, np.full((4, 2), 0.9, np.float32))) == 0
    with pytest.raises(ConfigError, match="threshold"):
        METRICS.build({"type": "MicroF1", "threshold": 1.5})
