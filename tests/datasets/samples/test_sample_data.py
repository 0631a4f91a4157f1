import csv
import json
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets import ImageFolderDataset, TableDataset
from clipzoo.datasets.samples.phantoms import CLASS_TEXTS, FINDINGS, make_patients
from clipzoo.datasets.samples.sample_data import DIGIT_TEXTS, create_sample_dataset
from clipzoo.datasets.samples.scenes import SIDE, draw_scene, located_scene
from clipzoo.errors import DataError

SMALL = {"digits": 30, "hip": 14, "pairs": 12}


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {kind: create_sample_dataset(folder / kind, kind, count, seed=3) for kind, count in SMALL.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "pairs", pytest.param("hip", marks=pytest.mark.slow)])
def test_same_seed_same_files(made, tmp_path, kind):
    ticks = []
    again = create_sample_dataset(tmp_path / "again", kind, SMALL[kind], seed=3, progress=lambda *t: ticks.append(t))
    assert contents(again) == contents(made[kind])
    assert ticks == [(i, SMALL[kind]) for i in range(1, SMALL[kind] + 1)]
    assert [p.name for p in tmp_path.iterdir()] == ["again"]
    other = create_sample_dataset(tmp_path / "other", kind, SMALL[kind], seed=4)
    assert contents(other) != contents(again)


def test_readmes_say_where_the_images_come_from(made):
    for kind, words in (("digits", "scikit-learn"), ("hip", "drawn by a program"), ("pairs", "drawn by a program")):
        assert words in (made[kind] / "README.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_all_digits_are_the_real_ones(tmp_path):
    from sklearn.datasets import load_digits

    root = create_sample_dataset(tmp_path / "digits")
    dataset = ImageFolderDataset(str(root / "images"), class_texts=str(root / "class_texts.json"))
    digits = load_digits()
    assert len(dataset) == 1797 and dataset.classes == tuple(DIGIT_TEXTS) and len(dataset.captions) == 10
    assert np.bincount(dataset.labels).tolist() == np.bincount(digits.target).tolist()
    for row in range(0, 1797, 150):
        index = int(dataset.cases[row].id[-8:-4])
        assert digits.target[index] == dataset.labels[row]
        with Image.open(dataset.path_of(row)) as image:
            assert image.mode == "L" and image.size == (32, 32)
            back = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float) * 16 / 255
        assert np.corrcoef(back.ravel(), digits.images[index].ravel())[0, 1] > 0.9


def test_a_part_of_the_digits_is_even(made):
    counts = Counter(p.parent.name for p in (made["digits"] / "images").glob("*/*.png"))
    assert counts == {name: 3 for name in DIGIT_TEXTS}


