"""The numbers of a report, computed again from the table on disk by other means."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from run_files import table_of, write_run
from scipy import stats
from sklearn import metrics

from clipzoo.errors import CheckpointError, DataError
from clipzoo.records.tables import RetrievalTable
from clipzoo.report.content.answer import chance_recalls, warnings
from clipzoo.report.content.cases import certain, mistakes, searches, suspicious
from clipzoo.report.content.comparison import disagreements, of_runs, verdict
from clipzoo.report.content.curves import reliability
from clipzoo.report.content.few_shot import p_value
from clipzoo.report.content.records import RunRecords
from clipzoo.report.content.whole import comparison_content, run_content


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunRecords]:
    """Three drawn runs on the same cases; the third nearly right."""
    root = tmp_path_factory.mktemp("runs")
    for name, right, seed in (("甲", 0.8, 0), ("乙", 0.6, 1), ("丙", 1.0, 2)):
        write_run(root / name, table_of(right=right, seed=seed))
    return [RunRecords.read(root / name, name) for name in ("甲", "乙", "丙")]


def columns(run: RunRecords) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Labels, probabilities and rows as the CSV file says, read by nothing of clipzoo."""
    with open(run.folder / "oof_predictions.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = [name[2:] for name in rows[0] if name.startswith("p_")]
    labels = np.array([classes.index(row["label"]) for row in rows])
    return labels, np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows]), rows


def test_numbers_follow_from_the_table(runs):
    run = runs[0]
    content = json.loads(json.dumps(run_content(run), allow_nan=False))  # what report.json can hold
    labels, probabilities, rows = columns(run)
    predicted = probabilities.argmax(axis=1)
    found = {row["metric"]: row["pooled"] for row in content["answer"]["metrics"]}
    wanted = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro"),
        "auroc": metrics.roc_auc_score(labels, probabilities[:, 1]),
        "log_loss": metrics.log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True)),
    }
    assert found == pytest.approx(wanted, abs=1e-6)
    answer = content["answer"]
    assert answer["value"] == found["balanced_accuracy"] and answer["low"] < answer["value"] < answer["high"] and answer["chance"] == 0.5
    assert (answer["cases"], answer["groups"], answer["classes"]) == (len(rows), len({row["group"] for row in rows}), 2)
    matrix = metrics.confusion_matrix(labels, predicted)
    assert content["confusion"]["counts"] == matrix.tolist()
    np.testing.assert_allclose(content["confusion"]["shares"], matrix / matrix.sum(axis=1, keepdims=True), atol=1e-6)
    assert [row["recall"] for row in content["classes"]] == pytest.approx(metrics.recall_score(labels, predicted, average=None))
    for c, (roc, recall) in enumerate(zip(content["curves"]["roc"], content["curves"]["precision_recall"], strict=True)):
        assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(metrics.roc_auc_score(labels == c, probabilities[:, c]), abs=2e-3)
        assert recall["average_precision"] == pytest.approx(metrics.average_precision_score(labels == c, probabilities[:, c]))
        assert len(roc["low"]) == len(roc["points"]) == 101 and all(low <= high for low, high in zip(roc["low"], roc["high"], strict=True))
    (diagram,) = content["reliability"]  # no val part: nothing to fit a temperature on
    assert sum(diagram["counts"]) == len(rows) and diagram["scored"]
    hits = predicted == labels
    assert np.average(diagram["shares"], weights=diagram["counts"]) == pytest.approx(hits.mean(), abs=1e-5)
    assert np.average(diagram["scores"], weights=diagram["counts"]) == pytest.approx(probabilities.max(axis=1).mean(), abs=1e-5)


def test_shown_cases(runs):
    labels, probabilities, rows = columns(runs[0])
    predicted = probabilities.argmax(axis=1)
    wrong = sorted(np.flatnonzero(predicted != labels), key=lambda row: -probabilities[row].max())
    found = mistakes(runs[0].table)
    first: dict[str, list[str]] = {}
    for row in wrong:
        first.setdefault(rows[row]["group"], []).append(rows[row]["case_id"])
    assert [(case["case_id"], case["others"]) for case in found] == [(ids[0], len(ids) - 1) for ids in first.values()][:12]
    assert all(case["label"] != case["prediction"] for case in found) and {case["others"] for case in found} == {0, 1}
    alone = mistakes(replace(runs[0].table, groups=("",) * len(rows)))  # as of a table without groups
    assert [case["case_id"] for case in alone] == [rows[row]["case_id"] for row in wrong[:12]]
    doubted = suspicious(runs[0].table)
    assert len({case["group"] for case in doubted}) == len(doubted) == 12 and {case["others"] for case in doubted} == {0, 1}
    best = certain(runs[0].table)
    assert sorted(case["label"] for case in best) == sorted({row["label"] for row in rows})
    assert all(case["label"] == case["prediction"] for case in best)


