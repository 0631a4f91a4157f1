"""The table of findings: written and read equal, joined, and refused with its line where something is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.records.tables import FindingsTable, PredictionTable, read_table

TRUTH = np.array([[1, 0], [-1, 1], [0, 0]], dtype=np.int8)
PROBABILITIES = np.array([[0.5, 0.75], [1 / 3, 1], [0, np.nan]], dtype=np.float32)


def table(**changes) -> FindingsTable:
    return replace(
        FindingsTable(("积液", "=骨折"), ("a.png", "b.png", "c.png"), ("p1", "p1", "p2"), ("fold_1",) * 3, TRUTH, PROBABILITIES), **changes
    )


def assert_equal(found, expected):
    for name in ("classes", "case_ids", "groups", "folds"):
        assert getattr(found, name) == getattr(expected, name)
    np.testing.assert_array_equal(found.findings, expected.findings)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert found.findings.dtype == np.int8 and found.probabilities.dtype == np.float32


def test_it_comes_back_bit_for_bit_and_is_told_from_other_tables(tmp_path):
    table().write(tmp_path / "f.csv")
    lines = (tmp_path / "f.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "case_id,group,fold,y_积液,y_=骨折,p_积液,p_=骨折" and lines[2] == "b.png,p1,fold_1,,1,0.333333343,1"
    assert_equal(FindingsTable.read(tmp_path / "f.csv"), table())
    assert_equal(read_table(tmp_path / "f.csv"), table())
    with pytest.raises(DataError, match="f.csv:1: not a table of predictions"):
        PredictionTable.read(tmp_path / "f.csv")


def test_folds_are_joined_in_the_order_of_the_cases():
    first, second = table(), table(case_ids=("aa.png", "0.png", "z.png"), folds=("fold_2",) * 3)
    joined = FindingsTable.join([first, second])
    assert joined.case_ids == ("0.png", "a.png", "aa.png", "b.png", "c.png", "z.png")
    assert joined.folds[:2] == ("fold_2", "fold_1")
    np.testing.assert_array_equal(joined.findings, TRUTH[[1, 0, 0, 1, 2, 2]])
    with pytest.raises(DataError, match="a case is predicted in two folds"):
        FindingsTable.join([first, first])
    with pytest.raises(DataError, match="the folds have different findings"):
        FindingsTable.join([first, table(classes=("x", "y"), case_ids=("d", "e", "f"))])
    with pytest.raises(DataError, match="class names must be distinct"):
        table(classes=("x", "x"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("y_积液", "z_积液", ":1: not a table of findings"),
        ("p_积液", "p_积", ":1: not a table of findings"),
        ("fold_1,1,0,", "fold_1,2,0,", ":2: .*'2' is neither 1 nor 0 nor empty"),
        (",0.75", ",1.5", ":2: .*a probability must be between 0 and 1"),
        (",0.75", ",inf", ":2: .*a probability must be between 0 and 1"),
        (",0.75", ",much", ":2: .*could not convert string to float: 'much'"),
        (",0.75", "", ":2: .*the row has 6 columns instead of 7"),
        ("b.png", "a.png", ":3: .*'a.png' is also on line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, old, new, message):
    table().write(tmp_path / "f.csv")
    text = (tmp_path / "f.csv").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "f.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        FindingsTable.read(tmp_path / "f.csv")
    assert "\n" not in str(error.value)
