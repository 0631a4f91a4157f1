"""Several images per case: which images make a case, and batches of them."""

import os
import shutil

import numpy as np
import pytest
import torch

from clipzoo.datasets import ImageFolderDataset, PairsDataset, TableDataset, Views
from clipzoo.datasets.batches.epochs import Draw
from clipzoo.datasets.batches.loader import CaseReader, eval_loader
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine import fingerprint
from clipzoo.errors import ConfigError, DataError
from clipzoo.structures import Preprocessing

PREPROCESSING = Preprocessing(size=16)


@pytest.fixture
def table(tmp_path, class_folders):
    """Seven images of three patients in four examinations, one of them with a single image."""
    rows = ["path,label,patient,exam,sex,view"]
    images = sorted(class_folders.rglob("*.png"))
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (patient, exam, view) in enumerate(
        [("A", "A1", "2"), ("A", "A1", "10"), ("A", "A2", "1"), ("B", "B1", "1"), ("B", "B1", "2"), ("B", "B1", "3"), ("C", "", "1")]
    ):
        shutil.copy(images[number], folder / f"{exam or 'C0'}_{view}.png")
        label = "脱位" if patient == "B" else "正常"
        rows.append(f"images/{exam or 'C0'}_{view}.png,{label},{patient},{exam},{'女' if patient == 'A' else ''},{view}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "labels.csv"


def images_of(table, **options):
    return TableDataset(str(table), group_key="patient", attributes=["exam", "sex", "view"], **options)


def names(data):
    """Names of the images of every case, by the name of the first."""
    return {
        os.path.basename(case.id): [data.single_images.cases[i].id.split("/")[-1] for i in data.image_rows(row)]
        for row, case in enumerate(data.cases)
    }


def test_a_group_or_the_images_of_one_examination_are_a_case(table):
    images = images_of(table)
    by_group, by_exam = Views(images), Views(images, "exam")
    assert names(by_group) == {
        "A1_2.png": ["A1_2.png", "A1_10.png", "A2_1.png"],
        "B1_1.png": ["B1_1.png", "B1_2.png", "B1_3.png"],
        "C0_1.png": ["C0_1.png"],
    }
    assert names(by_exam) == {
        "A1_2.png": ["A1_2.png", "A1_10.png"],
        "A2_1.png": ["A2_1.png"],
        "B1_1.png": ["B1_1.png", "B1_2.png", "B1_3.png"],
        "C0_1.png": ["C0_1.png"],
    }
    assert [by_exam.classes[label] for label in by_exam.labels] == ["正常", "正常", "脱位", "正常"]
    assert {case.group for case in by_exam.cases} == {case.group for case in images.cases}
    assert by_group.attributes["sex"] == {"images/A1_2.png": "女"} and "images/A1_2.png" not in by_group.attributes["view"]
    assert "7 images make 3 cases, of 1 to 3 images, 2 with several" in by_group.describe()[-1]
    assert [by_group.captions_of(row) for row in range(3)] == [by_group.class_captions()[label] for label in by_group.labels]


def test_images_of_a_case_must_agree(table):
    text = table.read_text(encoding="utf-8").replace("A2_1.png,正常", "A2_1.png,脱位")
    table.write_text(text, encoding="utf-8")
    images = images_of(table)
    assert len(Views(images, "exam")) == 4
    with pytest.raises(DataError, match="data.views: 'images/A1_2.png' and 'images/A2_1.png' are of one group, .* their classes differ"):
        Views(images)
    with pytest.raises(DataError, match="with the same 'sex', .* their classes differ"):
        Views(images, "sex")
    with pytest.raises(
        ConfigError, match=r"data.views: there is no attribute 'exams'. Did you mean 'exam'\? Known: group, exam, sex, view"
    ):
        Views(images, "exams")


def test_a_copy_in_two_patients_joins_their_groups_and_not_their_cases(table):
    images = table.parent / "images"
    shutil.copy(images / "A2_1.png", images / "C0_1.png")
    data = Views(images_of(table))
    assert [len(data.image_rows(row)) for row in range(3)] == [3, 3, 1]
    assert data.cases[0].group == data.cases[2].group != data.cases[1].group


def test_an_examination_is_within_a_patient_and_needs_none(table):
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace(",A2,", ",1,").replace(",A1,", ",2,").replace(",B1,", ",1,"), encoding="utf-8")
    by_visit = Views(images_of(table), "exam")
    assert sorted(len(by_visit.image_rows(row)) for row in range(4)) == [1, 1, 2, 3]
    assert "exam" not in by_visit.attributes and "exam" in by_visit.single_images.attributes
    table.write_text(text.replace("patient", "other"), encoding="utf-8")
    data = Views(TableDataset(str(table), attributes=["exam"]), "exam")
    assert sorted(len(data.image_rows(row)) for row in range(4)) == [1, 1, 2, 3]
    assert len({case.group for case in data.cases}) == 4


