"""Facts of single files: each planted fault is found in the file that has it, and in no other."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets.inspection.image_facts import FileFact
from clipzoo.errors import DataError


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def plant(folder, pictures):
    """``plant('a/x.jpg', content)``: a further file."""

    def write(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return name

    return write


def test_clean_files_have_no_finding(checked):
    report = checked()
    assert [finding.check for finding in report.findings] == []
    assert len(report.facts) == 24 and {(f.kind, f.mode, f.bits, f.width, f.orientation) for f in report.facts} == {
        ("PNG", "RGB", 8, 64, 1)
    }


def test_every_damaged_file_is_listed_and_stops_nothing(checked, plant, pictures, names):
    whole = encoded(pictures(100), "JPEG")
    empty = [plant("a/empty.png", b""), plant("b/empty too.jpg", b"")]
    cut = [plant("a/cut.jpg", whole[: len(whole) // 2]), plant("b/cut.png", encoded(pictures(101), "PNG")[:3000])]
    other = [plant("a/text.png", b"not an image at all")]
    report = checked()
    assert sorted(names(report, "unreadable")) == sorted((name,) for name in [*empty, *cut, *other])
    refused = [finding.what for finding in report.findings if finding.check == "refused"]
    assert len(refused) == 2 and "zero bytes" in refused[0] and "not an image" in refused[1]
    assert sum(not fact.error for fact in report.facts) == 24


def test_outside_of_the_check_such_files_are_refused_as_before(folder, plant):
    from clipzoo.registries import DATASETS

    plant("a/empty.png", b"")
    with pytest.raises(DataError, match="zero bytes"):
        DATASETS.build({"type": "ImageFolderDataset", "root": str(folder)})


def test_a_truncated_test_image_is_found(checked, folder, pictures, names, tmp_path):
    test = tmp_path / "test"
    for name in "ab":
        (test / name).mkdir(parents=True)
        pictures(200 + ord(name)).save(test / name / "1.jpg")
    content = (test / "b" / "1.jpg").read_bytes()
    (test / "b" / "1.jpg").write_bytes(content[: len(content) // 2])
    report = checked(dataset={"test_root": str(test)}, splits={"type": "AsGiven"})
    assert names(report, "unreadable") == [("test/b/1.jpg",)]


def test_a_copy_in_the_test_part_is_found_although_the_data_cannot_be_split(checked, folder, names, tmp_path):
    for name in "ab":
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "1.png").write_bytes(next((folder / name).glob("0*.png")).read_bytes())
    report = checked(dataset={"test_root": str(tmp_path / "test")}, splits={"type": "AsGiven"})
    assert len(names(report, "copies_leak")) == 2 and "folds" in {finding.check for finding in report.findings}


def test_files_that_end_too_early_but_can_be_decoded(checked, plant, pictures, names):
    """A JPEG whose end an interrupted copy has filled with zeros, and a PNG without its end marker."""
    jpeg, png = encoded(pictures(100), "JPEG"), encoded(pictures(101), "PNG")
    filled = jpeg[: len(jpeg) // 2] + bytes(9 * len(jpeg))
    planted = [plant("a/filled.jpg", filled), plant("b/no end.png", png[:-12])]
    assert names(checked(), "truncated") == [(name,) for name in planted]


def test_previews_and_trailing_data_are_no_damage(checked, plant, pictures):
    exif = b"Exif\0\0" + encoded(pictures(7).resize((16, 16)), "JPEG")
    plant("a/preview.jpg", encoded(pictures(100), "JPEG", exif=exif) + b"made by a scanner")
    assert checked().findings == ()


def test_kind_depth_and_orientation(checked, plant, pictures, names):
    grey16 = Image.fromarray((np.asarray(pictures(3).convert("L")).astype(np.uint16) * 13)[:, ::-1].copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    planted = {
        "ending": plant("a/png.jpg", encoded(pictures(100), "PNG")),
        "cmyk": plant("a/cmyk.jpg", encoded(pictures(101).convert("CMYK"), "JPEG")),
        "mixed_depth": plant("b/deep.png", encoded(grey16.rotate(90), "PNG")),
        "orientation": plant("b/turned.jpg", encoded(pictures(102), "JPEG", exif=exif)),
        "tiny": plant("b/tiny.png", encoded(pictures(103).resize((12, 60)), "PNG")),
        "flat": plant("b/flat.png", encoded(Image.new("RGB", (64, 64), (9, 9, 9)), "PNG")),
    }
    report = checked()
    assert {check: names(report, check) for check in planted} == {check: [(name,)] for check, name in planted.items()}
    assert {finding.check for finding in report.findings} == planted.keys()


def test_a_huge_image_is_found(checked, plant, names):
    strip = np.random.default_rng(0).integers(0, 255, (64, 8100), dtype=np.uint8)
    plant("a/long.png", encoded(Image.fromarray(strip), "PNG"))
    assert names(checked(), "huge") == [("a/long.png",)]


@pytest.mark.parametrize(
    ("path", "kind", "wrong"),
    [("a.JPG", "JPEG", False), ("a.jpeg", "JPEG", False), ("a.png", "DICOM", True), ("a", "DICOM", False), ("a.dcm", "DICOM", False)]
    + [("a.png", "TIFF", True), ("a.tiff", "TIFF", False), ("a.png", "", False)],
)
def test_endings(path, kind, wrong):
    assert FileFact("x", path, kind=kind).wrong_ending == wrong


def test_the_number_of_threads_changes_nothing(checked):
    one, four = checked(workers=1), checked(workers=4)
    assert [(f.id, f.pixels, f.digest) for f in one.facts] == [(f.id, f.pixels, f.digest) for f in four.facts]


def test_nothing_but_damaged_files(checked, folder, names):
    from clipzoo.doctor.page import page
    from clipzoo.doctor.report import text

    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    report = checked()
    assert len(names(report, "unreadable")) == 24 and "24" in text(report) and "<img" not in page(report)


def test_an_empty_file_of_tiny_imagenet(tmp_path):
    from tiny_imagenet_layout import write_tiny_imagenet

    from clipzoo.config import Config
    from clipzoo.datasets.files.checks import refuse
    from clipzoo.doctor.check import check_data

    root = tmp_path / "tiny-imagenet-200"
    write_tiny_imagenet(root, 4, 2, names={f"n{k:08}": [f"name {k}"] for k in range(3)})
    empty = next(root.glob("train/*/images/*.JPEG"))
    empty.write_bytes(b"")
    dataset = {"type": "TinyImageNetDataset", "root": str(root), "split": "trainval", "num_classes": 3}
    report = check_data(Config.from_dict({"data": {"dataset": dataset}, "splits": {"type": "AsGiven"}}, "tiny"))
    assert [fact.id for fact in report.facts if fact.error] == [str(empty.relative_to(root))]
    assert "refused" in {finding.check for finding in report.findings}
    with pytest.raises(DataError, match="after the check"):
        refuse("after the check")
