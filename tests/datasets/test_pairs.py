"""Image–text pairs: every way to write them down gives the same cases, and every mistake is one clear line."""

import csv
import io
import json
import os
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets import PairsDataset
from clipzoo.datasets.files.pairs import expected_pairs
from clipzoo.datasets.samples.sample_data import create_sample_dataset
from clipzoo.datasets.splitters import FromFile, Holdout, KFold, StratifiedGroupKFold
from clipzoo.errors import ConfigError, DataError, LeakError
from clipzoo.registries import DATASETS

PAIRS = [
    ("images/a.png", "一只猫"),
    ("images/b.png", "a dog, asleep"),
    ("images/a.png", "a cat"),
    ("images/深/c.png", "一只猫"),
]


def write_image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    """Three images, each with a content of its own."""
    for i, name in enumerate(["a.png", "b.png", "深/c.png"]):
        write_image(tmp_path / "data" / "images" / name, 10 + 40 * i)
    return tmp_path / "data"


def table(rows, separator=",", names=("image_path", "caption")):
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([names, *rows])
    return text.getvalue()


def entries(pairs, names=("image_path", "caption")):
    return json.dumps([{"x": 1, **dict(zip(names, pair, strict=True))} for pair in pairs], ensure_ascii=False, indent=1)


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def make(path, **arguments):
    return PairsDataset(str(path), **arguments)


def content(dataset):
    """What a dataset says, apart from how it was written down."""
    captions = [{dataset.captions.sentences[i] for i in dataset.captions_of(row)} for row in range(len(dataset))]
    return [(case.id, case.group, captions[row]) for row, case in enumerate(dataset.cases)]


EXPECTED = [
    ("images/a.png", "images/a.png", {"一只猫", "a cat"}),
    ("images/b.png", "images/b.png", {"a dog, asleep"}),
    ("images/深/c.png", "images/深/c.png", {"一只猫"}),
]


# ---- the same pairs in every form ----


def caption_files(root):
    for name, text in (("a", "一只猫\n\n a cat \r\n"), ("b", "a dog, asleep"), ("深/c", "一只猫\n")):
        write(root / "captions" / f"{name}.txt", text, "utf-8-sig")
    return root


