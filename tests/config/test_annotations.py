"""Ranges in annotations: what fits, what a message says, what a list of arguments shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen, MultipleOf

from clipzoo.config.annotations import FieldsOf, UserPath, described, fits, hints_of, in_words, is_plain, misfits, shown

POSITIVE = Annotated[float, Gt(0)]
SHARE = Annotated[float, Interval(ge=0, lt=1)]
PATH = Annotated[str, UserPath()]


@dataclass
class Adapter:
    """What an argument holds as a dict."""

    rank: Annotated[int, Ge(1)] = 8
    dropout: SHARE = 0.0


ADAPTER = Annotated[dict, FieldsOf(Adapter)]


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (0, POSITIVE, False), (1e-9, POSITIVE, True), (float("nan"), POSITIVE, False), (float("inf"), POSITIVE, False),
        (10**400, POSITIVE, False), (True, POSITIVE, False), ("1", POSITIVE, False), (None, POSITIVE | None, True),
        (-1, POSITIVE | None, False), (float("-inf"), Annotated[float, Lt(3)], False),
        (0, SHARE, True), (1, SHARE, False), (3, Annotated[int, Le(3)], True), (4, Annotated[int, Le(3)], False),
        (96, Annotated[int, MultipleOf(32)], True), (97, Annotated[int, MultipleOf(32)], False),
        ([1], Annotated[list[int], MinLen(1)], True), ([], Annotated[list[int], MinLen(1)], False),
        ([1, 2, 3], Annotated[list[float], Len(3, 3)], True), ([1, 2], Annotated[list[float], Len(3, 3)], False),
        ([0.1, 1], list[SHARE], False), ({"a": -1}, dict[str, POSITIVE], False),
        ({"rank": 4}, ADAPTER, True), ({"rank": 0}, ADAPTER, False), ({"rang": 4}, ADAPTER, False), (3, ADAPTER, False),
        ("a/b", PATH, True), ("a\0b", PATH, False), ("x" * 5000, PATH, False), ("/".join(["x" * 300] * 2), PATH, False), (3, PATH, False),
        (2**63, int, False), (2**63 - 1, int, True), (np.int64(3), int, True), (np.float32(0.5), SHARE, True), (np.bool_(1), int, False),
    ],
)  # fmt: skip
def test_ranges_hold(value, annotation, expected):
    assert fits(value, annotation) is expected
    assert (not list(misfits(value, annotation))) is expected


def test_a_path_may_be_a_path_object(tmp_path):
    assert fits(tmp_path, PATH) and not fits(tmp_path, str)


@pytest.mark.parametrize(
    ("annotation", "words", "short"),
    [
        (POSITIVE, "a number above 0", "float > 0"),
        (Annotated[int, Ge(1)] | None, "a whole number of 1 or more or None", "int >= 1 | None"),
        (SHARE, "a number in [0, 1)", "0 <= float < 1"),
        (Annotated[float, Interval(gt=0, le=1)], "a number in (0, 1]", "0 < float <= 1"),
        (Annotated[int, Interval(ge=1, le=9)], "a whole number from 1 to 9", "1 <= int <= 9"),
        (Annotated[float, Lt(1)], "a number below 1", "float < 1"),
        (Annotated[float, Le(1)], "a number of 1 or less", "float <= 1"),
        (Annotated[int, Ge(0), MultipleOf(8)], "a whole number of 0 or more, a multiple of 8", "int >= 0, a multiple of 8"),
        (list[POSITIVE], "a list of numbers above 0", "list[float > 0]"),
        (Annotated[list[float], Len(3, 3)], "a list of numbers, 3 of them", "list[float], 3 of them"),
        (Annotated[list[int], MinLen(1)], "a list of whole numbers, 1 or more", "list[int], 1 or more"),
        (PATH | None, "a path or None", "path | None"),
        (ADAPTER, "a dict of rank, dropout", "dict(rank: int >= 1, dropout: 0 <= float < 1)"),
        (Literal["a", "b"], "one of 'a', 'b'", "'a' | 'b'"),
        (tuple[float, float], "a list of 2 numbers", "tuple[float, float]"),
        (dict[str, POSITIVE], "a dict", "dict[str, float > 0]"),
        (Any, "Any", "Any"),
    ],
)
def test_words_and_short_forms(annotation, words, short):
    assert (described(annotation), shown(annotation)) == (words, short)


@pytest.mark.parametrize(
    ("value", "annotation", "found"),
    [
        (-1, POSITIVE, [("", "-1 is not a number above 0")]),
        ([0.9, 2], tuple[SHARE, SHARE], [(".1", "2 is not a number in [0, 1)")]),
        ([0.9], tuple[SHARE, SHARE], [("", "[0.9] is not a list of 2 numbers in [0, 1)")]),
        ({"a": 1, "b": "x"}, dict[str, POSITIVE] | None, [(".b", "'x' is not a number above 0")]),
        ({"rank": 0}, ADAPTER | None, [(".rank", "0 is not a whole number of 1 or more")]),
        ({"rang": 4}, ADAPTER, [("", "unknown key 'rang'. Did you mean 'rank'? Known: rank, dropout")]),
        ({3: 1.0}, dict[str, float], [("", "the key 3 is not a string")]),
        ([], Annotated[list[int], MinLen(1)], [("", "[] is not a list of whole numbers, 1 or more")]),
        ([{"a": -1}], list[dict[str, POSITIVE]], [(".0.a", "-1 is not a number above 0")]),
        ("crp", Literal["crop", "pad"] | None, [("", "'crp' is not one of 'crop', 'pad' or None. Did you mean 'crop'?")]),
    ],
)  # fmt: skip
def test_a_misfit_says_where_and_what(value, annotation, found):
    assert list(misfits(value, annotation)) == found


def test_long_values_are_cut_in_messages():
    assert len(in_words("x" * 10_000)) < 300 and in_words(10**5000) == "a number with thousands of digits"
    assert in_words("a\0b") == r"'a\x00b'"


@pytest.mark.parametrize(
    ("annotation", "plain"),
    [
        (list[str], True), (str | None, True), (Literal["a"], True), (PATH, True), (list[int | str], True), (tuple[str, ...], True),
        (list, False), (dict, False), (str | dict, False), (list[dict], False), (Any, False), (os.PathLike, False),
    ],
)  # fmt: skip
def test_plain_annotations(annotation, plain):
    assert is_plain(annotation) is plain


def test_one_unknown_name_does_not_hide_the_other_annotations():
    def function(model: OnlyForTypeCheckers, share: SHARE = 0.0): ...  # noqa: F821

    class Record:
        model: OnlyForTypeCheckers  # noqa: F821
        share: SHARE = 0.0

    assert hints_of(function) == {"share": SHARE} and hints_of(Record) == {"share": SHARE}
