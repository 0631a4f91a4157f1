"""One rule for names, wherever they are written; what cannot be followed, opened or listed is named; classes are in natural order."""

import inspect
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_imagenet_layout import write_tiny_imagenet

from clipzoo.datasets import ImageFolderDataset, PairsDataset, TinyImageNetDataset
from clipzoo.datasets.files.class_list import read_annotations, read_class_list
from clipzoo.datasets.files.folders import entries, walk
from clipzoo.errors import ConfigError, DataError

GBK = "正位".encode("gbk")
CR, LF, CRLF = "\r", "\n", "\r\n"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def root(tmp_path):
    """A class whose name ends in a blank, and one that does not; every image has a content of its own."""
    for i, name in enumerate(["cat /a.png", "cat /sub /b .png", "dog/c.png"]):
        write(tmp_path / "data" / name, 10 + 40 * i)
    return tmp_path / "data"


# ---- names ----


def test_a_class_folder_with_a_blank_at_its_end_meets_its_description(root, tmp_path):
    (tmp_path / "texts.json").write_text('{"cat": "it purrs", " dog ": "it barks"}')
    (tmp_path / "groups.csv").write_text("path , group\ncat/a.png,p1\ncat\\sub\\b .png,p1 \ndog /c.png,p2\n")
    dataset = ImageFolderDataset(
        str(root), class_texts=str(tmp_path / "texts.json"), groups=str(tmp_path / "groups.csv"), classes=["dog\u3000", "cat"]
    )
    assert dataset.classes == ("dog", "cat") and dataset.captions.sentences == ["it barks", "it purrs"]
    assert [(c.id, c.group) for c in dataset.cases] == [("cat/a.png", "p1"), ("cat/sub/b .png", "p1"), ("dog/c.png", "p2")]
    assert dataset.path_of(1) == root / "cat " / "sub " / "b .png" and dataset.read_image(1).size == (6, 4)


def test_names_that_become_one_say_which_characters_differ(root, tmp_path):
    write(root / "cat" / "z.png", 200)
    with pytest.raises(DataError, match=re.escape("differ: ") + r".*U\+0020 SPACE.*; both are read as 'cat'\. Rename one"):
        ImageFolderDataset(str(root))
    shutil.rmtree(root / "cat")
    write(root / "dog" / " c.png", 210)
    with pytest.raises(DataError, match=r"differ: .*U\+0020 SPACE.*; both are read as 'dog/c\.png'"):
        ImageFolderDataset(str(root))
    (root / "dog" / " c.png").unlink()
    (tmp_path / "texts.json").write_text('{"cat": "x", "dog": "y", "dog\u00a0": "z"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"'dog' is described twice: .* differ: nothing, or U\+00A0 NO-BREAK SPACE"):
        ImageFolderDataset(str(root), class_texts=str(tmp_path / "texts.json"))
    with pytest.raises(ConfigError, match=r"classes: 'dog' is repeated \('dog' and 'dog ' differ: nothing, or U\+0020 SPACE\)"):
        ImageFolderDataset(str(root), classes=["cat", "dog", "dog "])


@pytest.mark.parametrize("key", ["d\u200bog", "\uff44og", "do g", "Dog"])
def test_a_name_that_only_looks_alike_shows_the_character(root, tmp_path, key):
    (tmp_path / "texts.json").write_text(json.dumps({"cat": "x", key: "y"}))
    with pytest.raises(DataError, match=r"but there is no such class folder\..* differ: .*U\+[0-9A-F]{4}"):
        ImageFolderDataset(str(root), class_texts=str(tmp_path / "texts.json"))


def test_a_blank_name_is_refused(root):
    (root / " ").mkdir()
    with pytest.raises(DataError, match="the name is blank"):
        ImageFolderDataset(str(root))


def test_lists_and_annotations_follow_the_rule(tmp_path):
    (tmp_path / "l.json").write_text('{" n01": " brown bear "}')
    (tmp_path / "a.csv").write_text("image,class\ntrain \\ 1.png, bear \n")
    assert read_class_list(tmp_path / "l.json") == {"n01": ["brown bear"]}
    assert read_annotations(tmp_path / "a.csv") == {"train/1.png": "bear"}


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_pairs_find_files_by_clean_names(tmp_path, suffix):
    write(tmp_path / "ima\u0301ges " / "a .png ", 10)
    write(tmp_path / "im\u00e1ges2" / "b.png", 50)
    rows = [("im\u00e1ges/a .png", "one"), ("ima\u0301ges2\\b.png", "two")]
    if suffix == ".json":
        text = json.dumps([{" image_path": image, "caption ": caption} for image, caption in rows])
    else:
        text = "\n".join(["image_path , caption", *map(",".join, rows)])
    (tmp_path / f"pairs{suffix}").write_text(text, encoding="utf-8")
    dataset = PairsDataset(str(tmp_path / f"pairs{suffix}"))
    assert [c.id for c in dataset.cases] == ["im\u00e1ges/a .png", "im\u00e1ges2/b.png"]
    assert [dataset.read_image(row).getpixel((0, 0))[0] for row in range(2)] == [10, 50]
    write(tmp_path / "ima\u0301ges " / "a .png", 90)  # now exactly as it is written, but for the folder
    with pytest.raises(DataError, match=r"pairs\.(json|csv):\d: .* differ: .*U\+0020 SPACE.* matches both"):
        PairsDataset(str(tmp_path / f"pairs{suffix}"))


def test_classes_are_in_natural_order(tmp_path):
    for i in range(11):
        write(tmp_path / str(i) / "a.png", 20 * i)
    dataset = ImageFolderDataset(str(tmp_path))
    assert dataset.classes == tuple(map(str, range(11))) and [c.id for c in dataset.cases][:3] == ["0/a.png", "1/a.png", "10/a.png"]
    assert dataset.labels.tolist() == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]