def test_findings_and_captions_of_several_images(tmp_path, table):
    lines = table.read_text(encoding="utf-8").splitlines()
    with_findings = [lines[0] + ",a,b", *(f"{line},{i < 3:d},{i > 2:d}" for i, line in enumerate(lines[1:]))]
    table.write_text("\n".join(with_findings), encoding="utf-8")
    data = Views(TableDataset(str(table), group_key="patient", findings=["a", "b"]))
    assert data.task == "findings" and data.findings.tolist() == [[1, 0], [0, 1], [0, 1]]
    pairs = "\n".join(
        ["image_path,caption,patient", *(f"images/{n},第{i}句,{n[0]}" for i, n in enumerate(["A1_2.png", "A1_10.png", "B1_1.png"]))]
    )
    (tmp_path / "pairs.csv").write_text(pairs, encoding="utf-8")
    data = Views(PairsDataset(str(tmp_path / "pairs.csv"), group_key="patient"))
    assert [[data.captions.sentences[i] for i in data.captions_of(row)] for row in range(2)] == [["第0句", "第1句"], ["第2句"]]


def test_a_batch_holds_all_images_of_its_cases(table):
    data = Views(images_of(table))
    transform = evaluation_transform(PREPROCESSING)
    loader = eval_loader(data, np.array([1, 2, 0]), transform, batch_size=2, num_workers=0, pin_memory=False)
    first, second = loader
    assert (
        first.cases.tolist() == [1, 2] and first.num_images.tolist() == [3, 1] and len(first) == 2 and first.images.shape == (4, 3, 16, 16)
    )
    assert second.num_images.tolist() == [3]
    for image, row in zip(
        torch.cat([first.images, second.images]), [*data.image_rows(1), *data.image_rows(2), *data.image_rows(0)], strict=True
    ):
        assert torch.equal(image, transform(data.single_images.read_image(row)))


def test_training_draws_some_of_many_images(table):
    data = Views(images_of(table), most=2)
    transform = evaluation_transform(PREPROCESSING)
    every = [transform(data.single_images.read_image(i)) for i in data.image_rows(0)]
    reader = CaseReader(data, transform, data.most_images)
    drawn = set()
    for seed in range(30):
        row, images, _ = reader[Draw(0, seed)]
        chosen = [next(i for i, image in enumerate(every) if torch.equal(image, found)) for found in images]
        assert row == 0 and len(set(chosen)) == 2 and torch.equal(images, reader[Draw(0, seed)][1])
        drawn.update(chosen)
    assert drawn == {0, 1, 2} and len(reader[Draw(2, 0)][1]) == 1
    loader = eval_loader(data, np.arange(3), transform, batch_size=3, num_workers=0, pin_memory=False)
    assert next(iter(loader)).num_images.tolist() == [3, 3, 1]


def test_an_image_that_moves_to_another_case_is_noticed(table):
    before = fingerprint.of(Views(images_of(table), "exam"))
    assert len(before.cases) == 7 and fingerprint.of(Views(images_of(table), "exam"), before).digest == before.digest
    table.write_text(table.read_text(encoding="utf-8").replace("A1_10.png,正常,A,A1", "A1_10.png,正常,A,A2"), encoding="utf-8")
    after = fingerprint.of(Views(images_of(table), "exam"))
    assert fingerprint.differences(before, after) == ["groups of 2 cases (images/A1_10.png, images/A2_1.png)"]


def test_without_groups_every_image_is_a_case(class_folders):
    views = Views(ImageFolderDataset(str(class_folders)))
    assert len(views) == len(views.single_images) == 36 and "none with several" in views.describe()[-1]