def test_hip_files(made):
    root = made["hip"]
    dataset = ImageFolderDataset(str(root / "images"), class_texts=str(root / "class_texts.json"), groups=str(root / "groups.csv"))
    assert len(dataset) == 14 and set(dataset.classes) == set(CLASS_TEXTS) and len(dataset.captions) == 12
    by_name = ImageFolderDataset(str(root / "images"), group_pattern="^(P[0-9]+)_")
    assert [c.group for c in by_name.cases] == [c.group for c in dataset.cases]
    with open(root / "groups.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 14
    for row in range(14):
        with Image.open(dataset.path_of(row)) as image:
            assert image.mode in ("I", "I;16") and image.width != image.height and 240 <= min(image.size) <= max(image.size) <= 330
            values = np.asarray(image)
        assert 255 < values.max() <= 4095 and len(np.unique(values)) > 500
        pixels = np.asarray(dataset.read_image(row))[..., 0]
        assert pixels.max() == 255 and pixels.min() == 0 and 20 < pixels.mean() < 150


def test_the_findings_of_the_radiographs_are_those_of_the_drawings(made):
    table = TableDataset(str(made["hip"] / "findings.csv"), findings=list(FINDINGS), hide_groups=False)
    folders = ImageFolderDataset(str(made["hip"] / "images"), groups=str(made["hip"] / "groups.csv"))
    assert [c.id.removeprefix("images/") for c in table.cases] == [c.id for c in folders.cases]
    assert [c.group for c in table.cases] == [c.group for c in folders.cases] and table.classes == tuple(FINDINGS)
    for case, label in zip(table.cases, folders.labels, strict=True):
        texts = "".join(CLASS_TEXTS[folders.classes[label]])
        assert case.findings[3] == ("钢丝" in texts and "标记丝" not in texts)  # wires, but not the marker of a plastic cup
        assert case.findings[0] == (folders.classes[label] == "骨水泥型全髋") and case.findings[2] == ("没有股骨柄" not in texts)
    assert (table.findings.sum(axis=0) > 0).all() and (table.findings.sum(axis=0) < 14).all()


def test_patients():
    patients = make_patients(240, 0)
    assert len(patients) == 60 and sum(p.num_views for p in patients) == 240 and len({p.id for p in patients}) == 60
    assert {p.num_views for p in patients} >= {2, 4, 6} and max(p.num_views for p in patients) == 6
    images, people = defaultdict(int), Counter(p.class_name for p in patients)
    for p in patients:
        images[p.class_name] += p.num_views
    assert set(people) == set(CLASS_TEXTS) and min(people.values()) >= 5  # enough for five folds
    assert max(images.values()) > 2 * min(images.values())  # uneven
    for count in (6, 7, 100, 1000):
        assert sum(p.num_views for p in make_patients(count, 1)) == count


def test_views_of_a_patient_differ(made):
    by_patient = defaultdict(list)
    for path in (made["hip"] / "images").glob("*/*.png"):
        by_patient[path.name[:4]].append(path.read_bytes())
    assert max(map(len, by_patient.values())) > 1
    assert all(len(set(views)) == len(views) for views in by_patient.values())


def test_pairs_files(made):
    root = made["pairs"]
    chinese = json.loads((root / "captions.json").read_text(encoding="utf-8"))
    english = json.loads((root / "captions_en.json").read_text(encoding="utf-8"))
    assert len(chinese) == len(english) == 12
    colours = {"红色": "red", "橙色": "orange", "黄色": "yellow", "绿色": "green", "蓝色": "blue", "purple": "purple", "紫色": "purple"}
    for row, row_en in zip(chinese, english, strict=True):
        assert row["image_path"] == row_en["image_path"]
        path = root / row["image_path"]
        with Image.open(path) as image:
            assert image.format == "JPEG" and image.mode == "RGB"
        assert (root / "captions" / f"{path.stem}.txt").read_text(encoding="utf-8").strip() == row["caption"]
        assert all((zh in row["caption"]) <= (en in row_en["caption"]) for zh, en in colours.items())


def test_captions_of_pairs_are_true(tmp_path):
    root = create_sample_dataset(tmp_path / "pairs", "pairs", 80)
    checked = 0
    for row in json.loads((root / "captions_en.json").read_text(encoding="utf-8")):
        if " and " in row["caption"]:
            continue
        pixels = np.asarray(Image.open(root / row["image_path"]).convert("RGB"), float)
        figure = pixels.max(axis=2) - pixels.min(axis=2) > 80  # the paper is pale
        y, x = (axis.mean() / 160 for axis in np.nonzero(figure))
        assert ("left" in row["caption"]) == (x < 0.4) and ("right" in row["caption"]) == (x > 0.6), row
        assert ("upper" in row["caption"]) == (y < 0.4) and ("lower" in row["caption"]) == (y > 0.6), row
        rows = np.flatnonzero(figure.any(axis=1))
        assert ("large" in row["caption"]) == (rows[-1] - rows[0] > 37), row
        red, green, blue = pixels[figure].mean(axis=0)
        if " red " in row["caption"]:
            assert red > 1.5 * green and red > 1.5 * blue
        if " blue " in row["caption"]:
            assert blue > 1.5 * red
        checked += 1
    assert checked > 30


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is not empty"):
        create_sample_dataset(tmp_path / "data", "pairs", 2)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not empty"):
        create_sample_dataset(tmp_path / "file", "pairs", 2)
    (tmp_path / "empty").mkdir()
    assert (create_sample_dataset(tmp_path / "empty", "pairs", 2) / "README.txt").is_file()


def test_boxes_of_scenes_hold_their_shapes_and_little_else():
    """Shapes are saturated, the paper is pale: whatever is strongly coloured lies in a box, and every box is full of it."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    for number in range(1, 25):
        scene = located_scene(4, number)
        assert np.array_equal(scene.image, draw_scene(4, number)[0]) and len(scene.boxes) == len(scene.figures)
        pixels = np.asarray(scene.image).astype(int)
        coloured = pixels.max(axis=2) - pixels.min(axis=2) > 70
        covered = np.zeros_like(coloured)
        for left, top, right, bottom in scene.boxes:
            inside = (columns > left) & (columns < right) & (rows > top) & (rows < bottom)
            assert coloured[inside].mean() > 0.2
            covered |= inside
        assert not (coloured & ~covered).any()


def test_all_or_nothing(tmp_path):
    def stop(done, count):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_sample_dataset(tmp_path / "data", "pairs", 5, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind, count", [("digits", 5), ("digits", 1798), ("hip", 3), ("pairs", 0)])
def test_impossible_numbers(tmp_path, kind, count):
    with pytest.raises(DataError, match=f"num_samples={count}"):
        create_sample_dataset(tmp_path / "data", kind, count)
    assert list(tmp_path.iterdir()) == []


def test_unknown_kind_and_unwritable_folder(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        create_sample_dataset(tmp_path / "data", "digit")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        create_sample_dataset(tmp_path / "file" / "data", "pairs", 2)


def test_needs_no_torch():
    modules = "clipzoo.datasets.samples.sample_data, clipzoo.datasets.samples.phantoms, clipzoo.datasets.transforms"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