SOME = PAIRS[1:2] + PAIRS[3:]  # all but those of a.png
FORMS = {
    "json": lambda root: write(root / "p.json", entries(PAIRS)),
    "json with lists": lambda root: write(root / "p.json", entries([("images/a.png", ["一只猫", "a cat"]), *SOME], ("image", "text"))),
    "json with a mark": lambda root: write(root / "p.json", entries(PAIRS), "utf-8-sig"),
    "index in the folder": lambda root: write(root / "data.json", entries(PAIRS)).parent,
    "csv": lambda root: write(root / "p.csv", table(PAIRS)),
    "csv of open_clip": lambda root: write(root / "p.csv", table(PAIRS, "\t", ("filepath", "title"))),
    "csv of Excel": lambda root: write(root / "p.csv", table([(1, c, i) for i, c in PAIRS], ";", ("a,b", "Title", "Link ")), "utf-8-sig"),
    "link and caption": lambda root: write(root / "p.TSV", "\n" + table(PAIRS, "\t", ("link", "caption")) + "\n\n"),
    "other slashes": lambda root: write(root / "p.csv", table([(i.replace("/", "\\"), c) for i, c in PAIRS])),
    "other spellings": lambda root: write(root / "p.csv", table([("./images/a.png", "一只猫"), ("images/深/../a.png", "a cat"), *SOME])),
    "absolute paths": lambda root: write(root / "p.csv", table([(root / i, c) for i, c in PAIRS])),
    "captions in a folder": caption_files,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_cases(root, form):
    dataset = make(FORMS[form](root))
    assert content(dataset) == EXPECTED
    assert len(dataset.captions) == 3 and all(case.label is None and case.part is None for case in dataset.cases)
    assert dataset.classes == () and dataset.class_captions() == [] and dataset.labels.tolist() == [-1, -1, -1]
    assert set(dataset.captions_of(2)) < set(dataset.captions_of(0)), "one sentence, one id"
    for row, value in enumerate([10, 50, 90]):
        image = dataset.read_image(row)
        assert image.mode == "RGB" and image.getpixel((0, 0)) == (value,) * 3
    assert dataset.path_of(2) == root / "images" / "深" / "c.png"


def test_columns_and_separator_by_name(root):
    path = write(root / "p.csv", table([(c, "x", i) for i, c in PAIRS], "|", ("text", "caption", "path")))
    dataset = DATASETS.build({"type": "PairsDataset", "path": str(path), "image_key": "path", "caption_key": "text", "separator": "|"})
    assert content(dataset) == EXPECTED
    path = write(root / "q.json", entries([(*pair, "y") for pair in PAIRS], ("path", "说明", "image")))
    assert content(make(path, image_key="path", caption_key="说明")) == EXPECTED
    path = write(root / "r.csv", table(PAIRS, "\t", ("bild, klein, rot", "satz")))
    assert content(make(path, image_key="bild, klein, rot", caption_key="satz")) == EXPECTED, "the names decide what the separator is"


def test_image_root_moves_where_paths_start(root, tmp_path):
    path = write(tmp_path / "lists" / "p.csv", table([(i.removeprefix("images/"), c) for i, c in PAIRS]))
    dataset = make(path, image_root=str(root / "images"))
    assert [case.id for case in dataset.cases] == ["a.png", "b.png", "深/c.png"]
    with pytest.raises(DataError, match="no such folder"):
        make(path, image_root=str(root / "bilder"))


def test_ids_do_not_depend_on_where_the_table_lies(root, tmp_path):
    """Images that are not below the table's folder: below the deepest folder that holds them all."""
    for place in ("lists/p.csv", "other/lists/p.csv"):
        path = write(tmp_path / place, "")
        write(path, table([(os.path.relpath(root / i, path.parent), c) for i, c in PAIRS]))
        assert [case.id for case in make(path).cases] == ["a.png", "b.png", "深/c.png"]


def test_the_sample_data_are_pairs(tmp_path):
    folder = create_sample_dataset(tmp_path / "pairs", "pairs", 12)
    whole, english = make(folder), make(folder / "captions_en.json")
    assert whole.sources == (str(folder / "captions.json"),) and len(whole) == len(english) == 12
    (folder / "captions.json").unlink()
    (folder / "captions_en.json").unlink()
    assert content(make(folder)) == content(whole) and [c.id for c in whole.cases] == [c.id for c in english.cases]
    assert whole.read_image(0).size == (160, 160)


def test_names_are_nfc_and_paths_stay_real(tmp_path):
    nfd = unicodedata.normalize("NFD", "é")
    write_image(tmp_path / "images" / f"{nfd}.png", 10)
    path = write(tmp_path / "p.csv", table([("images/é.png", nfd), (f"images/{nfd}.png", "x")]))
    dataset = make(path)
    assert content(dataset) == [("images/é.png", "images/é.png", {"é", "x"})] and dataset.read_image(0).getpixel((0, 0)) == (10, 10, 10)
    write_image(tmp_path / "images" / "é.png", 20)
    with pytest.raises(DataError, match=r"p\.csv:[23]: .* differ: .*U\+0301 COMBINING ACUTE ACCENT.*; both are read as 'images/é.png'"):
        make(path)


def test_order_of_rows_does_not_change_the_cases(root):
    first = make(write(root / "p.csv", table(PAIRS)))
    again = make(write(root / "p.csv", table(PAIRS[::-1])))
    assert first.cases == again.cases and content(first) == content(again)


def test_describe(root):
    write_image(root / "images" / "b2.png", 50)  # a copy of b.png
    lines = make(write(root / "p.csv", table([*PAIRS, ("images/b2.png", "another dog")]))).describe()
    assert lines[0].endswith("data/p.csv") and lines[1] == "4 images, 3 groups, 4 distinct captions"
    assert lines[2:4] == ["  captions per image: 1 to 2, 1.25 on average", "  captions of several images: 1; '一只猫' describes 2"]
    assert "1 sets of byte-identical images" in lines[4] and len(lines) == 5
    (root / "images" / "b2.png").unlink()
    write(caption_files(root) / "images" / "x.db", "")
    assert "neither images nor captions were ignored: 1 .db" in make(root).describe()[-1]


# ---- parts ----


def test_files_assign_parts(root):
    paths = [write(root / name, table([PAIRS[i] for i in rows])) for name, rows in (("a.csv", [0, 2]), ("b/b.csv", []), ("c.csv", [3]))]
    write(paths[1], json.dumps([{"image_path": "../images/b.png", "caption": "x"}])).rename(root / "b" / "b.json")
    dataset = make(paths[0], val_path=str(root / "b" / "b.json"), test_path=str(paths[2]))
    assert [(case.id, case.part) for case in dataset.cases] == [
        ("images/a.png", "train"), ("images/b.png", "val"), ("images/深/c.png", "test"),
    ]  # fmt: skip
    assert "  parts: train 1  val 1  test 1" in dataset.describe()
    assert {case.part for case in make(paths[0], test_path=str(paths[2])).cases} == {"train", "test"}


def test_ids_of_several_folders_start_at_the_folder_that_holds_them(tmp_path):
    for i, part in enumerate(("train", "val")):
        write_image(tmp_path / part / "1.png", i)
        write(tmp_path / part / "p.csv", table([("1.png", part)]))
    dataset = make(tmp_path / "train" / "p.csv", val_path=str(tmp_path / "val" / "p.csv"))
    assert [(case.id, case.part) for case in dataset.cases] == [("train/1.png", "train"), ("val/1.png", "val")]


def test_an_image_in_two_files_is_a_leak(root):
    train, val = write(root / "train.csv", table(PAIRS)), write(root / "val.csv", table([PAIRS[1], ("./images/a.png", "new words")]))
    with pytest.raises(LeakError, match=r"val\.csv:2: image 'images/b.png' is also at .*train\.csv:3, .*\(and 1 more like it\)"):
        make(train, val_path=str(val))
    with pytest.raises(LeakError, match=r"data\.dataset\.test_path: .* is also the source of the train part"):
        make(train, test_path=str(root / "." / "train.csv"))


# ---- groups ----


def test_groups_from_a_column_or_a_key(root):
    rows = [(i, c, " P1" if "/a." in i else "P2 ") for i, c in PAIRS[:2] + PAIRS[3:]]
    path = write(root / "p.csv", table(rows, names=("image_path", "caption", "patient")))
    assert [case.group for case in make(path, group_key="patient").cases] == ["P1", "P2", "P2"]
    path = write(root / "p.json", json.dumps([{"image_path": i, "caption": c, "patient": n // 2} for n, (i, c, _) in enumerate(rows)]))
    assert [case.group for case in make(path, group_key="patient").cases] == ["0", "0", "1"]


def test_groups_from_the_name(root):
    path = write(root / "p.csv", table(PAIRS))
    assert [case.group for case in make(path, group_pattern=r"(\w)\.png$").cases] == ["a", "b", "c"]
    assert [case.group for case in make(path, group_pattern=r"^(images)/").cases] == ["images"] * 3
    with pytest.raises(DataError, match="matches no group in the name of 'images/b.png'"):
        make(path, group_pattern="a")


def test_copies_share_a_group_whatever_the_groups_say(root):
    write_image(root / "images" / "b2.png", 50)  # a copy of b.png
    path = write(root / "p.csv", table([(i, c, i) for i, c in (*PAIRS, ("images/b2.png", "x"))], names=("path", "text", "who")))
    groups = {case.id: case.group for case in make(path, group_key="who").cases}
    assert groups["images/b2.png"] == groups["images/b.png"] == "images/b.png" and len(set(groups.values())) == 3


def test_folds_of_pairs_are_grouped(tmp_path):
    folder = create_sample_dataset(tmp_path / "pairs", "pairs", 40)
    items = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    path = write(folder / "p.json", json.dumps([{**item, "patient": n // 4} for n, item in enumerate(items)]))
    dataset = make(path, group_key="patient")
    group_of = {case.id: case.group for case in dataset.cases}
    with pytest.raises(LeakError, match="KFold would split groups"):
        KFold().split(dataset.cases, dataset.classes)
    for splitter in (StratifiedGroupKFold(5), Holdout(0.25, val_fraction=0.2)):
        folds = splitter.split(dataset.cases, dataset.classes)
        assert folds.notes == ()
        for split in folds.splits:
            sides = [{group_of[i] for i in part} for part in (split.train, split.val, split.test)]
            assert all(sides) and sum(map(len, sides)) == 10
    folds.write(tmp_path / "folds.json")
    assert FromFile(str(tmp_path / "folds.json")).split(dataset.cases, ()).digest == folds.digest


# ---- what can be wrong ----

HEAD = "image_path,caption\n"
BAD = {
    "not utf-8": ((HEAD + "images/a.png,Übergröße").encode("latin-1"), r"p\.csv:2: not UTF-8 text \(byte 32 is 0xDC.*Save the file"),
    "half of utf-16": ((HEAD + "images/a.png,x").encode("utf-16")[:-1], r"p\.csv:2: .*UTF-16"),
    "empty file": ("", r"p\.csv: the file is empty"),
    "names only": (HEAD, "contains no pairs, only a header"),
    "no names": ("images/a.png,x\n", r"p\.csv:1: the first line must name the columns, such as filepath and title.*looks like data"),
    "one column": ("image_path caption\nimages/a.png x\n", r"p\.csv:1: only one column, 'image_path caption'"),
    "unknown columns": ("bild,satz\nimages/a.png,x\n", r"p\.csv:1: cannot find the column for the image.*image_key.*: bild, satz"),
    "two image columns": ("image,path,caption\n1,2,3\n", "ambiguous image: column 'image' or 'path'"),
    "a column twice": ("image_path,caption,caption\n1,2,3\n", "duplicate column 'caption'"),
    "too few columns": (HEAD + "images/a.png,x\nimages/b.png\n", r"p\.csv:3: the row has 1 columns, .* names 2\. .*partly written"),
    "too many columns": (HEAD + "images/a.png,a cat, asleep\n", r"p\.csv:2: the row has 3 columns, .* in double quotes"),
    "open quote": (HEAD + 'images/a.png,x\nimages/b.png,"a dog\nimages/a.png,y\n',
                   r"p\.csv:3: not valid CSV: unbalanced quotation marks"),
    "text behind a quote": (HEAD + 'images/a.png,"a" cat\n', r"p\.csv:2: not valid CSV: unbalanced quotation marks"),
    "after a long row": (HEAD + 'images/a.png,"two\nlines"\nimages/b.png, \n', r"p\.csv:4: empty caption for 'images/b.png'"),
    "zero bytes": (HEAD + "images/a.png,x\nimages/b.\0\0\0", r"p\.csv:3: the file contains zero bytes"),
    "empty caption": (HEAD + "images/a.png,x\nimages/b.png,\n", r"p\.csv:3: empty caption for 'images/b.png'"),
    "empty path": (HEAD + " ,x\n", r"p\.csv:2: empty image path"),
    "missing image": (HEAD + "images/a.png,x\nimages/bb.png,y\nz.png,z\nimages/bb.png,w\n", r"p\.csv:3: no image 'images/bb.png' "
                      r"\(1 more are missing: z.png\)\. Did you mean 'b.png'\? .*data\.dataset\.image_root"),
    "missing folder": (HEAD + "bilder/a.png,x\n", r"p\.csv:2: no image 'bilder/a.png'\. The folder .*bilder does not exist"),
    "a folder as image": (HEAD + "images,x\n", r"no image 'images'\. Relative"),
    "web address": (HEAD + "https://example.org/a.png,x\n", "is a URL. Download the images"),
    "repeated pair": (HEAD + "images/a.png,x\nimages/b.png,x\nimages/./a.png, x \nimages/b.png,x\n",
                      r"p\.csv:4: image 'images/./a.png' already has this caption at .*p\.csv:2 \(and 1 more.*allow_duplicates=True"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(root, name):
    text, words = BAD[name]
    with pytest.raises(DataError, match=words) as caught:
        make(write(root / "p.csv", text))
    assert "\n" not in str(caught.value)


BAD_JSON = {
    "broken": ('[{"image_path": "images/a.png",\n "caption": "x"},\n', r"p\.json:3: not valid JSON"),
    "object": ('{"image_path": "images/a.png"}', r"p\.json: must be a JSON list of \{image_path, caption\}, not an object"),
    "empty list": ("[]", r"p\.json: contains no pairs, the list is empty"),
    "white space": (" \n", "the file is empty"),
    "no object": ('[{"image_path": "images/a.png", "caption": "x"},\n\n"images/b.png"]', r"p\.json:3: must be an object .*, not a string"),
    "no key": ('[{"image_path": "images/a.png", "caption": "x"},\n{"image_path": "images/a.png", "captoin": "x"}]',
               r"p\.json:2: no key 'caption'. Did you mean 'captoin'\? Keys: image_path, captoin"),
    "path is a number": ('[{"image_path": 3, "caption": "x"}]', r"p\.json:1: 'image_path' must be a path, not a number"),
    "caption is null": ('[\n{"image_path": "images/a.png", "caption": null}]', r"p\.json:2: 'caption' must be a sentence or .*, not null"),
    "caption in a list": ('[{"image_path": "images/a.png", "caption": ["x", 3]}]', "not a list with a number in it"),
    "empty caption": ('[{"image_path": "images/a.png",\n"caption": ["x", " "]}]', r"p\.json:1: empty caption for 'images/a.png'"),
    "no caption": ('[{"image_path": "images/a.png", "caption": []}]', r"p\.json:1: empty caption for 'images/a.png'"),
    "repeated in a list": ('[{"image_path": "images/a.png", "caption": ["x", "x"]}]', "already has this caption at "),
    "two keys": ('[{"image_path": "images/a.png", "caption": "x", "text": "y"}]', "ambiguous caption: key 'caption' or 'text'"),
    "empty object": ("[{}]", r"p\.json:1: cannot find the key for the image.*Keys: none"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json(root, name):
    text, words = BAD_JSON[name]
    with pytest.raises(DataError, match=words):
        make(write(root / "p.json", text))


BAD_ARGUMENTS = {
    "wrong column": ({"caption_key": "captions"}, DataError, r"p\.csv:1: no column 'captions' \(data\.dataset\.caption_key\)\. "
                     r"Did you mean 'caption'\? Columns: image_path, caption, who, who"),
    "wrong image column": ({"image_key": "x"}, DataError, r"image_key\)\. Columns"),
    "column twice": ({"group_key": "who"}, DataError, "duplicate column 'who'"),
    "no group column": ({"group_key": "patient"}, DataError, r"no column 'patient' \(data\.dataset\.group_key\)"),
    "one column for both": ({"image_key": "caption", "caption_key": "caption"}, ConfigError, "both 'caption'"),
    "bad separator": ({"separator": "tabs"}, ConfigError, "data.dataset.separator: 'tabs' is not allowed. Did you mean 'tab'"),
    "quote as separator": ({"separator": '"'}, ConfigError, "data.dataset.separator"),
    "wrong separator": ({"separator": "tab"}, DataError, "only one column"),
    "two ways to group": ({"group_key": "who", "group_pattern": "a"}, ConfigError, "are mutually exclusive"),
    "bad pattern": ({"group_pattern": "("}, ConfigError, "not a regular expression"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(root, name):
    arguments, error, words = BAD_ARGUMENTS[name]
    path = write(root / "p.csv", table([(i, c, 1, 2) for i, c in PAIRS], names=("image_path", "caption", "who", "who")))
    with pytest.raises(error, match=words):
        make(path, **arguments)


def test_bad_groups(root):
    def grouped(*groups):
        return write(
            root / "p.csv", table([(*pair, group) for pair, group in zip(PAIRS, groups, strict=True)], names=("path", "text", "who"))
        )

    with pytest.raises(DataError, match=r"p\.csv:4: 'images/a.png' is in group 'C' here, but at .*p\.csv:2 in group 'A'"):
        make(grouped("A", "B", "C", "D"), group_key="who")
    with pytest.raises(DataError, match=r"p\.csv:3: empty group for 'images/b.png'"):
        make(grouped("A", "", "A", "D"), group_key="who")
    for value, words in ((None, "empty group"), (True, "not true/false"), ([1], "not a list")):
        path = write(root / "p.json", json.dumps([{"path": "images/a.png", "text": "x", "who": value}]))
        with pytest.raises(DataError, match=words):
            make(path, group_key="who")


def test_arguments_that_mean_nothing(root):
    for name in ("image_key", "caption_key", "group_key", "image_root"):
        with pytest.raises(ConfigError, match=f"data.dataset.{name}: does not apply to images/ and captions/"):
            make(caption_files(root), **{name: "x"})
    with pytest.raises(ConfigError, match="data.dataset.separator: .* is not a table"):
        make(FORMS["json"](root), separator="tab")


def test_duplicates_are_merged_on_demand(root):
    path = write(root / "p.csv", table([*PAIRS, PAIRS[0], PAIRS[1]]))
    assert content(make(path, allow_duplicates=True)) == EXPECTED


def test_an_empty_image(root):
    (root / "images" / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"p\.csv:3: .*b\.png: the image is empty \(zero bytes\)\. Replace or remove it"):
        make(write(root / "p.csv", table(PAIRS)))


def test_damage_shows_when_the_image_is_read(root):
    (root / "images" / "b.png").write_bytes((root / "images" / "b.png").read_bytes()[:40])
    dataset = make(write(root / "p.csv", table(PAIRS)))
    with pytest.raises(DataError, match="b.png: "):
        dataset.read_image(1)


def test_a_missing_source_shows_what_is_expected_and_the_command(root):
    write(root / "p.csv", table(PAIRS))
    with pytest.raises(DataError, match=r"q\.csv: no such file or folder\. Did you mean 'p.csv'\?") as caught:
        make(root / "q.csv")
    for words in ("data.json", "filepath,title", "captions/NAME.txt", "clipzoo make_sample_data pairs --out data/pairs"):
        assert words in str(caught.value)
    with pytest.raises(DataError, match=r"p\.parquet: unknown kind of file\. Supported: \.json, \.csv"):
        make(write(root / "p.parquet", "x"))
    assert "data/x/" in expected_pairs("data/x")


def test_bad_folders(root, tmp_path):
    with pytest.raises(DataError, match="images/ without captions.*use clipzoo make_pairs"):
        make(root)
    (root / "captions").mkdir()
    with pytest.raises(DataError, match=r"3 images have no captions/NAME\.txt: images/a\.png, images/b\.png, images/深/c\.png\. Write"):
        make(root)
    caption_files(root)
    write(root / "captions" / "b.txt", "\n \n")
    with pytest.raises(DataError, match=r"captions/b\.txt:1: empty caption for 'images/b.png'"):
        make(root)
    write(root / "captions" / "b.txt", b"x\n\xff")
    with pytest.raises(DataError, match=r"captions/b\.txt:2: not UTF-8"):
        make(root)
    write(root / "captions" / "b.txt", "x\nx")
    with pytest.raises(DataError, match=r"captions/b\.txt:2: image 'images/b.png' already has this caption at .*b\.txt:1"):
        make(root)
    (root / "captions" / "b.txt").rename(root / "captions" / "bb.txt")
    with pytest.raises(DataError, match=r"1 images have no captions/NAME\.txt: images/b\.png\. Did you mean 'bb'"):
        make(root)
    write(root / "captions" / "b.txt", "x")
    with pytest.raises(DataError, match=r"1 caption files have no image: captions/bb\.txt"):
        make(root)
    (root / "captions" / "bb.txt").unlink()
    write_image(root / "images" / "b.jpg", 1)
    with pytest.raises(DataError, match="differs only in the extension"):
        make(root)
    write(root / "captions.json", "[]")
    write(root / "data.json", "[]")
    with pytest.raises(DataError, match="contains data.json and captions.json. Give the intended one"):
        make(root)
    write(tmp_path / "tables" / "train.csv", table(PAIRS))
    with pytest.raises(DataError, match=r"contains neither data.json nor captions.json. Give the intended file: .*tables.train\.csv"):
        make(tmp_path / "tables")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no pairs in this folder. Expected one of"):
        make(tmp_path / "nothing")


def test_reading_pairs_imports_no_torch_and_opens_no_image(root, repo):
    path = write(root / "p.csv", table(PAIRS))
    for number, name in enumerate(("a.png", "b.png", "深/c.png")):
        (root / "images" / name).write_bytes(b"no image" + b"!" * number)
    assert len(make(path)) == 3
    code = "import sys, clipzoo.datasets.pairs; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, check=False).returncode == 0


def test_large_tables_are_fast(tmp_path):
    write_image(tmp_path / "a.png", 1)
    path = write(tmp_path / "p.csv", table(("a.png", f"caption {i}") for i in range(100_000)))
    start = time.process_time()
    dataset = make(path)
    assert len(dataset.captions) == 100_000 and time.process_time() - start < 4.0


@pytest.mark.parametrize("text", ['""', '""\n""\n'])
def test_a_table_of_nothing_but_quotes_is_one_clear_line(tmp_path, text):
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="pairs.csv:1: only one column"):
        PairsDataset(str(tmp_path / "pairs.csv"))