# ---- what cannot be followed, opened or listed ----

SPECIAL = {
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "broken link to nowhere"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "a FIFO": (os.mkfifo, "a FIFO, not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
}


@pytest.mark.parametrize("where", ["odd", "dog/odd.png", "dog/odd", "cat /sub /odd.txt"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_whatever_cannot_be_followed_or_opened_is_named(root, kind, where):
    """A class folder that is a dangling link would be a class less, without a word."""
    make, words = SPECIAL[kind]
    make(root / where)
    with pytest.raises(DataError, match=rf"(?i){re.escape(str(root / where))}: .*{words}.*Remove or fix it"):
        ImageFolderDataset(str(root))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("where", ["train/n05/images/odd.JPEG", "val/images/odd.JPEG"])
def test_tiny_imagenet_names_it_too(tmp_path, kind, where):
    write_tiny_imagenet(tmp_path)
    path = tmp_path / where
    SPECIAL[kind][0](path)
    with pytest.raises(DataError, match=rf"(?i){re.escape(str(path))}: .*{SPECIAL[kind][1]}"):
        TinyImageNetDataset(str(tmp_path), "trainval", num_classes=6)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("suffix", [".json", ".csv", ""])
def test_pairs_name_it_too(tmp_path, kind, suffix):
    make, words = SPECIAL[kind]
    (tmp_path / "images").mkdir()
    (tmp_path / "captions").mkdir()
    make(tmp_path / "images" / "odd.png")
    (tmp_path / "captions" / "odd.txt").write_text("x")
    (tmp_path / "p.json").write_text('[{"image_path": "images/odd.png", "caption": "x"}]')
    (tmp_path / "p.csv").write_text("image_path,caption\nimages/odd.png,x\n")
    source = tmp_path / f"p{suffix}" if suffix else tmp_path
    with pytest.raises(DataError, match=rf"(?i)images/odd\.png: .*{words}"):
        PairsDataset(str(source))
    if suffix:  # and the file that holds the pairs
        source.unlink()
        make(source)
        with pytest.raises(DataError, match=rf"(?i){re.escape(str(source))}: .*{words}"):
            PairsDataset(str(source))


def test_a_folder_that_cannot_be_listed_is_named(root, monkeypatch):
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("sub "):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"cat /sub : cannot be read \(Permission denied\)"):
        ImageFolderDataset(str(root))


def test_hidden_entries_stay_ignored(root):
    (root / ".odd").symlink_to("nowhere")
    os.mkfifo(root / "dog" / ".odd.png")
    assert len(ImageFolderDataset(str(root))) == 3


def test_a_tree_of_any_depth_is_walked(tmp_path):
    """A path may have two thousand parts, and Python may not call itself as often."""
    folder = tmp_path.joinpath(*"d" * 300)
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert [entry.name for entry in walk(str(tmp_path))] == ["a.png"]
    finally:
        sys.setrecursionlimit(before)


# ---- names that are no text ----


@pytest.mark.parametrize("name", [GBK, GBK + b".png", b"a\xff\xfe.png"])
@pytest.mark.parametrize("below", ["", "dog"])
def test_names_that_are_not_utf8_are_shown_with_the_fix(root, name, below):
    path = os.fsencode(root / below) + b"/" + name
    with open(path, "wb"):
        pass
    with pytest.raises(DataError) as caught:
        ImageFolderDataset(str(root))
    said = str(caught.value)
    said.encode("utf-8")  # no half of a surrogate pair is left
    assert (
        "\\x" in said and "the file name is not UTF-8" in said and "convmv -f gbk -t utf8 -r --notest" in said and "unzip -O cp936" in said
    )
    assert ("正位" in said) == name.startswith(GBK)


def test_other_readers_of_folders_show_them_too(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/" + GBK)
    for read in (lambda: entries(str(tmp_path)), lambda: list(walk(str(tmp_path))), lambda: PairsDataset(str(tmp_path))):
        with pytest.raises(DataError, match=r"\\xd5\\xfd.*possibly GBK '正位'"):
            read()


# ---- text that is odd ----


@pytest.mark.parametrize("end", [CR, LF, CRLF])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_tables_of_any_line_end_and_encoding_are_read(root, tmp_path, end, encoding, separator):
    """Excel on a Mac writes lone CRs; as 'Unicode text', UTF-16 with tabs."""
    rows = [("cat/a.png", "甲"), ("cat/sub/b .png", "甲"), ("dog/c.png", "乙")]
    text = end.join(map(separator.join, [("path", "group"), *rows, ("",)]))
    (tmp_path / "groups.csv").write_bytes(text.encode(encoding))
    assert [c.group for c in ImageFolderDataset(str(root), groups=str(tmp_path / "groups.csv")).cases] == ["甲", "甲", "乙"]
    (root / "pairs.csv").write_bytes(text.replace("path", "filepath").replace("group", "title").encode(encoding))
    assert [c.id for c in PairsDataset(str(root / "pairs.csv")).cases] == [image for image, _ in rows]
    (tmp_path / "list.csv").write_bytes(text.encode(encoding))
    assert read_class_list(tmp_path / "list.csv")["dog/c.png"] == ["乙"] == [read_annotations(tmp_path / "list.csv")["dog/c.png"]]


def test_the_line_of_a_wrong_row_is_right_with_every_line_end(root, tmp_path):
    for end in (CR, LF, CRLF):
        (tmp_path / "groups.csv").write_bytes(end.join(["path,group", '"cat/a.png","p', 'q"', "", "cow/x.png,p"]).encode())
        with pytest.raises(DataError, match=r"groups\.csv:5: no image 'cow/x\.png'"):
            ImageFolderDataset(str(root), groups=str(tmp_path / "groups.csv"))


ODD_JSON = {
    "a key twice": ('{KEY: "x",\n KEY: "y"}', "in one object. Keep one"),
    "half of a surrogate pair": ('{KEY: "\\ud800"}', r"ud800 is half of a surrogate pair"),
    "5000 digits": ("{KEY: " + "1" * 5_000 + "}", "a number is too long"),
    "deep": ("[" * 100_000, "not valid JSON"),
}


@pytest.mark.parametrize("case", ODD_JSON)
def test_json_that_means_nothing_or_two_things_is_refused_by_every_reader(root, tmp_path, case):
    text, words = ODD_JSON[case]
    path = tmp_path / "odd.json"
    path.write_text(text.replace("KEY", '"cat"'))
    for read in (
        lambda: ImageFolderDataset(str(root), class_texts=str(path)),
        lambda: read_class_list(path),
        lambda: read_annotations(path),
    ):
        with pytest.raises(DataError, match=rf"odd\.json.*{words}"):
            read()
    path.write_text(f"[{text.replace('KEY', json.dumps('image_path'))}]")
    with pytest.raises(DataError, match=rf"odd\.json.*{words}"):
        PairsDataset(str(path))
