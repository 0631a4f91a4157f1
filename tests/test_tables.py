"""Tables on disk: exact round trips, difficult text, joining, and refusals."""

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.tables import PredictionTable, RetrievalTable, read_table

# What a caption may hold that a CSV could trip over; the last has a lone carriage return.
CAPTIONS = ('一只猫，坐在"垫子"上, 睡觉', "第一行\n第二行\r\n第三行", "", " spaces ", "1.5", "nan", "a\rb")


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


def ranks(images=("甲/1.png", "b,2.png"), captions=CAPTIONS, fold="fold_1", seed=0) -> RetrievalTable:
    generator = np.random.default_rng(seed)
    size = len(images) + len(captions)
    return RetrievalTable.from_columns(
        direction=["image_to_text"] * len(images) + ["text_to_image"] * len(captions),
        query=[*images, *captions],
        group=[f"P{i}" for i in range(len(images))] + [""] * len(captions),
        fold=[fold] * size,
        gallery=[len(captions)] * len(images) + [len(images)] * len(captions),
        ahead=generator.integers(0, 9, size),
        tied=generator.integers(0, 9, size),
        positives=generator.integers(1, 4, size),
        positive_similarity=generator.uniform(-1, 1, size),
        negative_similarity=[np.nan, *generator.uniform(-1, 1, size - 1)],
        best_match=[CAPTIONS[0]] * len(images) + ["甲/1.png"] * len(captions),
    )


def assert_equal(a: RetrievalTable, b: RetrievalTable):
    for name in RetrievalTable.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype, name
        np.testing.assert_array_equal(x, y, err_msg=name)  # NaN equals NaN here


def test_ranks_round_trip_every_bit_and_every_character(tmp_path):
    written = ranks()
    written.write(tmp_path / "r.csv")
    assert_equal(RetrievalTable.read(tmp_path / "r.csv"), written)
    header, first = (tmp_path / "r.csv").read_bytes().decode().split("\n")[:2]
    assert header == "direction,query,group,fold,gallery,ahead,tied,positives,positive_similarity,negative_similarity,best_match"
    assert first.startswith('"image_to_text","甲/1.png","P0","fold_1",7,')
    assert written.case_ids == ("甲/1.png", "b,2.png") and len(written) == 9


def test_an_empty_table_round_trips(tmp_path):
    empty = ranks().take(slice(0, 0))
    empty.write(tmp_path / "r.csv")
    assert_equal(RetrievalTable.read(tmp_path / "r.csv"), empty)


def test_ranks_of_folds_are_joined_and_sorted():
    one, two = ranks(("b", "d"), ("y", "x"), "fold_1"), ranks(("c", "a"), ("x", "z"), "fold_2", seed=1)
    joined = RetrievalTable.join([two, one])
    assert joined.case_ids == ("a", "b", "c", "d")
    assert list(joined.query[4:]) == ["x", "x", "y", "z"], "a caption that two folds hold is searched for in each"
    assert list(joined.fold) == ["fold_2", "fold_1", "fold_2", "fold_1", "fold_1", "fold_2", "fold_1", "fold_2"]
    place = list(joined.query).index("d")
    assert (joined.ahead[place], joined.positive_similarity[place]) == (one.ahead[1], one.positive_similarity[1])
    assert_equal(RetrievalTable.join([one, two]), joined)


def test_an_image_is_not_searched_for_twice():
    with pytest.raises(DataError, match="retrieval ranks: 'b' is a query in two folds"):
        RetrievalTable.join([ranks(("a", "b"), ()), ranks(("b",), (), "fold_2")])


def test_the_header_says_which_table_it_is(tmp_path):
    ranks().write(tmp_path / "r.csv")
    table().write(tmp_path / "p.csv")
    assert_equal(read_table(tmp_path / "r.csv"), ranks())
    assert read_table(tmp_path / "p.csv").case_ids == table().case_ids
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "p.csv").read_bytes())  # as Excel saves it
    assert read_table(tmp_path / "p.csv").case_ids == table().case_ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither predictions (case_id, group, fold, label, prediction, p_<class>…) nor retrieval ranks (direction, query, group, "),
        (b"filepath,title\na.png,x\n", "its columns are filepath, title"),
        (b"direction,query\n", "its columns are direction, query"),
        (b"\xff\xfe\x00", "not a table of predictions or retrieval ranks ("),
    ],
)
def test_what_is_neither_table_is_refused(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.csv")
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}: ") and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("text_to_image", "text2image", "row 3 has the direction 'text2image'"),
        (",7,", ",seven,", "seven"),
        (",7,", ",99999999999999999999,", ""),
        (",7,7,7,", ",7,-7,7,", "row 1 has a count that is too small"),
        (',"fold_1",', ",", "row 1 has 10 columns instead of 11"),
        ("query", "case", "its columns are direction, case"),
        ("positive_similarity,negative_similarity", "positive_similarity", "its columns are direction"),
    ],
)
def test_damaged_ranks_are_refused(tmp_path, old, new, message):
    ranks().write(tmp_path / "r.csv")
    text = (tmp_path / "r.csv").read_text(encoding="utf-8").replace(old, new)
    (tmp_path / "r.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="r.csv: not a table of retrieval ranks .*" + message):
        RetrievalTable.read(tmp_path / "r.csv")


@pytest.mark.parametrize("read", [PredictionTable.read, RetrievalTable.read, read_table])
def test_what_is_not_there_is_named(tmp_path, read):
    with pytest.raises(DataError, match="missing.csv: no such file"):
        read(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)