def test_doubts_come_first(runs):
    keys = [warning["key"] for warning in warnings(runs[1], None, None)]
    labels, probabilities, _ = columns(runs[1])
    interval = runs[1].summary.intervals["balanced_accuracy"]
    assert ("at_chance" in keys) == (interval["low"] <= 0.5 <= interval["high"])
    assert [warning["key"] for warning in warnings(runs[2], None, None)] == ["nearly_perfect"]
    compared = {"pairs": [{"second": "kNN", "verdict": "not shown"}, {"second": "x", "verdict": "better"}]}
    assert {"key": "not_better", "names": ["kNN"]} in warnings(runs[0], None, compared)


def test_doubts_of_few_and_absent_classes(tmp_path):
    table = table_of(num_groups=8, right=0.5)
    table.probabilities[:] = [0.9, 0.1]  # the second class is never predicted
    write_run(tmp_path / "few", table)
    found = warnings(RunRecords.read(tmp_path / "few", "few"), None, None)
    assert [warning["key"] for warning in found] == ["at_chance", "never_predicted", "few_of_class", "few_groups"]
    assert found[1]["classes"] == ["骨水泥型"] and found[3]["groups"] == 8


def test_comparison_of_runs(runs):
    content = comparison_content(runs)
    assert [row["name"] for row in content["leaderboard"]] == ["丙", "甲", "乙"]
    pairs = {(pair["first"], pair["second"]): pair for pair in content["comparison"]["pairs"]}
    labels, first, _ = columns(runs[0])
    _, second, _ = columns(runs[2])
    scores = [metrics.balanced_accuracy_score(labels, found.argmax(axis=1)) for found in (first, second)]
    assert list(pairs) == [("丙", "甲"), ("丙", "乙"), ("甲", "乙")], "in the order of the leaderboard"
    numbers = pairs["丙", "甲"]["metrics"]["balanced_accuracy"]
    assert numbers["difference"] == pytest.approx(scores[1] - scores[0])
    assert pairs["丙", "甲"]["verdict"] == "better" and numbers["adjusted_p_value"] < 0.05
    found = content["disagreements"]
    right = np.array([columns(run)[1].argmax(axis=1) == labels for run in runs])
    assert found["all_right"] == int(right.all(axis=0).sum()) and found["all_wrong"] == int((~right.any(axis=0)).sum())
    assert found["only"] == {run.name: int((right[i] & (right.sum(axis=0) == 1)).sum()) for i, run in enumerate(runs)}
    assert found["differ"] == int((right != right[0]).any(axis=0).sum())  # of two classes, another prediction is another truth
    assert all(len({row["prediction"] for row in case["predictions"]}) > 1 for case in found["shown"])
    split = Counter(row["group"] for row, differs in zip(columns(runs[0])[2], (right != right[0]).any(axis=0), strict=True) if differs)
    assert {case["group"]: case["others"] + 1 for case in found["shown"]}.items() <= split.items(), "each group once, with its number"
    assert len(found["shown"]) == min(12, len(split)) and any(case["others"] for case in found["shown"])


def test_many_runs_are_compared_with_the_best(tmp_path):
    for seed in range(12):
        write_run(tmp_path / str(seed), table_of(num_groups=24, right=0.9 if seed == 7 else 0.6, seed=seed))
    found = of_runs([RunRecords.read(tmp_path / str(seed), str(seed)) for seed in range(12)])
    assert len(found["pairs"]) == 11 and all(pair["first"] == "7" for pair in found["pairs"])


@pytest.mark.parametrize(
    ("difference", "p", "greater", "wanted"),
    [
        (0.2, 0.01, True, "better"),
        (-0.2, 0.01, True, "worse"),
        (-0.2, 0.01, False, "better"),
        (0.2, 0.2, True, "not shown"),
        (math.nan, 0.01, True, "no test"),
    ],
)
def test_verdicts(difference, p, greater, wanted):
    pair = {"identical": False, "metrics": {"m": {"difference": difference, "adjusted_p_value": p}}}
    assert verdict(pair, "m", greater) == wanted
    assert verdict({**pair, "identical": True}, "m", greater) == "identical" and verdict(pair, "other", greater) == "no test"


def test_other_cases_are_refused(runs, tmp_path):
    write_run(tmp_path / "other", table_of(num_groups=20))
    with pytest.raises(DataError, match="different cases|not the same|cases"):
        comparison_content([runs[0], RunRecords.read(tmp_path / "other", "other")])
    with pytest.raises(DataError, match="different cases"):
        disagreements([runs[0], RunRecords.read(tmp_path / "other", "other")])
    with pytest.raises(CheckpointError, match="no such folder"):
        RunRecords.read(tmp_path / "none", "none")


