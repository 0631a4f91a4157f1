import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets import ImageFolderDataset
from clipzoo.errors import ConfigError, DataError, LeakError
from clipzoo.registries import DATASETS, SPLITTERS


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    """Two classes; every image has a content of its own."""
    for i, name in enumerate(["猫/a.png", "猫/b.PNG", "猫/深/下/c.jpeg", "狗/a.png", "狗/d.bmp"]):
        write(tmp_path / "data" / name, 10 + 40 * i)
    return tmp_path / "data"


def make(root, **arguments):
    return ImageFolderDataset(str(root), **arguments)


def test_cases_classes_and_images(root):
    dataset = DATASETS.build({"type": "ImageFolderDataset", "root": str(root)})
    assert dataset.classes == ("狗", "猫")
    assert [c.id for c in dataset.cases] == ["狗/a.png", "狗/d.bmp", "猫/a.png", "猫/b.PNG", "猫/深/下/c.jpeg"]
    assert [c.label for c in dataset.cases] == dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert all(c.group == c.id for c in dataset.cases)
    assert len(dataset) == 5 and dataset.rows["猫/b.PNG"] == 3 and dataset.path_of(3).name == "b.PNG"
    for row, value in enumerate([130, 170, 10, 50, 90]):
        image = dataset.read_image(row)
        assert image.mode == "RGB" and image.size == (6, 4) and abs(image.getpixel((0, 0))[0] - value) <= 2


def test_captions_come_from_the_template(root):
    dataset = make(root, template="一幅{class_name}的X光片")
    assert dataset.captions.sentences == ["一幅狗的X光片", "一幅猫的X光片"]
    assert dataset.class_captions() == [[0], [1]] and dataset.captions_of(0) == [0] and dataset.captions_of(4) == [1]


def test_captions_come_from_the_file(root, tmp_path):
    (tmp_path / "texts.json").write_text('{"猫": ["它会喵喵叫", "有胡须", "它会喵喵叫 "], "狗": "它会汪汪叫"}', encoding="utf-8-sig")
    dataset = make(root, class_texts=str(tmp_path / "texts.json"))
    assert dataset.captions.sentences == ["它会汪汪叫", "它会喵喵叫", "有胡须"] and dataset.captions.labels == [0, 1, 1]
    assert dataset.class_captions() == [[0], [1, 2]] and dataset.captions_of(3) == [1, 2]


def test_describe_counts_every_class(root):
    (root / "猫" / "notes.txt").write_text("x")
    (root / "猫" / "Thumbs.db").write_text("x")
    lines = make(root, group_pattern="^.").describe()
    assert "5 cases, 2 classes, 4 groups, 2 distinct captions" in lines[1]
    assert "狗" in lines[2] and " 2 cases" in lines[2] and " 40.0 %" in lines[2] and " 2 groups" in lines[2]
    assert " 3 cases" in lines[3] and "3 groups" in lines[3]
    assert "1 .txt" in lines[4] and "1 .db" in lines[4]


def test_hidden_files_and_foreign_folders_are_ignored(root):
    (root / "猫" / "._a.png").write_bytes(b"")
    (root / ".cache" / "x").mkdir(parents=True)
    (root / "__MACOSX" / "猫").mkdir(parents=True)
    (root / "README.txt").write_text("x")
    assert len(make(root)) == 5


def test_names_are_nfc_and_paths_stay_real(tmp_path):
    nfd = unicodedata.normalize("NFD", "é")
    write(tmp_path / nfd / f"{nfd}.png", 10)
    write(tmp_path / "b" / "x.png", 20)
    (tmp_path / "texts.json").write_text('{"' + nfd + '": "eins", "b": "zwei"}', encoding="utf-8")
    (tmp_path / "groups.csv").write_text(f"path,group\n{nfd}/{nfd}.png,p1\nb\\x.png,p2\n", encoding="utf-8")
    dataset = make(tmp_path, class_texts=str(tmp_path / "texts.json"), groups=str(tmp_path / "groups.csv"))
    assert dataset.classes == ("b", "é") and dataset.cases[1].id == "é/é.png" and dataset.cases[1].group == "p1"
    assert dataset.read_image(1).getpixel((0, 0)) == (10, 10, 10)
    write(tmp_path / "é" / "y.png", 30)
    with pytest.raises(DataError, match="differ: .*U.0301 COMBINING ACUTE ACCENT.*both are read as 'é'. Rename one"):
        make(tmp_path)


