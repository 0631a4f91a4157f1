"""Cases and queries: who is kept, and who is resampled together."""

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.records.tables import PredictionTable, RetrievalTable
from clipzoo.statistics.cases import Cases, Queries, group_codes


def test_unlabelled_cases_are_dropped_and_groups_keep_together():
    table = PredictionTable(
        classes=("a", "b"),
        case_ids=("1", "2", "3", "4", "5"),
        groups=("p", "", "p", "q", ""),
        folds=("fold_2", "fold_1", "fold_1", "fold_1", "fold_2"),
        labels=np.array([0, 1, -1, 1, 0]),
        probabilities=np.array([[0.5, 0.5]] * 5, dtype=np.float32),
    )
    cases = Cases.from_table(table)
    assert cases.case_ids == ("1", "2", "4", "5") and cases.labels.tolist() == [0, 1, 1, 0]
    assert cases.num_groups == 4 and len(set(cases.groups.tolist())) == 4  # the two without a name are two groups
    assert [cases.fold_names[code] for code in cases.folds] == ["fold_2", "fold_1", "fold_1", "fold_2"]
    assert cases.probabilities.dtype == np.float64


def test_a_group_name_that_looks_like_a_row_stays_apart():
    assert group_codes(["0", "", "1", "0"]).tolist() == [0, 2, 1, 0]
    assert len(set(group_codes(["", "0"]).tolist())) == 2


def test_a_table_without_labels_is_empty():
    cases = Cases.from_arrays(np.array([-1, -1]), np.full((2, 3), 1 / 3))
    assert len(cases) == 0 and cases.num_groups == 0


def test_group_codes_of_any_kind():
    assert Cases.from_arrays(np.array([0, 1, 0]), np.full((3, 2), 0.5), np.array([7, 3, 7])).groups.tolist() == [1, 0, 1]


def test_wrong_arrays_are_refused():
    with pytest.raises(DataError, match="labels must be between 0 and 1"):
        Cases.from_arrays(np.array([0, 2]), np.full((2, 2), 0.5))
    with pytest.raises(DataError, match="one row per case"):
        Cases(("a", "b"), ("1",), np.array([0, 1]), np.full((2, 2), 0.5), np.array([0, 1]), np.array([0, 0]), ("f",))
    with pytest.raises(DataError, match="for 3 classes"):
        Cases(("a", "b", "c"), ("1",), np.array([0]), np.full((1, 2), 0.5), np.array([0]), np.array([0]), ("f",))


def queries_of(*rows):
    """Direction, query, group, fold."""
    direction, query, group, fold = zip(*rows, strict=True)
    n = len(rows)
    return RetrievalTable.from_columns(direction, query, group, fold, [9] * n, [0] * n, [0] * n, [1] * n, [0.5] * n, [0.0] * n, [""] * n)


def test_captions_cluster_with_the_only_group_they_describe():
    table = queries_of(
        ("image_to_text", "p/1", "p", "fold_1"),
        ("image_to_text", "p/2", "p", "fold_1"),
        ("image_to_text", "x", "", "fold_1"),
        ("image_to_text", "y", "", "fold_1"),
        ("text_to_image", "own caption", "", "fold_1"),
        ("text_to_image", "shared caption", "", "fold_1"),
        ("text_to_image", "shared caption", "", "fold_2"),
        ("text_to_image", "p", "", "fold_1"),  # a caption that reads like a group
    )
    unknown = Queries.from_table(table).groups
    assert unknown[0] == unknown[1] and unknown[5] == unknown[6] and len(set(unknown.tolist())) == 6
    known = Queries.from_table(table, caption_groups={"own caption": ["p"], "shared caption": ["p", "q"], "p": [""]}).groups
    assert known[4] == known[0] and known[5] == known[6] and len(set(known.tolist())) == 5
