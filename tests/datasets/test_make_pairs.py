"""Tables of images and captions out of class folders: what is in them, that they read back, and what is refused."""

import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets import PairsDataset
from clipzoo.datasets.files.class_list import read_annotations, read_class_list
from clipzoo.datasets.make_pairs import Columns, make_pairs
from clipzoo.datasets.splitters import AsGiven
from clipzoo.errors import ConfigError, DataError

WORDS = "n01\tbrown bear, bruin,Ursus arctos\nn02\tcrane\nn03\tcrane, lifting machine\nn99\tnever seen\n"


def write_image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([[value, value // 2, 7]], np.uint8)).save(path)


@pytest.fixture
def tree(tmp_path):
    """The layout of Tiny ImageNet: 12 + 8 + 5 training images, three val images beside one file."""
    value = 0
    for folder, number in (("n01", 12), ("n02", 8), ("n03", 5)):
        for i in range(number):
            write_image(tmp_path / "tiny" / "train" / folder / "images" / f"{folder}_{i}.JPEG.png", value := value + 1)
        (tmp_path / "tiny" / "train" / folder / f"{folder}_boxes.txt").write_text("x\t1")
    for i in range(3):
        write_image(tmp_path / "tiny" / "val" / "images" / f"val_{i}.png", 100 + i)
    (tmp_path / "tiny" / "val" / "val_annotations.txt").write_text("val_0.png\tn01\t0\t0\nval_1.png\tn03\t1\t1\nval_2.png\tn01\t2\t2\n")
    (tmp_path / "tiny" / "words.txt").write_text(WORDS.replace("n02\tcrane", "n02\theron"))
    return tmp_path / "tiny"


def rows(path, delimiter=","):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def test_every_image_with_the_caption_of_its_class(tree, tmp_path):
    (made,) = make_pairs(tree / "train", tmp_path / "csv" / "train.csv", class_list=tree / "words.txt")
    header, *lines = rows(made.path)
    assert header == ["filepath", "title"] and len(lines) == 25 == made.images
    assert ["../tiny/train/n01/images/n01_0.JPEG.png", "a photo of a brown bear"] in lines
    assert Counter(caption for _, caption in lines) == {"a photo of a brown bear": 12, "a photo of a heron": 8, "a photo of a crane": 5}
    assert str(made) == f"{made.path}: 25 images, 3 classes, 3 distinct captions"
    dataset = PairsDataset(str(made.path))
    assert len(dataset) == 25 and dataset.cases[0].id == "n01/images/n01_0.JPEG.png" and len(dataset.captions) == 3


def test_folder_names_are_class_names_without_a_list(tree, tmp_path):
    make_pairs(tree / "train", tmp_path / "tiny" / "train.tsv", template="类别{class_name}", columns=Columns("image", "caption"))
    header, first, *_ = rows(tmp_path / "tiny" / "train.tsv", "\t")
    assert header == ["image", "caption"] and first == ["train/n01/images/n01_0.JPEG.png", "类别n01"]
    make_pairs(tree / "train", tmp_path / "train.csv", columns=Columns(separator="tab"))
    assert rows(tmp_path / "train.csv", "\t")[1] == ["tiny/train/n01/images/n01_0.JPEG.png", "a photo of a n01"]
    make_pairs(tree / "train", tree / "train" / "t.csv")
    assert rows(tree / "train" / "t.csv")[1][0] == "n01/images/n01_0.JPEG.png"


def test_names_first_all_each(tree, tmp_path):
    captions = {}
    for names in ("first", "all", "each"):
        (made,) = make_pairs(tree / "train", tmp_path / f"{names}.csv", class_list=tree / "words.txt", names=names, template="{class_name}")
        captions[names] = list(dict.fromkeys(caption for _, caption in rows(made.path)[1:]))
        assert made.images == 25 and made.captions == len(captions[names])
        assert len(PairsDataset(str(made.path))) == 25
    assert captions["first"] == ["brown bear", "heron", "crane"]
    assert captions["all"] == ["brown bear, bruin, Ursus arctos", "heron", "crane, lifting machine"]
    assert captions["each"] == ["brown bear", "bruin", "Ursus arctos", "heron", "crane", "lifting machine"]
    assert len(rows(tmp_path / "each.csv")) == 1 + 12 * 3 + 8 + 5 * 2


def test_images_with_annotations(tree, tmp_path):
    for number, images in enumerate((tree / "val" / "images", tree / "val")):
        arguments = {"annotations": tree / "val" / "val_annotations.txt", "class_list": tree / "words.txt"}
        (made,) = make_pairs(images, tmp_path / f"{number}.csv", **arguments)
        assert rows(made.path)[1:] == [
            ["tiny/val/images/val_0.png", "a photo of a brown bear"],
            ["tiny/val/images/val_1.png", "a photo of a crane"],
            ["tiny/val/images/val_2.png", "a photo of a brown bear"],
        ]
        assert (made.images, made.classes, made.captions, made.unlabelled) == (3, 2, 2, 0)
    write_image(tree / "val" / "images" / "other.png", 222)
    assert str(make_pairs(tree / "val", tmp_path / "2.csv", **arguments)[0]).endswith("captions; 1 images without a class are left out")


def test_a_val_part_has_the_classes_in_proportion_and_no_copy_of_a_training_image(tree, tmp_path):
    for i in range(6):  # copies of six of the twelve images of a class
        (tree / "train" / "n01" / f"copy{i}.png").write_bytes((tree / "train" / "n01" / "images" / f"n01_{i}.JPEG.png").read_bytes())
    arguments = {"val_fraction": 0.25, "val_out": tmp_path / "val.csv", "seed": 3}
    train, val = make_pairs(tree / "train", tmp_path / "train.csv", **arguments)
    assert (train.images + val.images, train.classes, val.classes) == (31, 3, 3) and 7 <= val.images <= 8
    assert 3 <= sum("/n01/" in path for path, _ in rows(val.path)) <= 5
    dataset = PairsDataset(str(train.path), val_path=str(val.path))
    (split,) = AsGiven().split(dataset.cases, ()).splits
    assert len(split.train) == train.images and len(split.test) == val.images and len({case.group for case in dataset.cases}) == 25
    again = make_pairs(tree / "train", tmp_path / "train.csv", **arguments)
    assert again == [train, val], "the same seed, the same tables; writing them again is no overwriting"
    assert make_pairs(tree / "train", tmp_path / "t.csv", **{**arguments, "seed": 4, "val_out": tmp_path / "v.csv"})[1].text != val.text


def test_patients_stay_together(tree, tmp_path):
    arguments = {"val_fraction": 0.3, "val_out": tmp_path / "val.csv", "group_pattern": r"_(\d)"}
    train, val = make_pairs(tree / "train", tmp_path / "train.csv", **arguments)
    groups = [{row[2] for row in rows(table.path)[1:]} for table in (train, val)]
    assert (
        rows(train.path)[0] == ["filepath", "title", "group"] and not groups[0] & groups[1] and groups[0] | groups[1] == set("0123456789")
    )
    assert PairsDataset(str(val.path), group_key="group").cases[0].group in groups[1]


def test_at_most_so_many_images_of_a_class(tree, tmp_path):
    (made,) = make_pairs(tree / "train", tmp_path / "a.csv", limit_per_class=6)
    assert Counter(path.split("/")[2] for path, _ in rows(made.path)[1:]) == {"n01": 6, "n02": 6, "n03": 5}
    (other,) = make_pairs(tree / "train", tmp_path / "b.csv", limit_per_class=6, seed=1)
    assert other.text != made.text and make_pairs(tree / "train", tmp_path / "a.csv", limit_per_class=6) == [made]


# ---- lists ----


@pytest.mark.parametrize(
    "name, content",
    [
        ("words.txt", "n01\tbrown bear, bruin\n\nn02\t crane \n"),
        ("synsets.txt", "n01 brown bear, bruin\nn02 crane\n"),
        ("words.csv", 'n01,"brown bear, bruin"\nn02,crane\n'),
        ("words.csv", "wnid,name\nn01,brown bear,bruin,\nn02,crane,,\n"),
        ("words.json", '{"n01": ["brown bear", "bruin"], "n02": "crane"}'),
    ],
)
def test_class_lists(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_class_list(tmp_path / name) == {"n01": ["brown bear", "bruin"], "n02": ["crane"]}


def test_names_in_json_are_taken_as_they_are(tmp_path):
    (tmp_path / "words.json").write_text('{"n01": "bear, brown"}')
    assert read_class_list(tmp_path / "words.json") == {"n01": ["bear, brown"]}


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.txt", "1.png\tn01\t0\t9\n2.png\tbrown bear\n"),
        ("a.csv", "image,class,box\n1.png,n01,0\n2.png,brown bear,\n"),
        ("a.json", '{"1.png": "n01", "2.png": "brown bear"}'),
    ],
)
def test_annotations(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_annotations(tmp_path / name) == {"1.png": "n01", "2.png": "brown bear"}


def test_annotations_with_spaces(tmp_path):
    (tmp_path / "a.txt").write_text("1.png n01 0 9\n2.png  n02\n")
    assert read_annotations(tmp_path / "a.txt") == {"1.png": "n01", "2.png": "n02"}


BAD_LISTS = {
    "ids alone": ("l.txt", "n01\nn02\n", r"l\.txt:1: no name for 'n01'. Write it after a tab"),
    "nothing behind the tab": ("l.txt", "n01\tx\nn02\t , \n", r"l\.txt:2: no name for 'n02'"),
    "twice": ("l.txt", "n01\tx\nn02\ty\nn01\tz\n", r"l\.txt:3: 'n01' is already listed, as 'x'"),
    "empty": ("l.txt", "\n", "the class list is empty"),
    "has no key": ("l.csv", "n01,x\n,y\n", r"l\.csv:2: the entry has no key"),
    "open quote": ("l.csv", 'n01,"x\n', r"l\.csv:1: not valid CSV"),
    "json list": ("l.json", '["n01"]', "must be a JSON object .*, not a list"),
    "json number": ("l.json", '{"n01": 3}', "'n01' must be a name or a list of names, not a number"),
    "no class": ("l.txt", "n01\tx\nn02\ty\n", r"l\.txt: no name for class 'n03'\.( Did you mean 'n0\d'\?)? Add one for each"),
    "not utf-8": ("l.txt", b"n01\tx\nn02\t\xff\n", r"l\.txt:2: not UTF-8 text"),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_class_lists(tree, tmp_path, case):
    name, content, words = BAD_LISTS[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words):
        make_pairs(tree / "train", tmp_path / "out.csv", class_list=tmp_path / name)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        ("val_0.png\tn01\nval_1.png\n", r"a\.txt:2: no class for 'val_1.png'"),
        ("val_0.png\tn01\nval_0.png\tn02\n", r"a\.txt:2: 'val_0.png' has both class 'n01' and class 'n02'"),
        ("val_00.png\tn01\nval_x.png\tn01", r"no image 'val_00.png' below .*\(and 1 more like it\)\. Did you mean 'images/val_0.png'"),
        ("", "no annotations in this file"),
    ],
)
def test_bad_annotations(tree, tmp_path, content, words):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match=words):
        make_pairs(tree / "val", tmp_path / "out.csv", annotations=tmp_path / "a.txt")


# ---- what is refused ----


def test_two_classes_with_one_caption(tree, tmp_path):
    (tree / "words.txt").write_text(WORDS)
    arguments = {"class_list": tree / "words.txt"}
    words = r"'a photo of a crane' would describe two classes, 'n02' \(crane\) and 'n03' \(crane, lifting machine\)\. Put .*--names all"
    with pytest.raises(DataError, match=words):
        make_pairs(tree / "train", tmp_path / "out.csv", **arguments)
    with pytest.raises(DataError, match="would describe two classes"):
        make_pairs(tree / "train", tmp_path / "out.csv", **arguments, names="each")
    assert not (tmp_path / "out.csv").exists()
    (made,) = make_pairs(tree / "train", tmp_path / "out.csv", **arguments, names="all")
    assert made.captions == 3
    (tree / "words.txt").write_text("n01\tbear\nn02\tCrane\nn03\tcrane\n")
    with pytest.raises(DataError, match=r"two classes, 'n02' \(Crane\) and 'n03' \(crane\)\. Give them distinct names"):
        make_pairs(tree / "train", tmp_path / "o.csv", **arguments, names="all")


def test_nothing_is_overwritten_silently(tree, tmp_path):
    (tmp_path / "val.csv").write_text("years of work")
    arguments = {"val_fraction": 0.2, "val_out": tmp_path / "val.csv"}
    with pytest.raises(DataError, match=r"val\.csv: already exists with different content.*--force"):
        make_pairs(tree / "train", tmp_path / "train.csv", **arguments)
    assert not (tmp_path / "train.csv").exists(), "must be given together"
    make_pairs(tree / "train", tmp_path / "train.csv", **arguments, force=True)
    assert rows(tmp_path / "val.csv")[0] == ["filepath", "title"]
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="already exists"):
        make_pairs(tree / "train", tmp_path / "folder.csv", force=True)


