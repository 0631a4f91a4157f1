"""Subgroups by hand."""

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.statistics.subgroups import Pair, pairs_to_compare, split_by_attribute

VALUES = ["f", "m", "m", "", "f", "m", "x", "x", "x", "f"]
GROUPS = np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 1])


def test_groups_are_counted_not_cases():
    found = split_by_attribute(VALUES, GROUPS, min_groups=2)
    assert [(s.value, s.num_groups, s.num_cases, s.too_few) for s in found] == [
        ("f", 3, 3, False),
        ("m", 3, 3, False),
        ("x", 1, 3, True),
        ("", 1, 1, True),
    ]
    assert found[0].rows.tolist() == [0, 4, 9] and sorted(row for s in found for row in s.rows) == list(range(10))


def test_an_unknown_value_is_never_compared():
    found = split_by_attribute(["", "", "a"], np.arange(3), min_groups=1)
    assert [(s.value, s.too_few) for s in found] == [("a", False), ("", True)]
    assert pairs_to_compare(found, np.arange(3)) == ()


def test_pairs_know_groups_on_both_sides():
    found = split_by_attribute([*VALUES, "y", "y"], np.r_[GROUPS, 7, 8], min_groups=2)
    assert pairs_to_compare(found, np.r_[GROUPS, 7, 8]) == (Pair("f", "m", 1), Pair("f", "y", 0), Pair("m", "y", 0))


def test_no_cases_and_bad_input():
    assert split_by_attribute([], np.zeros(0, dtype=int)) == ()
    with pytest.raises(DataError, match="subgroups: 1 values of the attribute for 2 cases"):
        split_by_attribute(["a"], np.arange(2))
