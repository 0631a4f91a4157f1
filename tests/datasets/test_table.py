import re

import numpy as np
import openpyxl
import pytest
from PIL import Image
from tiny import tiny_config, write_class_folders

from clipzoo.datasets import TableDataset
from clipzoo.datasets.pseudonyms import SALT_FILE
from clipzoo.errors import ConfigError, DataError
from clipzoo.registries import DATASETS

HEADER = "路径,标签,患者编号,性别"
ROWS = ["图/甲_1.png,松动,P001,女", "图\\甲_2.png,松动,P001,女", "图/乙.png,正常,P002,男", "图/sub/丙.png,10级,P003,"]


@pytest.fixture
def place(tmp_path):
    """Four images in no class folders."""
    for i, name in enumerate(["甲_1", "甲_2", "乙", "sub/丙"]):
        path = tmp_path / "图" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6), 10 + 40 * i, np.uint8)).save(path)
    return tmp_path


def write(place, rows=(HEADER, *ROWS), encoding="utf-8", name="标注.csv"):
    (place / name).write_bytes("\n".join(rows).encode(encoding))
    return str(place / name)


def make(place, rows=(HEADER, *ROWS), encoding="utf-8", **arguments):
    return DATASETS.build({"type": "TableDataset", "path": write(place, rows, encoding), **arguments})


def test_cases_classes_groups_and_images(place):
    data = make(place, encoding="gbk", attributes=["性别"])
    assert data.classes == ("10级", "松动", "正常")
    assert [(case.id, case.label) for case in data.cases] == [
        ("图/sub/丙.png", 0),
        ("图/乙.png", 2),
        ("图/甲_1.png", 1),
        ("图/甲_2.png", 1),
    ]
    assert data.cases[2].group == data.cases[3].group and len({case.group for case in data.cases}) == 3
    assert data.read_image(1).getpixel((0, 0)) == (90, 90, 90)
    assert data.attributes == {"性别": {"图/甲_1.png": "女", "图/甲_2.png": "女", "图/乙.png": "男"}}
    lines = data.describe()
    assert lines[0] == f"TableDataset {place / '标注.csv'}" and "4 cases, 3 classes, 3 groups" in lines[1]
    assert [line for line in lines if line.startswith("note")] == [f"note: {place / '标注.csv'} is not UTF-8 and was read as GB18030 (GBK)"]


def test_groups_are_written_as_pseudonyms_that_stay(place):
    data = make(place)
    assert all(re.fullmatch("patient-[0-9a-f]{16}", case.group) for case in data.cases)
    assert (place / SALT_FILE).exists() and make(place).cases == data.cases
    plain = make(place, hide_groups=False)
    assert [case.group for case in plain.cases] == ["P003", "P002", "P001", "P001"]
    (place / "salt").write_text("a secret of the whole department")
    other = make(place, salt=str(place / "salt"))
    assert {case.group for case in other.cases}.isdisjoint(case.group for case in data.cases)
    with pytest.raises(DataError, match="salt: too short for the secret of pseudonyms: 3 characters"):
        (place / "salt").write_text("abc\n")
        make(place, salt=str(place / "salt"))


def test_without_groups_every_image_is_its_own_and_no_salt_is_made(place):
    data = make(place, [line.rsplit(",", 2)[0] for line in (HEADER, *ROWS)])
    assert [case.group for case in data.cases] == [case.id for case in data.cases] and not (place / SALT_FILE).exists()


def test_a_pattern_wins_over_the_usual_column_of_groups(place):
    rows = [HEADER, *(row.replace("P003", "") for row in ROWS)]
    assert [case.group for case in make(place, rows, group_pattern="^(.)").cases] == ["丙", "乙", "甲", "甲"]
    with pytest.raises(DataError, match=r"标注\.csv:5: empty group for '图/sub/丙\.png' \(column '患者编号'\)\. .*could split a patient"):
        make(place, rows)
    with pytest.raises(ConfigError, match="group_key and group_pattern are mutually exclusive"):
        make(place, group_key="患者编号", group_pattern="^(.)")


@pytest.mark.parametrize(
    "header",
    [
        "file_path,Class Name,Patient-ID,x",
        "image,diagnosis,MRN,x",
        "文件名,类别,病人,x",
        "图像,诊断,病人编号,患者姓名",
        "path,label,group,filename",
    ],
)
def test_usual_names_of_columns(place, header):
    data = make(place, [header, *ROWS])
    assert data.classes == ("10级", "松动", "正常") and len({case.group for case in data.cases}) == 3


