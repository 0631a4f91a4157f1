"""Results on disk and as text: undefined numbers, refusals, Chinese columns."""

import json
import math

import pytest

from clipzoo.errors import CheckpointError
from clipzoo.records.json_records import write_record
from clipzoo.records.results import FoldResult, Summary, mean_and_sd
from clipzoo.text_tables import aligned, terminal_columns


def test_fold_result_keeps_undefined_metrics(tmp_path):
    result = FoldResult(
        "fold_1",
        "last epoch",
        "checkpoint_latest.pth",
        3,
        3,
        {"auroc": math.nan, "accuracy": 0.5},
        {"train": 1},
        {"folds": "d"},
        1.0,
        "cpu",
        "fp32",
        1,
    )
    result.write(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == {"auroc": None, "accuracy": 0.5}
    assert math.isnan(FoldResult.read(tmp_path).metrics["auroc"])
    write_record(tmp_path / "result.json", {"fold": 1, "colour": "red"})
    with pytest.raises(CheckpointError, match="result.json: damaged, or from another version: selection is missing"):
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


def test_a_cell_that_acts_on_a_terminal_is_shown_escaped_and_aligned():
    lines = aligned(["cl\x1bass", "n"], [["a\r\nb", "1"], ["e\u0301️👩‍⚕️", "22"]], rule_before=1).splitlines()
    assert lines[0] == "cl\\x1bass   n" and lines[2] == "a\\r\\nb      1" and len(lines) == 5
    assert terminal_columns("e\u0301") == 1 and terminal_columns("👩\u200d⚕\ufe0f") == 3
