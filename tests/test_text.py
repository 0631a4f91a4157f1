"""One rule for names, text that is shown, and CSV that comes back as it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipzoo.errors import DataError
from clipzoo.text import clean_name, clean_path, csv_rows, csv_text, visible

CELLS = st.lists(st.lists(st.text(), min_size=1, max_size=4), max_size=4)


@given(CELLS)
@settings(max_examples=500, deadline=None)
def test_csv_comes_back_as_it_was(rows):
    assert [cells for _, cells in csv_rows(csv_text(rows), "table.csv")] == rows


@given(st.text(alphabet="'=+-@\t\r\n\",a", max_size=6))
@settings(max_examples=500, deadline=None)
def test_no_text_is_a_formula_in_a_spreadsheet(cell):
    (line,) = [cells[0] for cells in __import__("csv").reader(__import__("io").StringIO(csv_text([[cell]]), newline=""))] or [""]
    assert not line.startswith(tuple("=+-@\t\r"))


def test_numbers_stay_numbers():
    assert csv_text([[-1.5, "-1.5"]]) == "-1.5,'-1.5\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(end):
    assert list(csv_rows(end.join(["a,b", '"1\n2",x', "", "3,4"]), "t")) == [(1, ["a", "b"]), (2, ["1\n2", "x"]), (5, ["3", "4"])]


def test_open_quotes_name_the_line():
    with pytest.raises(DataError, match="t.csv:2: cannot be read as CSV"):
        list(csv_rows('a,b\n"1,2\n3,4\n', "t.csv"))


@given(st.text())
@settings(max_examples=500, deadline=None)
def test_what_is_shown_cannot_act(text):
    shown = visible(text)
    assert not any(c in shown for c in "\x00\x1b\r\n\u202e\u2028\x9b\ud800")


def test_what_is_shown_keeps_chinese_and_names_bytes():
    assert visible("患者001 👩‍⚕️ é") == "患者001 👩‍⚕️ é"
    assert visible(b"\xbb\xbc.png".decode("utf-8", "surrogateescape")) == r"\xbb\xbc.png"


def test_names_meet():
    assert clean_name("\u3000正位 ") == "正位" and clean_path("正位 /e\u0301 .png") == "正位/\u00e9 .png"
