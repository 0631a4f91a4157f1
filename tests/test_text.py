"""One rule for names, text that is shown, and CSV that comes back as it was."""

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipzoo.errors import DataError
from clipzoo.text import clean_name, clean_path, csv_rows, csv_text, visible

CELLS = st.lists(st.lists(st.text(), min_size=1, max_size=4), max_size=4)


@given(CELLS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_csv_comes_back_as_it_was(rows):
    assert [cells for _, cells in csv_rows(csv_text(rows), "table.csv")] == rows


@given(st.text(alphabet="'=+-@\t\r\n \",a1.e＝", max_size=6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_text_is_a_formula_in_a_spreadsheet(cell):
    ((shown,),) = csv.reader(io.StringIO(csv_text([[cell]]), newline=""))
    number = re.fullmatch(r"[+-]([0-9.]+(e[+-]?[0-9]+)?)?", shown)
    assert number or not shown.startswith(tuple("=+-@＝\t\r\n")) and not shown.lstrip().startswith(tuple("=+-@＝"))


def test_numbers_and_signs_stay_what_they_are():
    """Classes are called -1 and +1, or + and -: no spreadsheet runs these, and other programs read them as they are."""
    assert csv_text([[-1.5, "-1.5", "+1", "-", "+", "-2e-05", None]]) == "-1.5,-1.5,+1,-,+,-2e-05,\n"
    assert csv_text([["-1-1", "+a", "--", "-e5", " =1", "＝1"]]) == "'-1-1,'+a,'--,'-e5,' =1,'＝1\n"


def test_separators_and_quotes_of_all_text():
    rows = [["a\tb", "=1", "c"], ["", "1", "'=1"]]
    text = csv_text(rows, separator="\t", quote_text=True)
    assert text.startswith('"a\tb"\t"\'=1"\t"c"\n')
    assert [cells for _, cells in csv_rows(text, "t", separator="\t")] == rows


def test_a_cell_of_any_length_is_read():
    """Python refuses more than 131 072 characters."""
    assert list(csv_rows(csv_text([["x" * 200_000]]), "t")) == [(1, ["x" * 200_000])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(end):
    assert list(csv_rows(end.join(["a,b", '"1\n2",x', "", "3,4"]), "t")) == [(1, ["a", "b"]), (2, ["1\n2", "x"]), (5, ["3", "4"])]


def test_open_quotes_name_the_line():
    with pytest.raises(DataError, match="t.csv:2: not valid CSV"):
        list(csv_rows('a,b\n"1,2\n3,4\n', "t.csv"))


@given(st.text())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_is_shown_cannot_act(text):
    shown = visible(text)
    assert not any(c in shown for c in "\x00\x1b\r\n\u202e\u2028\x9b\ud800")


def test_what_is_shown_keeps_chinese_and_names_bytes():
    assert visible("患者001 👩‍⚕️ é") == "患者001 👩‍⚕️ é"
    assert visible(b"\xbb\xbc.png".decode("utf-8", "surrogateescape")) == r"\xbb\xbc.png"


def test_names_meet():
    assert clean_name("\u3000正位 ") == "正位" and clean_path("正位 /e\u0301 .png") == "正位/\u00e9 .png"
