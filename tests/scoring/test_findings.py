"""The summary of findings: every number from the tables, thresholds from val only, and notes where something is missing."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from clipzoo.errors import DataError
from clipzoo.metrics import BinaryLogLoss, MeanAUROC, MeanAveragePrecision, MicroF1
from clipzoo.records.folds import Case, Folds, Split
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import FindingsTable
from clipzoo.scoring.decisions import Choice
from clipzoo.scoring.findings import fit_thresholds
from clipzoo.scoring.paper import Paper
from clipzoo.scoring.runs import FinishedRun
from clipzoo.scoring.summary import make_summary
from clipzoo.scoring.suspicious_labels import SuspiciousLabels
from clipzoo.statistics.decisions.thresholds import fit_threshold

NAMES = ("积液", "骨折", "结节")
METRICS = [MeanAUROC(), MeanAveragePrecision(), BinaryLogLoss(), MicroF1()]


def table(fold: str, seed: int, num_cases: int = 40) -> FindingsTable:
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 0, -1], (num_cases, 3), p=[0.4, 0.5, 0.1]).astype(np.int8)
    probabilities = np.clip(rng.normal(0.4, 0.2, truth.shape) + 0.25 * (truth == 1), 0.01, 0.99).astype(np.float32)
    ids = tuple(f"{fold}_{i:02d}.png" for i in range(num_cases))
    return FindingsTable(NAMES, ids, tuple(f"{fold}_{i // 2}" for i in range(num_cases)), (fold,) * num_cases, truth, probabilities)


def result(fold: str, thresholds: dict) -> FoldResult:
    numbers = {metric.name: 0.5 for metric in METRICS}
    return FoldResult(fold, "last epoch", "x.pth", 1, 1, numbers, {"test": 40}, {}, 1.0, "cpu", "fp32", 1, thresholds=thresholds)


def folds_of(*tables: FindingsTable) -> Folds:
    rows = [
        (case_id, group, tuple(map(int, row))) for t in tables for case_id, group, row in zip(t.case_ids, t.groups, t.findings, strict=True)
    ]
    cases = tuple(Case(i, None, group, findings=row) for i, group, row in sorted(rows))
    splits = [Split(t.folds[0], tuple(c.id for c in cases if c.id not in t.case_ids), (), t.case_ids) for t in tables]
    return Folds(cases, NAMES, tuple(splits), {"type": "StratifiedGroupKFold"})


@pytest.fixture(scope="module")
def parts():
    return [table("fold_1", 1), table("fold_2", 2)], [table("val_1", 3, 30), table("val_2", 4, 30)]


def summary_of(tests, vals, choice=None, drop=(), **options) -> Summary:
    thresholds = [{k: None if k in drop else v for k, v in fit_thresholds(v, choice or Choice()).items()} for v in vals]
    results = [result(t.folds[0], found) for t, found in zip(tests, thresholds, strict=True)]
    return make_summary("run", METRICS, folds_of(*tests), results, FindingsTable.join(tests), choice=choice, **options)


def test_thresholds_are_fitted_on_known_answers_of_val(parts):
    _, (val, _) = parts
    for point, arguments in (
        (None, {"criterion": "f1"}),
        ("youden", {"criterion": "youden"}),
        ({"sensitivity": 0.9}, {"criterion": "sensitivity", "wanted": 0.9}),
    ):
        found = fit_thresholds(val, Choice.of(point))
        for c, name in enumerate(NAMES):
            known = val.findings[:, c] >= 0
            assert found[name] == fit_threshold(val.probabilities[known, c].astype(float), val.findings[known, c] == 1, **arguments).value
        near = np.array([found[name] for name in NAMES], dtype=np.float32) + np.float32(1e-4)  # would move the cut between two scores
        beside = replace(val, probabilities=np.where(val.findings < 0, near, val.probabilities))
        assert fit_thresholds(beside, Choice.of(point)) == found


def test_every_number_is_that_of_a_loop_over_the_pooled_cases(parts, tmp_path):
    tests, vals = parts
    summary = summary_of(tests, vals)
    joined = FindingsTable.join(tests)
    assert summary.pooled == {metric.name: metric.compute(joined) for metric in METRICS}
    assert set(summary.intervals) == set(summary.pooled) and summary.num_groups == 40
    for c, row in enumerate(summary.findings):
        assert row["finding"] == NAMES[c] and row["criterion"] == "f1"
        cells = [(t.findings[i, c], t.probabilities[i, c], fit_thresholds(v, Choice())[NAMES[c]])
                 for t, v in zip(tests, vals, strict=True) for i in range(40) if t.findings[i, c] >= 0]  # fmt: skip
        truth, p = [int(y) for y, _, _ in cells], [float(q) for _, q, _ in cells]
        called = [int(q >= limit) for _, q, limit in cells]
        assert (row["cases"], row["positives"]) == (len(cells), sum(truth))
        assert list(row["thresholds"]) == ["fold_1", "fold_2"]
        expected = {
            "auroc": sk.roc_auc_score(truth, p),
            "average_precision": sk.average_precision_score(truth, p),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(truth, called, pos_label=0),
            "ppv": sk.precision_score(truth, called),
            "npv": sk.precision_score(truth, called, pos_label=0),
            "f1": sk.f1_score(truth, called),
        }
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-6), name
            low, high = row["intervals"][name]
            assert low < row[name] < high
    summary.write(tmp_path)
    assert Summary.read(tmp_path) == summary
    text = summary.tables()
    assert "finding (pooled)" in text and "thresholds of the folds, from val (f1)" in text and "true \\ predicted" not in text
    assert "95 % interval" in text and f"{summary.findings[0]['auroc']:.4f} [" in text


def test_missing_thresholds_and_positives_are_noted_and_undefined(parts):
    tests, vals = parts
    one = [replace(t, findings=t.findings.copy()) for t in tests]
    for t in one:
        t.findings[:, 2] = np.where(t.findings[:, 2] == 1, 0, t.findings[:, 2])
    summary = summary_of(one, vals, drop=("骨折",))
    rows = {row["finding"]: row for row in summary.findings}
    assert rows["结节"]["auroc"] is None and "auroc" not in rows["结节"]["intervals"]
    assert "结节: no positive case, so it has no AUROC and is left out of the means" in summary.notes
    assert rows["骨折"]["sensitivity"] is None and rows["骨折"]["auroc"] is not None
    assert any(note.startswith("骨折: no threshold in fold_1, fold_2, as val does not have it") for note in summary.notes)
    assert "–" in summary.tables()
    without = make_summary("run", METRICS, folds_of(*tests), [result("fold_1", {}), result("fold_2", {})], FindingsTable.join(tests))
    assert any(note.startswith("no thresholds in fold_1, fold_2: there are no val predictions") for note in without.notes)
    assert all(row["f1"] is None for row in without.findings)


def test_attributes_give_subgroups(parts):
    tests, vals = parts
    values = {case_id: "女" if int(case_id[-6:-4]) < 20 else "男" for t in tests for case_id in t.case_ids}
    summary = summary_of(tests, vals, attributes={"性别": values}, select="mean_auroc")
    joined = FindingsTable.join(tests)
    rows = [i for i, case_id in enumerate(joined.case_ids) if values[case_id] == "女"]
    columns = {name: tuple(getattr(joined, name)[i] for i in rows) for name in ("case_ids", "groups", "folds")}
    part = replace(joined, **columns, findings=joined.findings[rows], probabilities=joined.probabilities[rows])
    found = {row["value"]: row for row in summary.subgroups}
    assert found["女"]["values"]["mean_auroc"][0] == pytest.approx(MeanAUROC().compute(part))
    assert len(summary.subgroup_differences) == 1 and "性别" in summary.tables()


def test_what_needs_one_class_per_case_is_refused_in_one_line(parts, tmp_path):
    tests, vals = parts
    summary, joined = summary_of(tests, vals), FindingsTable.join(tests)
    with pytest.raises(DataError, match=r"run: predictions of findings \(several labels per image\), for which there are no comparisons"):
        FinishedRun("run", summary, joined)
    with pytest.raises(DataError, match=r"oof\.csv: findings \(several labels per image\)"):
        SuspiciousLabels.of(joined, "self_confidence", "oof.csv")
    summary.write(tmp_path)
    folds_of(*tests).write(tmp_path / "folds.json")
    with pytest.raises(DataError, match=r"findings \(several labels per image\), for which there is no table for a paper"):
        Paper.read(tmp_path, "x")