class Pairs:
    """The part of a dataset that searches need: three images with captions, one shared."""

    rows = {"a": 0, "b": 1, "c": 2}

    class captions:
        sentences = ("红", "蓝", "圆")

    def captions_of(self, row: int) -> list[int]:
        return [[0, 2], [1], [2]][row]

    def rows_of(self, ids) -> np.ndarray:
        return np.array([self.rows[i] for i in ids])


def ranks() -> RetrievalTable:
    """One fold: three images searching three captions, and back."""
    return RetrievalTable.from_columns(
        direction=["image_to_text"] * 3 + ["text_to_image"] * 3,
        query=["a", "b", "c", "红", "蓝", "圆"],
        group=["a", "b", "c", "a", "b", ""],
        fold=["fold_1"] * 6,
        gallery=[3] * 6,
        ahead=[0, 2, 1, 0, 1, 0],
        tied=[0] * 6,
        positives=[1] * 6,
        positive_similarity=[0.9, 0.1, 0.2, 0.9, 0.1, 0.3],
        negative_similarity=[0.1, 0.5, 0.3, 0.1, 0.2, 0.2],
        best_match=["红", "圆", "红", "a", "c", "c"],
    )


def test_searches_and_chance():
    table, data = ranks(), Pairs()
    found = searches(table, data)
    assert [case["case_id"] for case in found["missed"]] == ["b", "c"] and [case["case_id"] for case in found["found"]] == ["a"]
    assert found["missed"][0] | {"rank": 3.0, "found": "圆", "right": ["蓝"]} == found["missed"][0]
    # of three captions, image a has two, b and c one each; of three images, 圆 describes two
    assert chance_recalls(table, data, "image_to_text", (1, 3)) == pytest.approx({1: (2 + 1 + 1) / 9, 3: 1.0})
    assert chance_recalls(table, data, "text_to_image", (1,)) == pytest.approx({1: (1 + 1 + 2) / 9})
    assert math.isnan(chance_recalls(table, None, "text_to_image", (1,))[1])


def test_worse_than_chance_and_not_finite(tmp_path):
    write_run(tmp_path / "worse", table_of(right=0.15))
    (first, *_) = warnings(RunRecords.read(tmp_path / "worse", "worse"), None, None)
    assert first == {"key": "worse_than_chance", "metric": "balanced_accuracy", "chance": 0.5}
    table = table_of(right=0.8)
    table.probabilities[:18] = np.nan
    write_run(tmp_path / "nan", table)
    run = RunRecords.read(tmp_path / "nan", "nan")
    content = run_content(run)
    assert {"key": "not_finite", "n": 18} in content["warnings"]
    assert sum(map(sum, content["confusion"]["counts"])) == 102 == sum(content["reliability"][0]["counts"])
    for seed in range(11):
        write_run(tmp_path / str(seed), table)
    with pytest.raises(DataError, match="balanced_accuracy is undefined for every run"):
        of_runs([RunRecords.read(tmp_path / str(seed), str(seed)) for seed in range(11)])


def test_temperatures_belong_to_cases_which_are_joined_afterwards(tmp_path):
    table = table_of(num_groups=40, right=0.7)
    write_run(tmp_path / "run", table)
    run = RunRecords.read(tmp_path / "run", "run")
    temperature = 3.0
    result = SimpleNamespace(calibration={"temperature": temperature})
    joined = replace(run, summary=replace(run.summary, unit="group"))
    joined.__dict__["results"] = {"fold_1": result, "fold_2": result}
    before, after = reliability(joined)
    assert (before["scored"], after["scored"]) == (False, True)
    raw = table.probabilities.astype(np.float64) ** temperature  # what the models said, before they were divided
    raw /= raw.sum(axis=1, keepdims=True)
    for found, probabilities in ((before, raw), (after, table.probabilities)):
        mean = probabilities.reshape(40, 2, 2).mean(axis=1)
        assert np.average(found["scores"], weights=found["counts"]) == pytest.approx(mean.max(axis=1).mean(), abs=1e-5)


@pytest.mark.parametrize(("paired", "expected"), [([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], 0.0), ([-0.2, 0.1, 0.3, 0.0], None)])
def test_the_p_value_of_episodes_is_students(paired, expected):
    expected = stats.ttest_1samp(paired, 0).pvalue if expected is None else expected
    assert p_value(np.array(paired)) == pytest.approx(expected, abs=1e-12)
