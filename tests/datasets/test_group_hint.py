import re

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets import ImageFolderDataset, PairsDataset, TableDataset
from clipzoo.datasets.files.groups import groups_from_pattern
from clipzoo.datasets.group_hint import group_hint, group_note
from clipzoo.datasets.samples.sample_data import create_sample_dataset

ZH = ("正位", "侧位")


def hint(names, labels=None):
    return group_hint(names, labels or [name.split("/")[0] if "/" in name else 0 for name in names])


PATIENTS = {
    "number and view": ([f"{'ab'[n % 2]}/患者{n:03d}_{v}.png" for n in range(42) for v in ZH], "^([^_]+)_", 42),
    "number and counter": ([f"{'ab'[n % 2]}/P{n:04d}-{v}.png" for n in range(42) for v in (1, 2)], "^([^-]+)-", 42),
    "no separator": ([f"a/患者{n:03d}{v}.png" for n in range(30) for v in ZH], r"^(\D*\d+)", 30),
    "letters": ([f"a/P{n:03d}{v}.png" for n in range(30) for v in "ab"], r"^(\D*\d+)", 30),
    "as Windows numbers copies": ([f"a/{n:03d} ({v}).png" for n in range(30) for v in (1, 2)], "^([^ ]+) ", 30),
    "visits": ([f"a/P{n:03d}_20{n % 20:02d}{m:02d}15.png" for n in range(30) for m in (1 + n % 9, 3 + n % 9)], "^([^_]+)_", 30),
    "few with several": ([f"{'ab'[n % 2]}/{n:05d}_{v}.png" for n in range(90) for v in range(1 + (n % 5 == 0))], "^([^_]+)_", 90),
    "site first": ([f"a/siteA_P{n:03d}_{v}.png" for n in range(30) for v in ("AP", "LL")], r"^(\D*\d+)", 30),
    "Chinese names": ([f"a/{name}_{v}.png" for name in ("张三", "李四", "王五", "赵六") for v in ("术前正位", "术后侧位")], "^([^_]+)_", 4),
    "a folder each": ([f"{'ab'[n % 2]}/p{n}/{v}.png" for n in range(20) for v in range(3)], "^[^/]+/([^/]+)/", 20),
    "folders of patients and studies": ([f"patient{n:05d}/study{s}/view1.jpg" for n in range(40) for s in (1, 2)], "^([^/]+)/", 40),
    "the drawn radiographs": ([f"{'abc'[n % 3]}/P{n:03d}_view{v}.png" for n in range(15) for v in (1, 2, 3, 4)], "^([^_]+)_", 15),
    "slices": ([f"{'ab'[n % 2]}/vol{n}_slice{s:03d}.png" for n in range(20) for s in range(40)], "^([^_]+)_", 20),
}


@pytest.mark.parametrize("kind", PATIENTS)
def test_names_of_patients(kind):
    names, pattern, num_groups = PATIENTS[kind]
    labels = [0] * len(names) if names[0].startswith("patient") else None
    found = hint(names, labels)
    assert (found.pattern, found.num_groups) == (pattern, num_groups)
    groups = groups_from_pattern(found.pattern, names)  # it matches every name
    assert len(set(groups.values())) == num_groups and len({groups[name] for name in found.example}) == 1


OTHERS = {
    "running numbers": [f"img_{n:04d}.png" for n in range(1, 301)],
    "in each class": [f"{c}/img_{n:04d}.png" for c in "abc" for n in range(1, 101)],
    "plain numbers in each class": [f"{c}/{n}.png" for c in "ab" for n in range(100)],
    "class and number": [f"{c}/digit_{c}_{n:04d}.png" for c in range(10) for n in range(30)],
    "class and number, in one folder": [f"digit_{c}_{n:04d}.png" for c in range(10) for n in range(5)],
    "class and number without zeros": [f"{c}/digit_{c}_{n}.png" for c in range(10) for n in range(5)],
    "many per class in one folder": [f"digit_{c}_{n}.png" for c in range(10) for n in range(30)],
    "a camera": [f"IMG_202401{n % 28 + 1:02d}_{n * 7919 % 240000:06d}.jpg" for n in range(100)],
    "ImageNet": [f"n{c:08d}/n{c:08d}_{n}.JPEG" for c in range(10) for n in range(0, 900, 9)],
    "Tiny ImageNet": [f"n{c}/images/n{c}_{n}.JPEG" for c in range(20) for n in range(25)],
    "Tiny ImageNet, val": [f"val_{n}.JPEG" for n in range(180)],
    "class name and number": [f"{c}/{c}{n}.png" for c in ("cat", "dog", "car") for n in range(50)],
    "digests": [f"a/{n * 2654435761 % 2**32:08x}-{n * 40503 % 65536:04x}.png" for n in range(100)],
    "words": [f"a/{colour}_{fruit}.png" for colour in ("red", "green", "blue", "white") for fruit in ("apple", "pear", "plum")],
    "too few": ["P1_AP.png", "P1_LL.png", "P2_AP.png", "P2_LL.png"],
    "one patient": [f"a/P001_{v}.png" for v in "abcdefgh"],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_names_that_are_no_reason_for_a_note(kind):
    names = OTHERS[kind]
    assert hint(names) is None and group_note(names, [name.split("/")[0] for name in names]) == []


def test_the_mini_tiny_imagenet_gives_no_note(repo):
    root = repo.parent / "shared" / "data" / "tiny-imagenet-mini"
    if not root.is_dir():
        pytest.skip("the shared data are not here")
    for part in ("train", "val", "test"):
        names = sorted(str(path.relative_to(root / part)).replace("\\", "/") for path in (root / part).rglob("*.JPEG"))
        assert names and hint(names) is None


@pytest.mark.parametrize("kind", ["digits", "pairs"])
def test_sample_data_without_groups_gives_no_note(tmp_path, kind):
    folder = create_sample_dataset(tmp_path / kind, kind, 20)
    data = PairsDataset(str(folder)) if kind == "pairs" else ImageFolderDataset(str(folder / "images"))
    assert len(data) == 20 and not data.notes


@pytest.fixture
def images(tmp_path):
    for n in range(8):
        for v, view in enumerate(ZH):
            path = tmp_path / "图" / ("松动" if n % 2 else "正常") / f"患者{n:03d}_{view}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 6), 10 * n + v, np.uint8)).save(path)
    return tmp_path / "图"


def test_every_dataset_gives_the_note_until_groups_are_given(images):
    ids = [case.id for case in ImageFolderDataset(str(images)).cases]
    (images / "t.csv").write_text("\n".join(["path,label", *(f"{i},{i[:2]}" for i in ids)]), encoding="utf-8")
    (images / "p.csv").write_text("\n".join(["path,caption", *(f"{i},{i[:2]}" for i in ids)]), encoding="utf-8")
    made = (ImageFolderDataset, str(images)), (TableDataset, str(images / "t.csv")), (PairsDataset, str(images / "p.csv"))
    for dataset, path in made:
        (note,) = dataset(path).notes
        assert "such as 松动/患者001_侧位.png and 松动/患者001_正位.png. If so, set data.dataset" in note
        assert "data.dataset.group_pattern='^([^_]+)_': 16 images, 8 groups" in note
        assert f"note: {note}" in dataset(path).describe()
        data = dataset(path, group_pattern=re.search("pattern='(.*?)'", note).group(1))
        assert not data.notes and len({case.group for case in data.cases}) == 8
