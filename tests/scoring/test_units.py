"""Metrics and intervals per patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from run_files import METRICS, folds_of, table_of

from clipzoo.errors import DataError
from clipzoo.records.results import FoldResult
from clipzoo.scoring.summary import make_summary
from clipzoo.scoring.units import Unit, per_group


@pytest.mark.parametrize("join", ["mean", "max"])
def test_joining_equals_a_loop(join):
    table = table_of(num_groups=9, per_group=3, right=0.6)
    table = replace(table, groups=(*table.groups[:-1], ""))
    found = per_group(table, join)
    names = np.array([group or case_id for case_id, group in zip(table.case_ids, table.groups, strict=True)])
    assert list(found.case_ids) == sorted(set(names)) == list(found.groups) and len(names) == 27
    for row, name in enumerate(found.case_ids):
        mine = np.flatnonzero(names == name)
        probabilities = table.probabilities[mine].astype(np.float64)
        expected = probabilities.mean(axis=0) if join == "mean" else probabilities.max(axis=0) / probabilities.max(axis=0).sum()
        np.testing.assert_allclose(found.probabilities[row], expected / expected.sum(), rtol=1e-6)
        assert found.labels[row] == table.labels[mine[0]] and found.folds[row] == table.folds[mine[0]]


def test_unlabelled_cases_do_not_decide_and_two_classes_are_refused():
    table = table_of(num_groups=4, per_group=2)
    labels = table.labels.copy()
    labels[0] = -1
    assert per_group(replace(table, labels=labels)).labels[0] == table.labels[1]
    labels[:2] = -1
    assert per_group(replace(table, labels=labels)).labels[0] == -1
    labels[:2] = (0, 1)
    with pytest.raises(DataError, match="group 'P000' are of two classes, '非骨水泥型' and '骨水泥型'. Use evaluation.unit='case'"):
        per_group(replace(table, labels=labels))
    assert Unit().of(table) is table


def test_the_summary_counts_patients():
    table = table_of(num_groups=60, per_group=3, right=0.7)
    folds = folds_of(table)
    end = ({"test": 1}, {}, 1.0, "cpu", "fp32", 1)
    results = [FoldResult(split.name, "last epoch", "x.pth", 3, 3, {m.name: 0.5 for m in METRICS}, *end) for split in folds.splits]
    sex = {case_id: "f" if group < "P030" else "m" for case_id, group in zip(table.case_ids, table.groups, strict=True)}
    sex[table.case_ids[0]] = ""
    options = {"attributes": {"sex": sex}, "select": "accuracy"}
    images, patients = (make_summary("x", METRICS, folds, results, table, **options, unit=Unit(name)) for name in ("case", "group"))
    joined = per_group(table)
    assert patients.pooled["accuracy"] == np.mean(joined.probabilities.argmax(axis=1) == joined.labels) > images.pooled["accuracy"]
    assert sum(map(sum, patients.confusion)) == 60 and sum(map(sum, images.confusion)) == 180
    assert patients.unit == "group" and patients.notes[0] == "every group counts once, with the mean of the probabilities of its cases"
    assert [row["cases"] for row in patients.subgroups] == [30, 30] and images.notes == []
    assert patients.intervals["accuracy"]["method"] == "wilson" and images.intervals["accuracy"]["method"] == "effective_wilson"
