"""DICOM in every kind of dataset, and in a run: no identifier of a patient is in any file that is written."""

import re

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image
from tiny import tiny_config

from clipzoo.datasets import ImageFolderDataset, PairsDataset, TableDataset
from clipzoo.datasets.pseudonyms import SALT_FILE
from clipzoo.errors import ConfigError, DataError


def picture(label, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:24, :24]
    shape = (np.abs(rows - 12) < 6) if label else ((rows - 12) ** 2 + (columns - 12) ** 2 < 40)
    return (3000 * shape + rng.integers(0, 800, (24, 24))).astype(np.uint16)


def patient(n):
    return {
        "PatientID": f"ZY{n:06d}",
        "PatientName": f"Zhangsan{n}^Wu=张三{n}",
        "PatientBirthDate": f"19{50 + n}0704",
        "StudyInstanceUID": f"1.2.840.99999.{n}",
        "AccessionNumber": f"ACC77{n:04d}",
        "PatientSex": "MF"[n % 2],
        "PatientAge": f"0{30 + 10 * (n % 3)}Y",
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes with 12 patients of two views each; half of the files have no ending."""
    folder = tmp_path_factory.mktemp("dicom") / "images"
    for n in range(24):
        for v, view in enumerate(("AP", "LL")):
            name = f"{n:02d}_{v}" + (".dcm" if n % 4 < 2 else "")
            write_dicom(folder / ("松动" if n % 2 else "正常") / name, picture(n % 2, 2 * n + v), ViewPosition=view, **patient(n // 2 * 2))
    (folder / "松动" / "DICOMDIR").write_bytes(bytes(128) + b"DICM\2\0\2\0UI\x14\0" + b"1.2.840.10008.1.3.10")
    return folder


def test_class_folders(root):
    data = ImageFolderDataset(str(root))
    assert len(data) == 48 and data.classes == ("松动", "正常") and data.notes == ("files that are no images were ignored: 1 DICOMDIR",)
    groups = {case.group for case in data.cases}
    assert len(groups) == 12 and all(re.fullmatch("patient-[0-9a-f]{16}", group) for group in groups)
    assert {name: sorted(set(values.values())) for name, values in data.attributes.items()} == {
        "view": ["AP", "LL"],
        "age": ["30-39", "40-49", "50-59"],
    }
    image = np.asarray(data.read_image(0))
    assert image.shape == (24, 24, 3) and image.min() == 0 and image.max() == 255
    assert data.source_of(0) == str(data.path_of(0))


def test_given_groups_and_attributes_win(root, tmp_path):
    assert ImageFolderDataset(str(root), group_pattern="^(..)_").cases[0].group == "01"
    ids = [case.id for case in ImageFolderDataset(str(root)).cases]
    (tmp_path / "groups.csv").write_text("\n".join(["path,group", *(f"{i},g{n % 5}" for n, i in enumerate(ids))]), encoding="utf-8")
    (tmp_path / "attributes.csv").write_text(f"path,view,scanner\n{ids[0]},oblique,A\n", encoding="utf-8")
    data = ImageFolderDataset(str(root), groups=str(tmp_path / "groups.csv"), attributes=str(tmp_path / "attributes.csv"))
    assert {case.group for case in data.cases} == {"g0", "g1", "g2", "g3", "g4"}
    assert data.attributes["view"] == {ids[0]: "oblique"} and data.attributes["scanner"] == {ids[0]: "A"} and "age" in data.attributes


def test_a_table_and_pairs(root, tmp_path):
    ids = [case.id for case in ImageFolderDataset(str(root)).cases]
    salt = str(root / SALT_FILE)
    (tmp_path / "t.csv").write_text("\n".join(["路径,标签", *(f"{i},{i[:2]}" for i in ids)]), encoding="gbk")
    table = TableDataset(str(tmp_path / "t.csv"), image_root=str(root), salt=salt)
    (tmp_path / "p.csv").write_text("\n".join(["path,caption", *(f"{i},一张{i[:2]}的图" for i in ids)]), encoding="utf-8")
    pairs = PairsDataset(str(tmp_path / "p.csv"), image_root=str(root), salt=salt)
    folders = ImageFolderDataset(str(root))
    for data in (table, pairs):
        assert [case.group for case in data.cases] == [case.group for case in folders.cases] and data.attributes == folders.attributes
    (tmp_path / "t.csv").write_text("\n".join(["路径,标签,患者", *(f"{i},{i[:2]},{i[3:5]}" for i in ids)]), encoding="utf-8")
    assert len({case.group for case in TableDataset(str(tmp_path / "t.csv"), image_root=str(root), salt=salt).cases}) == 24


def test_commands_find_dicom_files_in_folders(root):
    from clipzoo.cli.predict import image_files
    from clipzoo.inference.index import scan

    found = image_files([str(root / "松动")])
    assert len(found) == 24 and not any("DICOMDIR" in name for name in found)
    assert len(scan(root)[0]) == 48


def test_a_copy_in_another_format_is_refused(tmp_path):
    for n, name in enumerate(["a/1", "a/2", "b/3"]):
        write_dicom(tmp_path / name, picture(0, n), **patient(n))
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "b" / "9.png")
    data = ImageFolderDataset(str(tmp_path))
    assert len(data) == 4 and data.cases[3].group == data.cases[3].id == "b/9.png"
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "a" / "2.png")
    with pytest.raises(DataError, match=r"a/2\.png: has the name of the DICOM file .*a/2 and is probably a copy of it\. Remove one"):
        ImageFolderDataset(str(tmp_path))


def test_reports_without_pixels_and_empty_files_are_refused(tmp_path):
    write_dicom(tmp_path / "a" / "1", picture(0, 1))
    write_dicom(tmp_path / "a" / "SR", picture(0, 2), Rows=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    with pytest.raises(DataError, match=r"a/SR: a DICOM file, Basic Text SR, without pixels\. Remove it from the images$"):
        ImageFolderDataset(str(tmp_path))
    (tmp_path / "a" / "SR").unlink()
    (tmp_path / "a" / "2.dcm").write_bytes(b"")
    with pytest.raises(DataError, match=r"2\.dcm: the file is empty"):
        ImageFolderDataset(str(tmp_path))


def test_a_chosen_frame_is_the_image_everywhere(tmp_path):
    for n in range(2):
        write_dicom(tmp_path / "a" / f"{n}", np.stack([picture(0, n), picture(1, n)]), **patient(n))
    with pytest.raises(
        DataError, match=r"a/0: has 2 frames, not one\. Set data\.dataset\.frame .*\(and 1 more files that cannot be used\)"
    ):
        ImageFolderDataset(str(tmp_path))
    first, second = (ImageFolderDataset(str(tmp_path), frame=n) for n in (1, 2))
    assert first.source_of(0) is None and first.content_digest(0) != second.content_digest(0)
    assert (np.asarray(first.read_image(0)) != np.asarray(second.read_image(0))).any()
    with pytest.raises(ConfigError, match="frame: 0 is not a whole number of 1 or more"):
        ImageFolderDataset(str(tmp_path), frame=0)


def test_nothing_that_a_run_writes_names_a_patient(root, tmp_path, quiet, monkeypatch):
    """Work dir, cache and messages of a training with a frozen image tower, whose features are cached."""
    import timm
    import torch

    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.records.folds import Folds

    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    sections = tiny_config(
        root,
        train={"epochs": 1},
        splits={"num_folds": 2},
        hooks=[{"type": "HistoryHook"}, {"type": "MetricsCSVHook"}],
    )
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "tower.pth")
    sections["model"]["image_encoder"] |= {"freeze": "all", "pretrained": str(tmp_path / "tower.pth")}
    sections["data"]["augmentation"] = "none"
    summary = CrossValidation(Config.from_dict(sections, "dicom"), tmp_path / "work", console=quiet).train()
    assert {row["attribute"] for row in summary.subgroups} == {"view", "age"}
    folds = Folds.read(tmp_path / "work" / "folds.json")
    assert len({case.group for case in folds.cases}) == 12
    secret = (root / SALT_FILE).read_text().strip()
    words = [secret, "Zhangsan", "张三", "1.2.840.99999"]
    for n in range(0, 24, 2):
        words += [patient(n)["PatientID"], patient(n)["PatientBirthDate"], patient(n)["AccessionNumber"]]
    forms = [
        form for word in words for form in (word.encode(), word.encode("utf-16-le"), word.encode("gb18030"), ascii(word)[1:-1].encode())
    ]
    written = [path for folder in ("work", "cache") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(written) > 15 and any("features" in str(path) for path in written)
    for path in written:
        content = path.read_bytes()
        assert not [form for form in forms if form in content], path
