"""Tables on disk: exact round trips, difficult text, joining, and refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipzoo.errors import DataError
from clipzoo.records.tables import PredictionTable, RetrievalTable, read_table

NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\"',=+-@\t\x00\x1b＝"), max_size=8)

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


def assert_same(a: PredictionTable, b: PredictionTable):
    assert (a.classes, a.case_ids, a.groups, a.folds) == (b.classes, b.case_ids, b.groups, b.folds)
    assert a.labels.tolist() == b.labels.tolist()
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


@st.composite
def prediction_tables(draw) -> PredictionTable:
    """Any names; labels that are unknown and rows that are NaN among them."""
    classes = draw(st.lists(NAMES.filter(bool), min_size=1, max_size=3, unique=True))
    case_ids = draw(st.lists(NAMES, max_size=4, unique=True))
    size = len(case_ids)
    raw = np.random.default_rng(draw(st.integers(0, 99))).random((size, len(classes))).astype(np.float32)
    raw[draw(st.lists(st.booleans(), min_size=size, max_size=size))] = np.nan
    groups, folds = (tuple(draw(st.lists(NAMES, min_size=size, max_size=size))) for _ in range(2))
    labels = draw(st.lists(st.integers(-1, len(classes) - 1), min_size=size, max_size=size))
    with np.errstate(invalid="ignore"):
        probabilities = raw / raw.sum(axis=1, keepdims=True)
    return PredictionTable(tuple(classes), tuple(case_ids), groups, folds, np.array(labels, dtype=np.int64), probabilities)


def check_predictions(path, written):
    written.write(path)
    assert_same(PredictionTable.read(path), written)
    assert_same(read_table(path), written)


@given(prediction_tables())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_predictions_of_any_names_come_back(tmp_path_factory, written):
    check_predictions(tmp_path_factory.getbasetemp() / "any.csv", written)


@pytest.mark.slow
@given(prediction_tables())
@settings(max_examples=2000, deadline=None, derandomize=True)
def test_predictions_of_many_names_come_back(tmp_path_factory, written):
    check_predictions(tmp_path_factory.getbasetemp() / "any.csv", written)


@given(st.lists(NAMES, min_size=1, max_size=3, unique=True), st.lists(NAMES, max_size=4, unique=True), NAMES)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_ranks_of_any_names_come_back(tmp_path_factory, images, captions, fold):
    path, written = tmp_path_factory.getbasetemp() / "any.csv", ranks(images, captions, fold)
    written.write(path)
    assert_equal(read_table(path), written)


@pytest.mark.parametrize("classes", [(), ("a", ""), ("a", "b", "a")])
def test_classes_without_a_name_of_their_own_are_refused(classes, tmp_path):
    with pytest.raises(DataError, match="predictions: class names must be distinct and not empty"):
        PredictionTable(classes, (), (), (), np.zeros(0, np.int64), np.zeros((0, len(classes)), np.float32))
    (tmp_path / "p.csv").write_text(",".join(["case_id,group,fold,label,prediction", *(f"p_{name}" for name in classes)]) + "\n")
    with pytest.raises(DataError, match=r"p.csv:1: not a table of predictions \(class names must"):
        PredictionTable.read(tmp_path / "p.csv")


HEADER = "case_id,group,fold,label,prediction,p_x,p_y\n"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "its columns are none"),
        ("a,b\n1,2\n", 1, "its columns are a, b"),
        (HEADER.replace("p_y", "y"), 1, "its columns are case_id"),
        (HEADER + "1,2,3,z,x,.5,.5\n", 2, "'z' or 'x' is not one of the classes"),
        (HEADER + "1,2,3,,,.5,.5\n", 2, "'' or '' is not one of the classes"),
        (HEADER + '"1\n1",2,3,x,x,.6,.4\n2,2,3,x,x,.6\n', 4, "the row has 6 columns instead of 7"),
        (HEADER + "1,2,3,x,x,.6,.4\n\n2,2,3,x,x,.6,.4,0\n", 4, "the row has 8 columns instead of 7"),
        (HEADER + "1,2,3,x,x,.6,.4\n1,2,3,x,x,.6,.4\n", 3, "'1' is also on line 2"),
        (HEADER + "1,2,3,x,x,.6,o4\n", 2, "could not convert string to float: 'o4'"),
        (HEADER + "1,2,3,x,x,.9,.4\n", 2, "between 0 and 1 and sum to 1"),
        (HEADER + "1,2,3,x,x,1.4,-.4\n", 2, "between 0 and 1 and sum to 1"),
        (HEADER + "1,2,3,x,x,nan,1\n", 2, "between 0 and 1 and sum to 1"),
        (HEADER + "1,2,3,x,x,inf,-inf\n", 2, "between 0 and 1 and sum to 1"),
        (HEADER + "1,2,3,x,x,.6,.4\n2,2,3,x,x,.4,.6\n", 3, "the prediction is not the class with the largest probability"),
    ],
)
def test_what_is_no_table_of_predictions_is_refused_with_its_line(tmp_path, text, line, what):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        PredictionTable.read(tmp_path / "p.csv")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'p.csv'}:{line}: not a table of predictions (") and what in message


def test_numbers_in_predictions_may_be_written_by_hand(tmp_path):
    (tmp_path / "p.csv").write_text("\ufeff" + HEADER.replace("\n", "\r\n") + "1,2,3,,x,0.5003,0.4992\r\n", encoding="utf-8", newline="")
    assert PredictionTable.read(tmp_path / "p.csv").labels.tolist() == [-1]


def ranks(images=("甲/1.png", "b,2.png"), captions=CAPTIONS, fold="fold_1", seed=0) -> RetrievalTable:
    generator = np.random.default_rng(seed)
    size = len(images) + len(captions)
    return RetrievalTable.from_columns(
        direction=["image_to_text"] * len(images) + ["text_to_image"] * len(captions),
        query=[*images, *captions],
        group=[f"P{i}" for i in range(len(images))] + [""] * len(captions),
        fold=[fold] * size,
        gallery=[20] * len(images) + [30] * len(captions),
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
    assert first.startswith('"image_to_text","甲/1.png","P0","fold_1",20,')
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
        (b"\xff\xfe\x00", ":1: not UTF-8 text"),
    ],
)
def test_what_is_neither_table_is_refused(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.csv")
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}:") and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("text_to_image", "text2image", "4: .*the direction is 'text2image'"),
        (",20,", ",twenty,", "2: .*twenty"),
        (",20,", ",99999999999999999999,", "2: "),
        (",20,7,", ",20,-7,", "2: .*a count is too small"),
        (",20,7,", ",20,17,", "2: .*the counts exceed the size of the gallery"),
        (",nan,", ",1.1,", "2: .*a similarity is not between -1 and 1"),
        ("b,2.png", "甲/1.png", "3: .*'甲/1.png' is also on line 2"),
        (',"fold_1",', ",", "2: .*the row has 10 columns instead of 11"),
        ("query", "case", "1: .*its columns are direction, case"),
        ("positive_similarity,negative_similarity", "positive_similarity", "1: .*its columns are direction"),
    ],
)
def test_damaged_ranks_are_refused_with_their_line(tmp_path, old, new, message):
    ranks().write(tmp_path / "r.csv")
    text = (tmp_path / "r.csv").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "r.csv").write_text(text.replace(old, new), encoding="utf-8")
    where, _, what = message.partition(" ")
    with pytest.raises(DataError, match=f"r.csv:{where} not a table of retrieval ranks .*{what.removeprefix('.*')}"):
        RetrievalTable.read(tmp_path / "r.csv")


@pytest.mark.parametrize("read", [PredictionTable.read, RetrievalTable.read, read_table])
def test_what_is_not_there_is_named(tmp_path, read):
    with pytest.raises(DataError, match="missing.csv: no such file"):
        read(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="a folder, not a regular file"):
        read(tmp_path)