def test_two_files_of_one_name_in_two_spellings(tmp_path):
    write(tmp_path / "a" / "é.png", 10)
    write(tmp_path / "a" / (unicodedata.normalize("NFD", "é") + ".png"), 20)
    with pytest.raises(DataError, match="differ: .*U.0301 COMBINING ACUTE ACCENT.*both are read as 'a/é.png'. Rename one"):
        make(tmp_path)


def test_order_does_not_depend_on_the_file_system(root, monkeypatch):
    first = make(root).cases
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = sorted(scandir(path), key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert make(root).cases == first


def test_symbolic_links(root, tmp_path):
    write(tmp_path / "elsewhere" / "e.png", 222)
    (root / "兔").symlink_to(tmp_path / "elsewhere")
    assert "兔/e.png" in make(root).rows
    (root / "猫" / "loop").symlink_to(root)
    with pytest.raises(DataError, match="one of its own parent folders"):
        make(root)


# ---- groups ----


def test_groups_from_a_table(root, tmp_path):
    rows = ["狗/a.png,甲,x", "狗/d.bmp,乙,x", "猫/a.png,甲,x", "猫/b.PNG,丙,x", "猫/深/下/c.jpeg,丙,x"]
    (tmp_path / "g.csv").write_text("\n".join(["path,group,note", *rows]), encoding="utf-8-sig")
    assert [c.group for c in make(root, groups=str(tmp_path / "g.csv")).cases] == ["甲", "乙", "甲", "丙", "丙"]


def test_tables_in_gbk_are_read_with_a_note(root, tmp_path):
    ids = [case.id for case in make(root).cases]
    (tmp_path / "g.csv").write_text("\n".join(["path,group", *(f"{i},患者{n // 2}" for n, i in enumerate(ids))]), encoding="gbk")
    (tmp_path / "a.csv").write_text(f"path,性别\n{ids[0]},女\n", encoding="gbk")
    data = make(root, groups=str(tmp_path / "g.csv"), attributes=str(tmp_path / "a.csv"))
    assert data.cases[0].group == "患者0" and data.attributes == {"性别": {ids[0]: "女"}}
    assert [note for note in data.notes if "GB18030" in note] == [
        f"{tmp_path / name} is not UTF-8 and was read as GB18030 (GBK)" for name in ("g.csv", "a.csv")
    ]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda rows: rows[:-1], "1 images have no row, the first one is '猫/深/下/c.jpeg'"),
        (lambda rows: [*rows, "猫/bb.PNG,x"], r"g\.csv:7: no image '猫/bb.PNG' .*Did you mean '猫/b.PNG'"),
        (lambda rows: ["file,patient", *rows[1:]], "the columns path,group are required; found: file, patient"),
        (lambda rows: [*rows, "狗/a.png,other"], "in both group 'g' and group 'other'"),
        (lambda rows: [*rows[:-1], "猫/深/下/c.jpeg, "], "empty group"),
        (lambda rows: [], "found: nothing"),
    ],
)
def test_bad_tables(root, tmp_path, change, words):
    rows = ["path,group", *(f"{c.id},g" for c in make(root).cases)]
    (tmp_path / "g.csv").write_text("\n".join(change(rows)), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        make(root, groups=str(tmp_path / "g.csv"))


def test_groups_from_the_file_name(root):
    assert [c.group for c in make(root, group_pattern=r"^(\w)\.").cases] == ["a", "d", "a", "b", "c"]
    with pytest.raises(DataError, match="matches no group in the name of '狗/d.bmp'"):
        make(root, group_pattern="a")
    with pytest.raises(ConfigError, match="not a regular expression"):
        make(root, group_pattern="(")
    with pytest.raises(ConfigError, match="are mutually exclusive"):
        make(root, group_pattern="a", groups="g.csv")
    with pytest.raises(DataError, match="no such file"):
        make(root, groups="none.csv")


def test_identical_images_are_one_group(root):
    write(root / "猫" / "z.png", 10)  # a copy of 猫/a.png
    dataset = make(root)
    assert dataset.cases[dataset.rows["猫/z.png"]].group == dataset.cases[dataset.rows["猫/a.png"]].group == "猫/a.png"
    assert len({c.group for c in dataset.cases}) == 5
    assert any("1 sets of byte-identical images" in line for line in dataset.describe())


def test_identical_images_join_the_groups_of_two_patients(root):
    write(root / "猫" / "z.png", 10)
    write(root / "狗" / "z2.png", 77)
    dataset = make(root, group_pattern="^([a-z])")
    groups = {c.id: c.group for c in dataset.cases}
    assert {groups[i] for i in ("猫/a.png", "狗/a.png", "猫/z.png", "狗/z2.png")} == {"a"}
    assert groups["猫/b.PNG"] == "b"


def test_identical_image_in_two_classes(root):
    write(root / "狗" / "z.png", 10)
    with pytest.raises(DataError, match=r"the same image is in class '狗' as .*allow_label_conflicts=True"):
        make(root)
    dataset = make(root, allow_label_conflicts=True)
    assert dataset.cases[dataset.rows["狗/z.png"]].group == dataset.cases[dataset.rows["猫/a.png"]].group


# ---- an external set ----


def test_classes_fix_the_labels(root, tmp_path):
    dataset = make(root, classes=["猫", "兔", "狗"])
    assert dataset.classes == ("猫", "兔", "狗") and dataset.labels.tolist() == [2, 2, 0, 0, 0]
    assert len(dataset.class_captions()) == 3
    with pytest.raises(DataError, match="unknown class"):
        make(root, classes=["猫", "兔"])
    with pytest.raises(ConfigError, match="'猫' is repeated. List every class once"):
        make(root, classes=["猫", "狗", "猫"])


# ---- what can be wrong ----


def test_missing_folder_shows_the_tree_and_the_command(tmp_path):
    with pytest.raises(
        DataError, match=r"no such folder.*one folder per class[\s\S]*class A/[\s\S]*clipzoo make_sample_data digits --out data/digits "
    ):
        make(tmp_path / "none")
    with pytest.raises(DataError, match="no class folder"):
        make(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        make(tmp_path / "file")


def test_root_one_level_too_high(root, tmp_path):
    with pytest.raises(DataError, match="Did you mean root='.*data'"):
        make(tmp_path)


def test_empty_class_folder(root):
    (root / "空").mkdir()
    with pytest.raises(DataError, match="空: no images in the class folder, it is empty"):
        make(root)
    (root / "空" / "x.mhd").write_text("x")
    with pytest.raises(DataError, match=r"it contains 1 \.mhd files.*Supported: png jpg"):
        make(root)


def test_loose_images(root):
    write(root / "loose.png", 1)
    with pytest.raises(DataError, match=r"1 images lie next to the class folders \(loose\.png\)"):
        make(root)


def test_zero_bytes_and_foreign_content(root):
    (root / "猫" / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.jpg: the file is empty"):
        make(root)
    (root / "猫" / "empty.jpg").write_text("I am text")
    (root / "猫" / "other.jpg").write_text("so am I")
    with pytest.raises(DataError, match=r"empty\.jpg: not an image.*\(and 1 more such files\)"):
        make(root)


def test_corrupt_content_shows_when_it_is_read(root):
    path = root / "猫" / "cut.png"
    write(path, 200)
    path.write_bytes(path.read_bytes()[:40])
    dataset = make(root)
    with pytest.raises(DataError, match=r"cut\.png: "):
        dataset.read_image(dataset.rows["猫/cut.png"])


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"猫": "x", "狗": ', "not valid JSON"),
        ('["猫"]', "must be a JSON object .* not a list"),
        ('{"猫": "x"}', "no description for class '狗'"),
        ('{"猫": "x", "狗": "y", "兔": "z"}', "describes '兔', but there is no such class folder"),
        ('{"猫": "x", "狗 子": "y"}', "describes '狗 子'.*Classes without a description: 狗"),
        ('{"猫": "x", "狗": ""}', "class '狗': empty description"),
        ('{"猫": "x", "狗": []}', "class '狗': empty description"),
        ('{"猫": "x", "狗": 3}', "class '狗': must be a sentence or a list of sentences, not a number"),
        ('{"猫": "x", "狗": ["y", null]}', "must be a sentence or a list"),
        ('{"猫": "x", "狗": " x"}', "'x' describes two classes"),
        ('{"猫": "x", "狗": "y", "狗 ": "z"}', "described twice"),
    ],
)
def test_bad_descriptions(root, tmp_path, content, words):
    (tmp_path / "texts.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        make(root, class_texts=str(tmp_path / "texts.json"))


def test_did_you_mean_a_class(tmp_path):
    write(tmp_path / "data" / "cemented" / "a.png", 1)
    write(tmp_path / "data" / "uncemented stem" / "a.png", 2)
    (tmp_path / "texts.json").write_text('{"cementd": "x", "uncemented stem": "y"}')
    with pytest.raises(DataError, match="Did you mean 'cemented'"):
        make(tmp_path / "data", class_texts=str(tmp_path / "texts.json"))


@pytest.mark.parametrize(
    "template", ["no field", "{name}", "{class_name} {}", "{class_name", "{class_name} {0}", "{class_name:>999999999}", "{class_name!r}"]
)
def test_bad_templates(root, template):
    with pytest.raises(ConfigError, match=r"data\.dataset\.template.*class_name"):
        make(root, template=template)


@pytest.fixture
def parts(tmp_path):
    """Class folders for three parts; the test part lacks a class."""
    for i, name in enumerate(["a/猫/1.png", "a/猫/2.png", "a/狗/1.png", "a/狗/2.png", "b/猫/1.png", "b/狗/9.png", "c/狗/1.png"]):
        write(tmp_path / name, 10 + 30 * i)
    return {"root": str(tmp_path / "a"), "val_root": str(tmp_path / "b"), "test_root": str(tmp_path / "c")}


def test_parts_from_folders_of_their_own(parts):
    dataset = ImageFolderDataset(**parts)
    assert [c.id for c in dataset.cases] == [
        "test/狗/1.png", "train/狗/1.png", "train/狗/2.png", "train/猫/1.png", "train/猫/2.png", "val/狗/9.png", "val/猫/1.png",
    ]  # fmt: skip
    assert [c.part for c in dataset.cases] == ["test", *["train"] * 4, *["val"] * 2] and dataset.labels.tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert dataset.read_image(0).getpixel((0, 0)) == (190, 190, 190) and dataset.path_of(5).parts[-3:] == ("b", "狗", "9.png")
    assert dataset.notes == ("the test part has no folder for 猫",)
    assert "train 4  val 2  test 1" in dataset.describe()[1] and parts["val_root"] in dataset.describe()[0]
    (split,) = SPLITTERS.build({"type": "AsGiven"}).split(dataset.cases, dataset.classes).splits
    assert (len(split.train), len(split.val), len(split.test)) == (4, 2, 1)


def test_without_other_folders_there_are_no_parts(parts):
    dataset = ImageFolderDataset(parts["root"])
    assert {c.part for c in dataset.cases} == {None} and dataset.cases[0].id == "狗/1.png" and ";" not in dataset.describe()[1]


def test_a_class_that_the_train_part_lacks_is_an_error(parts, tmp_path):
    write(tmp_path / "b" / "猫猫" / "1.png", 250)
    with pytest.raises(DataError, match=r"b/猫猫: unknown class\. Did you mean '猫'\? Classes: 狗, 猫"):
        ImageFolderDataset(**parts)


def test_one_folder_for_two_parts_is_a_leak(parts):
    with pytest.raises(LeakError, match=r"data\.dataset\.test_root: '.*b/' is also the source of the val part"):
        ImageFolderDataset(**{**parts, "test_root": parts["val_root"] + "/"})


def test_copies_on_two_sides_are_a_leak(parts, tmp_path):
    (tmp_path / "c/狗/1.png").write_bytes((tmp_path / "a/狗/2.png").read_bytes())
    dataset = ImageFolderDataset(**parts)
    assert any("1 sets of byte-identical images" in note for note in dataset.notes)
    with pytest.raises(LeakError, match=r"in train \('train/狗/2.png'\) and in test \('test/狗/1.png'\)"):
        SPLITTERS.build({"type": "AsGiven"}).split(dataset.cases, dataset.classes)


def test_groups_of_parts_are_named_by_their_ids(parts, tmp_path):
    table = tmp_path / "groups.csv"
    ids = [case.id for case in ImageFolderDataset(**parts).cases]
    table.write_text("path,group\n" + "".join(f"{i},p{len(i)}\n" for i in ids))
    dataset = ImageFolderDataset(**parts, groups=str(table))
    assert [c.group for c in dataset.cases] == [f"p{len(i)}" for i in ids]
    table.write_text("path,group\n狗/2.png,p\n")
    with pytest.raises(DataError, match=r"no image '狗/2.png' below train/ and val/ and test/\. Did you mean 'train/狗/2.png'"):
        ImageFolderDataset(**parts, groups=str(table))