def test_named_columns_win(place):
    rows = ["label,path,group,model", *(",".join((b, f"{a}x", c, a)) for a, b, c, _ in (row.split(",") for row in ROWS))]
    assert len(make(place, rows, image_key="model")) == 4
    swapped = make(place, ["a,b,group,label", *ROWS[:3]], image_key="a", label_key="label", group_key="b")
    assert swapped.classes == ("女", "男") and len({case.group for case in swapped.cases}) == 2


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (
            lambda rows: ["文件,结果,患者,性别", *rows[1:]],
            {},
            r":1: no column for the label: none has a usual name such as label or 标签\. Set data",
        ),
        (
            lambda rows: rows,
            {"label_key": "标签名"},
            r":1: no column '标签名' \(data\.dataset\.label_key\)\. Did you mean '标签'\? Columns: 路径",
        ),
        (lambda rows: rows, {"attributes": ["性別"]}, r":1: no column '性別' \(data\.dataset\.attributes\)\..* Columns: 路径"),
        (
            lambda rows: ["路径,标签,患者编号,类别", *rows[1:]],
            {},
            r":1: ambiguous label: column '标签' or '类别'\. Set data\.dataset\.label_key",
        ),
        (lambda rows: ["路径,标签,x,x", *rows[1:]], {"group_key": "x"}, r":1: duplicate column 'x'"),
        (lambda rows: rows, {"label_key": "路径"}, "image_key, label_key and group_key must name different columns"),
        (lambda rows: [*rows, "图/乙.png, ,P2,"], {}, r":6: empty label for '图/乙\.png' \(column '标签'\)"),
        (lambda rows: [*rows, ",正常,P2,"], {}, r":6: empty image path \(column '路径'\)"),
        (lambda rows: [*rows, "图\\乙.png,正常,P002,男"], {}, r":6: duplicate path: '图\\乙\.png' is already in row 4"),
        (lambda rows: [*rows, "./图/乙.png,松动,P002,男"], {}, r":6: '\./图/乙\.png' has the label '松动' here, but '正常' in row 4"),
        (
            lambda rows: [*rows, "图/乙乙.png,正常,P2,", "y.png,正常,P2,"],
            {},
            r":6: no image '图/乙乙\.png' \(1 more are missing: y\.png\)\. Did you",
        ),
        (
            lambda rows: [*rows, "新/a.png,正常,P2,"],
            {},
            r":6: no image '新/a\.png'\. The folder .* does not exist\. Relative paths start at",
        ),
        (lambda rows: [*rows, "https://x.org/a.png,正常,P2,"], {}, r":6: 'https://x\.org/a\.png' is a URL\. Download"),
        (
            lambda rows: rows,
            {"classes": ["10级", "松动了", "正常"]},
            r":2: unknown label '松动'\. Did you mean '松动了'\? Classes: 10级, 松动了, 正常",
        ),
        (lambda rows: rows, {"classes": ["a", "a"]}, "classes: 'a' is repeated"),
        (lambda rows: rows, {"image_root": "/nowhere"}, r"/nowhere: no such folder \(data\.dataset\.image_root\)"),
    ],
)
def test_bad_tables_are_one_line_with_the_row(place, change, arguments, words):
    with pytest.raises((DataError, ConfigError), match=words) as caught:
        make(place, change([HEADER, *ROWS]), **arguments)
    assert "\n" not in str(caught.value) and "P00" not in str(caught.value)


def test_damaged_images_and_copies(place):
    (place / "图" / "丁.png").write_bytes((place / "图" / "乙.png").read_bytes())
    with pytest.raises(DataError, match="the same image is in class '正常' as .*Remove the wrong one"):
        make(place, [HEADER, *ROWS, "图/丁.png,松动,P009,"])
    data = make(place, [HEADER, *ROWS, "图/丁.png,正常,P009,"])
    groups = {case.id: case.group for case in data.cases}
    assert groups["图/丁.png"] == groups["图/乙.png"] and "byte-identical" in data.notes[0]
    (place / "图" / "丁.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"丁\.png: not an image, whatever its name says"):
        make(place, [HEADER, *ROWS, "图/丁.png,松动,P009,"])


def test_names_without_their_endings(place):
    rows = [HEADER, *(row.replace(".png", "") for row in ROWS)]
    assert make(place, rows).cases == make(place).cases
    (place / "图" / "乙.JPG").write_bytes((place / "图" / "乙.png").read_bytes())
    with pytest.raises(DataError, match=r"标注\.csv:4: '图/乙' may be 乙\.png or 乙\.JPG\. Write the ending"):
        make(place, rows)


def test_classes_are_in_natural_order(place):
    data = make(place, [HEADER, *(row.replace("松动", "10").replace("正常", "2").replace("10级", "1") for row in ROWS)])
    assert data.classes == ("1", "2", "10")


def test_images_elsewhere(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    data = make(folder, image_root=str(place))
    assert [case.id for case in data.cases] == ["图/sub/丙.png", "图/乙.png", "图/甲_1.png", "图/甲_2.png"]
    absolute = make(folder, [HEADER, *(f"{place}/{row}" for row in ROWS)])
    assert [case.id for case in absolute.cases] == ["sub/丙.png", "乙.png", "甲_1.png", "甲_2.png"]


def test_an_external_set_keeps_the_order_of_classes(place):
    data = make(place, classes=["正常", "翻修", "松动", "10级"], template="一幅{class_name}的X光片")
    assert data.classes == ("正常", "翻修", "松动", "10级") and [case.label for case in data.cases] == [3, 0, 2, 2]
    assert data.captions.sentences[1] == "一幅翻修的X光片"


@pytest.mark.slow
def test_a_workbook_trains_with_subgroups_and_without_patient_numbers(tmp_path, quiet):
    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation

    root = write_class_folders(tmp_path / "data", per_class=8)
    book = openpyxl.Workbook()
    book.active.append(["路径", "标签", "住院患者", "性别"])
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        book.active.append([str(path.relative_to(root)).replace("/", "\\"), path.parent.name, f"ZY{i // 2:06d}", "男女"[i // 2 % 2]])
    book.save(root / "标注.xlsx")
    dataset = {"type": "TableDataset", "path": str(root / "标注.xlsx"), "group_key": "住院患者", "attributes": ["性别"]}
    sections = tiny_config(root, data={"dataset": dataset}, train={"epochs": 1}, splits={"num_folds": 2})
    summary = CrossValidation(Config.from_dict(sections, "table"), tmp_path / "work", console=quiet).train()
    assert {row["value"] for row in summary.subgroups} == {"男", "女"} and all(row["groups"] == 6 for row in summary.subgroups)
    written = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert len(written) > 10 and not [path for path in written if b"ZY0000" in path.read_bytes()]


def test_the_class_is_what_the_registry_builds(place):
    assert isinstance(make(place), TableDataset)
