"""Tables on disk: exact round trips, NaN, Chinese columns, and refusals."""

import json
import math

import numpy as np
import pytest

from clipzoo.errors import CheckpointError, DataError
from clipzoo.results import FoldResult, PredictionTable, Summary, aligned, mean_and_sd


def table(case_ids=("甲/1.png", "乙/2.png"), fold="fold_1", seed=0) -> PredictionTable:
    raw = np.random.default_rng(seed).random((len(case_ids), 2)).astype(np.float32)
    return PredictionTable(
        classes=("甲", "乙,丙"),
        case_ids=tuple(case_ids),
        groups=tuple(f"P{i}" for i in range(len(case_ids))),
        folds=(fold,) * len(case_ids),
        labels=np.array([0, -1][: len(case_ids)]),
        probabilities=raw / raw.sum(axis=1, keepdims=True),
    )


def test_predictions_round_trip_every_bit_of_a_float32(tmp_path):
    written = table()
    written.write(tmp_path / "p.csv")
    read = PredictionTable.read(tmp_path / "p.csv")
    assert read.classes == written.classes and read.case_ids == written.case_ids and read.groups == written.groups
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.probabilities, written.probabilities)
    header = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == 'case_id,group,fold,label,prediction,p_甲,"p_乙,丙"'


def test_join_sorts_and_refuses_a_case_twice():
    joined = PredictionTable.join([table(("b",), "fold_2"), table(("a",), "fold_1", seed=1)])
    assert joined.case_ids == ("a", "b") and joined.folds == ("fold_1", "fold_2")
    with pytest.raises(DataError, match="a case is predicted in two folds"):
        PredictionTable.join([table(("a",)), table(("a",))])


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "case_id,group,fold,label,prediction,p_x\n1,2,3,y,x,0.5\n"])
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match="not a table of predictions"):
        PredictionTable.read(tmp_path / "p.csv")
    with pytest.raises(DataError, match="no such file"):
        PredictionTable.read(tmp_path / "missing.csv")


def test_fold_result_keeps_undefined_metrics(tmp_path):
    result = FoldResult(
        "fold_1",
        "last epoch",
        "checkpoint_latest.pth",
        3,
        3,
        {"auroc": math.nan, "accuracy": 0.5},
        {"train": 1},
        "d",
        1.0,
        "cpu",
        "fp32",
        1,
    )
    result.write(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == {"auroc": None, "accuracy": 0.5}
    assert math.isnan(FoldResult.read(tmp_path).metrics["auroc"])
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a fold's result"):
        FoldResult.read(tmp_path)


def test_summary_marks_what_is_optimistic_and_shows_undefined_numbers(tmp_path):
    summary = Summary(
        name="run", folds=[{"fold": "fold_1", "epoch": 2, "metrics": {"accuracy": 0.5}}], mean={"accuracy": 0.5}, sd={"accuracy": math.nan},
        pooled={"accuracy": 0.5}, per_class=[{"class": "髋臼", "cases": 2, "precision": None, "recall": 1.0, "f1": 0.5, "auroc": None}],
        confusion=[[2]], classes=["髋臼"], selection="best accuracy on test", optimistic=True, folds_digest="d",
        notes=["a note"], seconds=1.0,
    )  # fmt: skip
    summary.write(tmp_path)
    text = Summary.read(tmp_path).tables()
    assert "OPTIMISTIC" in text and "0.5000 ± –" in text and "note: a note" in text and "髋臼" in text


def test_columns_stay_aligned_with_chinese():
    lines = aligned(["类别", "n"], [["髋臼杯", "1"], ["ab", "22"]]).splitlines()
    assert lines[2].endswith(" 1") and lines[3] == "ab      22"


def test_sd_is_over_the_folds_where_the_metric_is_defined():
    mean, sd = mean_and_sd([0.5, math.nan, 0.7])
    assert mean == pytest.approx(0.6) and sd == pytest.approx(math.sqrt(0.02))
    assert math.isnan(mean_and_sd([0.5])[1]) and math.isnan(mean_and_sd([math.nan])[0])
