"""Operating points, sets, decision curves and calibration of a summary, against naive loops over cases."""

from dataclasses import replace

import numpy as np
import pytest
from run_files import METRICS, folds_of, table_of

from clipzoo.errors import ConfigError
from clipzoo.records.results import FoldResult, Summary
from clipzoo.scoring.decisions import Choice, decide, log_loss_change
from clipzoo.scoring.summary import make_summary
from clipzoo.statistics.decisions.temperature import apply_temperature
from clipzoo.statistics.decisions.thresholds import fit_threshold

FOLDS = ("fold_1", "fold_2")


def result_of(fold, **others):
    return FoldResult(fold, "last epoch", "x.pth", 3, 3, {m.name: 0.5 for m in METRICS}, {"test": 1}, {}, 1.0, "cpu", "fp32", 1, **others)


RESULTS = [result_of(fold) for fold in FOLDS]


@pytest.fixture(scope="module")
def tables():
    """The test parts, and a val part for each fold whose thresholds differ."""
    test = table_of(num_groups=80)
    val = {fold: table_of(num_groups=40, seed=seed) for seed, fold in enumerate(FOLDS, start=1)}
    shifted = val["fold_2"].probabilities + np.array([-0.08, 0.08], dtype=np.float32)
    return test, {**val, "fold_2": replace(val["fold_2"], probabilities=shifted)}


@pytest.mark.parametrize("point", ["youden", {"sensitivity": 0.7}, {"specificity": 0.7}])
def test_operating_points_equal_a_loop_over_cases(tables, point):
    test, val = tables
    choice = Choice.of(point, "骨水泥型")
    (found,) = decide(test, RESULTS, val, choice).operating_points
    thresholds = {}
    for fold, table in val.items():
        fitted = fit_threshold(table.probabilities[:, 1], table.labels == 1, criterion=choice.criterion, wanted=choice.wanted)
        thresholds[fold] = fitted.value
    assert found["thresholds"] == pytest.approx(thresholds) and len(set(thresholds.values())) == 2
    counts = {"true_positives": 0, "false_positives": 0, "false_negatives": 0, "true_negatives": 0}
    for row, label in enumerate(test.labels):
        called = test.probabilities[row, 1] >= thresholds[test.folds[row]]
        counts[f"{'true' if called == label else 'false'}_{'positives' if called else 'negatives'}"] += 1
    assert {key: found[key] for key in counts} == counts
    tp, fp, fn, tn = counts.values()
    expected = {"sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp), "ppv": tp / (tp + fp), "npv": tn / (tn + fn)}
    for key, value in expected.items():
        low, high = found["intervals"][key]
        assert found[key] == pytest.approx(value) and low < value < high, key


def test_sets_and_curves_equal_a_loop_over_cases(tables):
    test, val = tables
    found = decide(test, RESULTS, val, Choice())
    assert not found.operating_points and [curve["class"] for curve in found.decision_curve] == list(test.classes)
    inside, sizes = [], []
    for row, fold in enumerate(test.folds):
        members = [c for c in (0, 1) if test.probabilities[row, c] >= found.conformal["thresholds"][fold][c]]
        inside.append(test.labels[row] in members)
        sizes.append(len(members))
    assert found.conformal["coverage"] == pytest.approx(np.mean(inside)) and found.conformal["mean_size"] == pytest.approx(np.mean(sizes))
    curve = found.decision_curve[1]
    at = curve["thresholds"].index(0.4)
    gains = [1 if label == 1 else -0.4 / 0.6 for p, label in zip(test.probabilities[:, 1], test.labels, strict=True) if p >= 0.4]
    assert curve["model"][at] == pytest.approx(sum(gains) / len(test.labels))
    brier = [((test.probabilities[row] - np.eye(2)[label]) ** 2).sum() for row, label in enumerate(test.labels)]
    assert found.calibration["brier"] == pytest.approx(np.mean(brier))
    low, high = found.calibration["interval"]
    assert low <= found.calibration["ece"] <= high


def test_a_fold_without_val_predictions_is_left_out_with_a_note(tables):
    test, val = tables
    found = decide(test, RESULTS, {"fold_1": val["fold_1"]}, Choice("youden"))
    assert found.notes == ["operating points and prediction sets leave out fold_2: no val predictions"]
    point = found.operating_points[0]
    counted = sum(point[key] for key in ("true_positives", "false_positives", "false_negatives", "true_negatives"))
    assert counted == test.folds.count("fold_1") and list(point["thresholds"]) == ["fold_1"]
    old = decide(test, RESULTS, {}, Choice())
    assert not old.notes and not old.conformal and not old.operating_points and old.calibration["ece"] is not None


def test_a_class_that_val_lacks_has_no_threshold_and_says_so(tables):
    test, val = tables
    none = replace(val["fold_2"], labels=np.zeros_like(val["fold_2"].labels))
    found = decide(test, RESULTS, {**val, "fold_2": none}, Choice("youden", None, "骨水泥型"))
    assert found.operating_points[0]["thresholds"]["fold_2"] is None
    assert found.notes == ["operating point of 骨水泥型: fold_2 is left out: val has no positive case of this class"]


def test_the_summary_is_read_as_it_was_written_and_prints_them(tables, tmp_path):
    test, val = tables
    calibration = {"temperature": 2.0, "test_log_loss_before": 0.7, "test_log_loss_after": 0.5}
    results = [result_of(fold, calibration=calibration) for fold in FOLDS]
    summary = make_summary("名字", METRICS, folds_of(test), results, test, val=val, choice=Choice("youden", None, "骨水泥型"))
    summary.write(tmp_path)
    assert Summary.read(tmp_path) == summary
    text = summary.tables()
    assert "骨水泥型 (youden)" in text and "temperatures from val: fold_1 2.00, fold_2 2.00; log loss 0.7000 before, 0.5000 after" in text
    assert "prediction sets for 90 %" in text


def test_undefined_probabilities_and_unknown_labels_end_in_none(tables, tmp_path):
    test, val = tables
    broken = replace(test, probabilities=np.full_like(test.probabilities, np.nan))
    found = decide(broken, RESULTS, val, Choice("youden"))
    assert found.calibration["ece"] is None and found.decision_curve[0]["model"][0] is None
    unknown = replace(test, labels=np.full_like(test.labels, -1))
    assert decide(unknown, RESULTS, val, Choice("youden")).calibration["ece"] is None


def test_the_log_loss_before_is_that_of_the_uncalibrated_predictions(tables):
    test, _ = tables
    after = replace(test, probabilities=apply_temperature(test.probabilities, 1.7))
    change = log_loss_change(after, 1.7)
    rows = np.arange(len(test.labels))
    assert change["test_log_loss_before"] == pytest.approx(-np.log(test.probabilities[rows, test.labels]).mean(), rel=1e-5)
    assert change["test_log_loss_after"] == pytest.approx(-np.log(after.probabilities[rows, test.labels]).mean())


def test_an_operating_point_names_one_aim():
    from clipzoo.config.settings import SETTINGS

    with pytest.raises(ConfigError, match="must name one of sensitivity and specificity"):
        SETTINGS["evaluation"](operating_point={"sensitivity": 0.9, "specificity": 0.9})