BAD_ARGUMENTS = {
    "share of one": ({"val_fraction": 1.0, "val_out": "v.csv"}, DataError, "val_fraction: 1.0 is not allowed"),
    "no val table": ({"val_fraction": 0.1}, DataError, "val_fraction and val_out must be given together"),
    "no share": ({"val_out": "v.csv"}, DataError, "val_fraction and val_out must be given together"),
    "one table for both": ({"val_fraction": 0.1, "val_out": "out.csv"}, DataError, "out.csv: used for both parts"),
    "limit of none": ({"limit_per_class": 0}, DataError, "limit_per_class: 0 is not allowed"),
    "template": ({"template": "a photo"}, ConfigError, "template: 'a photo' does not contain {class_name}"),
    "pattern": ({"group_pattern": "x+"}, DataError, "^group_pattern: .* matches no group in the name of"),
    "one column": ({"columns": Columns("x", "x")}, DataError, "the columns must have different names"),
    "column group": ({"columns": Columns("group", "x")}, DataError, "none may be named 'group'"),
    "nothing to spare": (
        {"val_fraction": 0.3, "val_out": "v.csv", "limit_per_class": 1},
        DataError,
        "val_fraction: 0.3 of 3 images leaves no images",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(tree, tmp_path, monkeypatch, case):
    arguments, error, words = BAD_ARGUMENTS[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        make_pairs(tree / "train", "out.csv", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_bad_images(tree, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        make_pairs(tmp_path / "none", tmp_path / "out.csv")
    with pytest.raises(DataError, match="no such folder"):
        make_pairs(tmp_path / "none", tmp_path / "out.csv", annotations=tree / "val" / "val_annotations.txt")
    with pytest.raises(DataError, match=r"out\.parquet: unknown table format. Use one of the extensions \.csv, \.tsv"):
        make_pairs(tree / "train", tmp_path / "out.parquet")
    (tree / "train" / "n02" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.png: the image is empty"):
        make_pairs(tree / "train", tmp_path / "out.csv")


def test_real_images(repo, tmp_path):
    root = repo.parent / "shared" / "data" / "tiny-imagenet-mini"
    if not root.is_dir():
        pytest.skip("no Tiny ImageNet here")
    names = {"class_list": root / "words.txt"}
    train, val = make_pairs(root / "train", tmp_path / "train.csv", **names, val_fraction=0.1, val_out=tmp_path / "val.csv")
    (test,) = make_pairs(root / "val" / "images", tmp_path / "test.tsv", **names, annotations=root / "val" / "val_annotations.txt")
    assert [table.classes for table in (train, val, test)] == [12, 12, 12] == [table.captions for table in (train, val, test)]
    dataset = PairsDataset(str(train.path), str(val.path), str(test.path))
    assert len(dataset) == train.images + val.images + test.images and len(dataset.captions) == 12
    (split,) = AsGiven().split(dataset.cases, ()).splits
    assert [len(part) for part in (split.train, split.val, split.test)] == [train.images, val.images, test.images]
    assert dataset.read_image(0).size == (64, 64) and dataset.cases[0].id.startswith("train/n")


def test_names_that_are_formulas_are_paths_that_every_program_finds(tmp_path):
    """``./=1/a.png`` is the same file, and no formula; an apostrophe before it would be part of the name for open_clip."""
    for value, name in enumerate(("=1", "@b", "c")):
        write_image(tmp_path / name / "-a.png", 50 * value)
    (made,) = make_pairs(tmp_path, tmp_path / "train.csv", template="{class_name}")
    assert rows(made.path)[1:] == [["./=1/-a.png", "'=1"], ["./@b/-a.png", "'@b"], ["c/-a.png", "c"]]
    data = PairsDataset(str(made.path))
    assert [case.id for case in data.cases] == ["=1/-a.png", "@b/-a.png", "c/-a.png"] and list(data.captions.sentences) == ["=1", "@b", "c"]
