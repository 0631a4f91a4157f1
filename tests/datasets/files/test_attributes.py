"""Attributes of cases: read from a table, and of no influence on training or folds."""

import pytest

from clipzoo.datasets.files.attributes import read_attributes
from clipzoo.errors import DataError

IDS = ["甲/P1_a.png", "甲/P1_b.png", "乙/P2_a.png"]


def written(tmp_path, text: str):
    path = tmp_path / "attributes.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_values_by_attribute_and_case(tmp_path):
    path = written(tmp_path, "path,sex,设备\n甲/P1_a.png,女, GE \n甲/P1_b.png,,GE\n甲/P1_a.png,女,GE\n乙/P2_a.png,\n乙/P2_a.png,,\n")
    assert read_attributes(path, IDS, "images") == {"sex": {"甲/P1_a.png": "女"}, "设备": {"甲/P1_a.png": "GE", "甲/P1_b.png": "GE"}}
    assert read_attributes(written(tmp_path, "path;view\n乙/P2_a.png;ap\n"), IDS, "images") == {"view": {"乙/P2_a.png": "ap"}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,sex\n甲/P1_c.png,f\n", r"attributes.csv:2: no image '甲/P1_c.png' below images. Did you mean '甲/P1_"),
        ("path\n", "attributes.csv:1: the column path and at least one attribute are required; found: path"),
        ("file,sex\n", "the column path and at least one attribute are required; found: file, sex"),
        ("path,sex,\n", "attributes.csv:1: a column has no name"),
        ("path,sex,sex\n", "attributes.csv:1: duplicate column 'sex'. Rename one of them"),
        ("path,sex\n乙/P2_a.png,f\n乙/P2_a.png,m\n", "attributes.csv:3: '乙/P2_a.png' has an earlier row with other values"),
        ("path,sex\n乙/P2_a.png,f,x\n", "attributes.csv:2: the row has 3 columns, the first line names 2"),
        ("path,sex\n", "attributes.csv: has no rows below the first line"),
        ("", "attributes.csv:1: the column path and at least one attribute are required; found: nothing"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem) as caught:
        read_attributes(written(tmp_path, text), IDS, "images")
    assert "\n" not in str(caught.value)
