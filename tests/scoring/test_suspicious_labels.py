"""The table of suspicious labels: its rows against the predictions, the order, the file, and tables without labels."""

from dataclasses import replace

import numpy as np
import pytest
from run_files import table_of

from clipzoo.errors import DataError
from clipzoo.records.tables import PredictionTable, RetrievalTable
from clipzoo.scoring.suspicious_labels import SuspiciousLabels
from clipzoo.text import csv_rows


def test_every_row_is_that_of_its_case(tmp_path):
    table = table_of()
    labels = table.labels.copy()
    labels[::10] = -1
    table = replace(table, labels=labels)
    found = SuspiciousLabels.of(table, "self_confidence", "x.csv")
    header, *rows = [cells for _, cells in csv_rows(found.write(tmp_path).read_text(encoding="utf-8"), "x")]
    assert header == ["rank", "case_id", "group", "label", "suggested_label", "p_label", "p_suggested", "score", "is_issue"]
    assert len(rows) == 108 and [int(row[0]) for row in rows] == list(range(1, 109))
    place = {case_id: row for row, case_id in enumerate(table.case_ids)}
    for _, case_id, group, label, suggested, p_label, p_suggested, score, _ in rows:
        probabilities = table.probabilities[place[case_id]]
        assert group == table.groups[place[case_id]] and label == table.classes[labels[place[case_id]]]
        assert suggested == table.classes[probabilities.argmax()] and float(p_suggested) == pytest.approx(probabilities.max(), abs=5e-5)
        assert score == p_label and float(p_label) == pytest.approx(probabilities[labels[place[case_id]]], abs=5e-5)
    scores = [float(row[7]) for row in rows]
    assert scores == sorted(scores)


def test_planted_errors_come_first():
    table = table_of(right=1.0)
    planted = [3, 50, 77]
    labels = table.labels.copy()
    labels[planted] = 1 - labels[planted]
    found = SuspiciousLabels.of(replace(table, labels=labels), "self_confidence", "x.csv")
    assert {row[1] for row in found.rows(3)} == {table.case_ids[row] for row in planted}
    assert [row[-1] for row in found.rows(4)] == ["yes", "yes", "no", "no"]  # the third is not more sure than its class is on average
    assert "2 of 120 labels count as wrong" in found.text(2) and "models are weak" not in found.text(2)
    assert len(found.text(2).splitlines()) == 2 + 2 + 2


def test_many_wrong_labels_are_doubted():
    rng = np.random.default_rng(0)
    found = SuspiciousLabels.of(replace(table_of(right=1.0), labels=rng.integers(0, 2, 120)), "self_confidence", "x.csv")
    assert found.text(1).endswith("so many say that the models are weak, not that the labels are wrong")


def test_confident_learning_puts_issues_first():
    pytest.importorskip("cleanlab")
    first = np.concatenate([np.linspace(0.3, 0.95, 60), np.linspace(0.05, 0.9, 60)])  # the models are less sure of the second class
    probabilities = np.stack([first, 1 - first], axis=1).astype(np.float32)
    table = replace(table_of(), labels=np.repeat([0, 1], 60), probabilities=probabilities)
    found, by_confidence = (SuspiciousLabels.of(table, method, "x.csv").rows() for method in ("confident_learning", "self_confidence"))
    issues = [row[-1] for row in found]
    assert issues == sorted(issues, reverse=True) and {"yes", "no"} == set(issues)
    assert [row[1] for row in found] != [row[1] for row in by_confidence]


def test_what_has_no_labels_is_refused():
    table = table_of()
    none = RetrievalTable.from_columns(*[[]] * 11)
    one = PredictionTable(("a",), ("1",), ("1",), ("f",), np.array([0]), np.ones((1, 1), dtype=np.float32))
    for given, says in (
        (none, "x.csv: retrieval ranks, which have no labels"),
        (one, "x.csv: there is only the class 'a'"),
        (replace(table, labels=np.full(120, -1)), "x.csv: no case has a label"),
    ):
        with pytest.raises(DataError, match=says):
            SuspiciousLabels.of(given, "self_confidence", "x.csv")
