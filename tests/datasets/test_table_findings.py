"""Tables with several labels per image: what the cells mean, the captions of a case, and one line for whatever is wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipzoo.config import Config
from clipzoo.datasets.batches.epochs import Draw, EpochBatches
from clipzoo.datasets.batches.loader import Collate
from clipzoo.datasets.batches.samplers import RandomSampler, WeightedSampler
from clipzoo.engine.checks.decisions import check_decisions
from clipzoo.errors import ConfigError, DataError
from clipzoo.registries import DATASETS
from clipzoo.structures import Tokens

FINDINGS = ["积液", "骨折", "结节"]
COLUMNS = ["路径,患者编号,骨折,结节,积液,备注", "a0,p1,1,0,,x", "a1,p1,是,否,+,", "a2,p2,0,-,0,", "a3,p3,,,,", "a4,p4,No,YES,－,"]
LISTED = ["路径,标签,患者编号", "a0,骨折;积液,p1", "a1,正常,p1", "a2,,p2", "a3,积液； 骨折 ;积液,p3", "a4,结节,p4"]


@pytest.fixture
def place(tmp_path):
    for i in range(5):
        Image.fromarray(np.full((4, 6), 10 + 40 * i, np.uint8)).save(tmp_path / f"a{i}.png")
    return tmp_path


def make(place, rows, **arguments):
    (place / "标注.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return DATASETS.build({"type": "TableDataset", "path": str(place / "标注.csv"), **arguments})


def test_columns_of_findings(place):
    data = make(place, COLUMNS, findings=FINDINGS, template="有{class_name}")
    assert data.classes == tuple(FINDINGS) and data.task == "findings"
    expected = [[-1, 1, 0], [1, 1, 0], [0, 0, 0], [-1, -1, -1], [0, 0, 1]]
    np.testing.assert_array_equal(data.findings, expected)
    assert data.findings.dtype == np.int8 and all(case.label is None for case in data.cases)
    assert [case.findings for case in data.cases] == [tuple(row) for row in expected]
    assert data.labelled.tolist() == [True, True, True, False, True]
    assert data.cases[0].group == data.cases[1].group and len({case.group for case in data.cases}) == 4
    np.testing.assert_array_equal(data.label_counts(np.arange(5)), [[2, 2, 3], [1, 2, 1]])
    sentences = [[data.captions.sentences[i] for i in data.captions_of(row)] for row in range(5)]
    assert sentences == [["有骨折"], ["有积液", "有骨折"], [], [], ["有结节"]]
    lines = data.describe()
    assert "5 cases, 3 findings, 4 groups" in lines[1] and "2 cases   40.0 %" in lines[3] and lines[2].endswith("2 unknown")
    assert lines[-1] == "note: 1 of 5 cases have no known finding, so they are neither learned nor scored: a3.png"


def test_findings_in_one_cell(place):
    data = make(place, LISTED, separator=";", no_finding="正常")
    assert data.classes == ("积液", "结节", "骨折")
    np.testing.assert_array_equal(data.findings, [[1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0]])
    named = make(place, LISTED, separator=";", no_finding="正常", classes=["骨折", "积液", "结节", "肿块"])
    assert named.classes == ("骨折", "积液", "结节", "肿块") and (named.findings[:, 3] == 0).all()
    np.testing.assert_array_equal(named.findings[:, :2], data.findings[:, [2, 0]])
    without = make(place, LISTED, separator=";")
    assert "正常" in without.classes  # a label like any other, unless no_finding says otherwise


BAD_COLUMNS = [
    (("a4,p4,No,YES,－,", "a4,p4,2,1,1,"), {}, DataError, r"标注\.csv:6: '2' in column '骨折' is neither 1 nor 0\. Write 1 or 0"),
    (("a4,p4,No,YES,－,", "a4,p4,-1,1,1,"), {}, DataError, r":6: '-1' in column '骨折' is neither"),
    (
        ("a4,p4,No,YES,－,", "a0,p4,No,YES,－,"),
        {},
        DataError,
        r":6: 'a0' has the label '积液 0, 骨折 0, 结节 1' here, but '积液 \?, 骨折 1, 结节 0' in",
    ),
    (
        (),
        {"findings": ["积液", "骨折"], "separator": ";"},
        ConfigError,
        r"findings \(a column for each\) and separator are mutually exclusive",
    ),
    ((), {"label_key": "备注"}, ConfigError, r"findings \(a column for each\) and label_key are mutually exclusive"),
    (
        (),
        {"findings": ["积液", "患者编码"]},
        DataError,
        r"no column '患者编码' \(data\.dataset\.findings\)\. Did you mean '患者编号'\?",
    ),
    ((), {"findings": ["积液", "积液"]}, ConfigError, r"data\.dataset\.findings: '积液' is repeated"),
    ((), {"findings": ["积液"]}, ConfigError, r"findings: 1 findings named, but at least 2 are required\. For a single one, use label_key"),
    ((), {"findings": None, "no_finding": "正常"}, ConfigError, r"no_finding: has an effect with separator only"),
    ((), {"findings": ["积液", "备注"]}, DataError, r":2: 'x' in column '备注' is neither 1 nor 0"),
]


@pytest.mark.parametrize(("change", "arguments", "error", "message"), BAD_COLUMNS)
def test_bad_columns_are_one_line(place, change, arguments, error, message):
    rows = [change[1] if change and row == change[0] else row for row in COLUMNS]
    with pytest.raises(error, match=message) as caught:
        make(place, rows, **{"findings": FINDINGS, **arguments})
    assert "\n" not in str(caught.value)


def test_a_finding_of_which_nothing_is_known_is_refused_for_training(place):
    rows = [",".join([*row.split(",")[:2], "骨折" if i == 0 else "", *row.split(",")[3:]]) for i, row in enumerate(COLUMNS)]
    data = make(place, rows, findings=FINDINGS)  # as an external table, it may be scored
    with pytest.raises(ConfigError, match=r"^data\.dataset\.findings: nothing is known of 骨折 in any case\. Remove it from findings"):
        check_decisions(Config.from_dict({"model": {}, "data": {}, "splits": "StratifiedGroupKFold"}, "c"), data, [])


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (("a1,正常,p1", "a1,正常;积液,p1"), {}, r":3: '正常;积液' names '正常' \(no_finding\) and other findings\. Keep one"),
        ((), {"classes": ["积液", "骨折"]}, r":6: unknown finding '结节'\. Findings: 积液, 骨折"),
        (("a4,结节,p4", "a4,nodul,p4"), {"classes": ["nodule", "积液", "骨折"]}, r":6: unknown finding 'nodul'\. Did you mean 'nodule'\?"),
        ((), {"separator": "|"}, r":2: unknown finding '骨折;积液'"),
    ],
)
def test_bad_lists_are_one_line(place, change, arguments, message):
    rows = [change[1] if change and row == change[0] else row for row in LISTED]
    with pytest.raises(DataError, match=message) as caught:
        make(place, rows, **{"separator": ";", "no_finding": "正常", "classes": FINDINGS, **arguments})
    assert "\n" not in str(caught.value)


def test_one_label_per_image_needs_no_separator(place):
    with pytest.raises(DataError, match=r"with separator ';' the labels name 1 findings \(x\), but at least 2 are required"):
        make(place, ["path,label", *(f"a{i},x" for i in range(5))], separator=";")


def test_whoever_needs_one_class_per_case_is_refused_by_the_dataset(place):
    data = make(place, COLUMNS, findings=FINDINGS)
    with pytest.raises(DataError, match=r"TableDataset has findings \(several labels per image\), but this needs one class per image"):
        data.labels  # noqa: B018
    with pytest.raises(ConfigError, match=r"has findings \(several labels per image\)\. Baselines require one class per image"):
        data.require_classes("Baselines require")
    assert data.labels_if_any.tolist() == [-1] * 5
    with pytest.raises(DataError, match="WeightedSampler: the dataset has cases without a class"):
        WeightedSampler().order(data.labels_if_any, 0, 0)
    single = make(place, [row.replace("骨折;积液", "骨折") for row in LISTED if row != "a2,,p2"])
    single.require_classes("Baselines require")
    assert single.findings is None and single.task == "classification" and (single.labels >= 0).all()


def test_a_batch_carries_findings_and_a_case_without_any_draws_no_caption(place):
    import torch

    data = make(place, COLUMNS, findings=FINDINGS)
    batches = EpochBatches(data, np.arange(5), RandomSampler(), batch_size=5, seed=0)
    (draws,) = list(batches)
    assert {draw.row: draw.caption for draw in draws}[2] == -1 and {draw.row: draw.caption for draw in draws}[4] == 2
    tokens = Tokens(torch.ones(3, 2, dtype=torch.long), torch.full((3,), 2))
    samples = [(draw.row, torch.zeros(3, 2, 2), draw.caption) for draw in draws]
    batch = Collate(data, tokens, all_captions=True)(samples)
    rows = [draw.row for draw in draws]
    np.testing.assert_array_equal(batch.findings, data.findings[rows])
    assert batch.findings.dtype == torch.float32 and (batch.labels == -1).all() and len(batch.caption_ids) == 3
    np.testing.assert_array_equal(batch.positives(), data.findings[rows] == 1)
    nothing = Collate(data, tokens, all_captions=True)([(2, torch.zeros(3, 2, 2), -1)])
    assert not nothing.positives().any()
    assert Collate(data, None)([(Draw(1, 0).row, torch.zeros(3, 2, 2), -1)]).findings.tolist() == [[1, 1, 0]]
    assert batch.to("cpu").findings is not None


def test_the_separator_and_its_other_width_are_the_same(place):
    """Also where the config has the wide one and the cells the narrow one."""
    for separator in (";", "；"):
        assert make(place, LISTED, separator=separator, no_finding="正常").classes == ("积液", "结节", "骨折")


def test_an_image_without_findings_has_no_caption_in_a_batch(place):
    """Its -1 is not a row of the caption table."""
    data = make(place, LISTED, separator=";", no_finding="正常")
    tokens = Tokens(torch.arange(12).reshape(3, 4), torch.full((3,), 4))
    images = torch.zeros(3, 1)
    rows = [next(i for i, case in enumerate(data.cases) if case.id == name) for name in ("a1.png", "a4.png", "a2.png")]
    drawn = [-1, data.captions_of(rows[1])[0], -1]
    batch = Collate(data, tokens)(list(zip(rows, images, drawn, strict=True)))
    assert batch.caption_ids.tolist() == [drawn[1]] and batch.caption.tolist() == [-1, 0, -1]
    assert batch.positives().tolist() == [[False], [True], [False]]
