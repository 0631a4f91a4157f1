"""Classes, folds and patients; the report as text and JSON."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from clipzoo.doctor.findings import Finding, exit_status, ordered
from clipzoo.doctor.page import page
from clipzoo.doctor.report import text, write
from clipzoo.doctor.words import SENTENCES, Words


def test_a_class_too_small_for_the_folds_is_an_error(checked, folder):
    for path in sorted((folder / "b").iterdir())[2:]:
        path.unlink()
    report = checked()
    (finding,) = [finding for finding in report.findings if finding.check == "absent"]
    assert finding.level == "error" and finding.what.startswith("class 'b' (2 groups) is missing from the test part of fold_")
    (imbalance,) = [finding for finding in report.findings if finding.check == "imbalance"]
    assert imbalance.level == "note" and "6.0 times" in imbalance.what


def test_a_class_that_cannot_be_split_is_an_error(checked, folder):
    for path in sorted((folder / "b").iterdir())[1:]:
        path.unlink()
    report = checked()
    assert [finding.level for finding in report.findings if finding.check == "folds"] == ["error"]
    assert dict(report.lines)["border"] == "not probed: there are no folds"


def test_data_that_cannot_be_read_at_all(checked, folder):
    report = checked(dataset={"root": str(folder / "nowhere")})
    assert [(f.level, f.check) for f in report.findings] == [("error", "dataset")] and "no such folder" in text(report)
    assert "no such folder" in page(report)


def test_patients_that_the_config_does_not_know(checked, folder):
    for path in list(folder.rglob("*.png")):
        number = int(path.stem)
        path.rename(path.with_name(f"P{number // 4:03d}_{('AP', 'LAT')[number // 2 % 2]}.png"))
    report = checked()
    (finding,) = [finding for finding in report.findings if finding.check == "patients"]
    assert finding.level == "warning" and "group_pattern='^([^_]+)_'" in finding.what
    assert not [f for f in report.findings if f.check == "remark"], "said once"
    assert "patients" not in {f.check for f in checked(dataset={"group_pattern": "^([^_]+)_"}).findings}


def test_several_images_of_a_case(folder):
    """Folds count cases, the check counts images; copies inside a case are no leak."""
    from clipzoo.config import Config
    from clipzoo.doctor.check import check_data

    (folder / "a" / "00_copy.png").write_bytes((folder / "a" / "00.png").read_bytes())
    dataset = {"type": "ImageFolderDataset", "root": str(folder), "group_pattern": r"^(\d\d)"}
    config = {"data": {"dataset": dataset, "views": "group"}, "splits": {"type": "StratifiedGroupKFold", "num_folds": 3}}
    report = check_data(Config.from_dict(config, "views"))
    assert len(report.facts) == 25 and "copies_inside" in {finding.check for finding in report.findings}
    assert not {finding.check for finding in report.findings} & {"copies_leak", "copies_groups"}


def test_pairs_with_captions(tmp_path):
    from tiny import write_pairs

    from clipzoo.config import Config
    from clipzoo.doctor.check import check_data

    root = write_pairs(tmp_path / "pairs")
    (root / "images" / "003.png").write_bytes(b"")
    config = {"data": {"dataset": {"type": "PairsDataset", "path": str(root)}}, "splits": {"type": "KFold", "num_folds": 3}}
    report = check_data(Config.from_dict(config, "pairs"))
    assert [f.id for f in report.facts if f.error] == ["images/003.png"] and len(report.facts) == 24
    assert dict(report.lines)["border"] == "not probed: the images have no single class"


def test_several_labels_per_image(tmp_path, names):
    """Equal images with different findings contradict each other."""
    from finding_files import FINDINGS, write_findings

    from clipzoo.config import Config
    from clipzoo.doctor.check import check_data

    table = write_findings(tmp_path, unknown=0)
    rows = table.read_text(encoding="utf-8").splitlines()
    first = rows[1].split(",")
    for name, last in (("same", first[-1]), ("other", str(1 - int(first[-1])))):
        shutil.copy(tmp_path / "images" / "000.png", tmp_path / "images" / f"{name}.png")
        rows.append(",".join([f"images/{name}.png", first[1], *first[2:-1], last]))
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    dataset = {"type": "TableDataset", "path": str(table), "findings": list(FINDINGS)}
    report = check_data(Config.from_dict({"data": {"dataset": dataset}, "splits": {"type": "StratifiedGroupKFold", "num_folds": 3}}, "f"))
    pairs = {check: names(report, check) for check in ("copies_conflict", "copies_inside")}
    assert sorted(map(len, pairs.values())) == [1, 1] and {"images/other.png"} <= set(pairs["copies_conflict"][0])
    assert [row[0] for row in report.table][:3] == list(FINDINGS) and sum(int(row[1]) for row in report.table) >= 50


def test_the_depth_of_dicom_files_is_that_of_their_values(checked, folder, names):
    from dicom_files import write_dicom

    pytest.importorskip("pydicom")
    rng = np.random.default_rng(0)
    for path in folder.rglob("*.png"):
        path.unlink()
    for number in range(12):
        name = "ab"[number % 2]
        stored, dtype = (12, np.uint16) if number < 4 else (8, np.uint8)
        values = rng.integers(0, 2**stored, (40, 40)).astype(dtype)
        write_dicom(folder / name / f"{number}.dcm", values, PatientID=f"P{number}", BitsStored=stored, HighBit=stored - 1)
    report = checked()
    assert {(fact.kind, fact.mode) for fact in report.facts} == {("DICOM", "MONOCHROME2")}
    assert [fact.bits for fact in sorted(report.facts, key=lambda fact: int(fact.id[2:-4]))] == [12] * 4 + [8] * 8
    assert sorted(names(report, "mixed_depth")) == [("a/0.dcm",), ("a/2.dcm",), ("b/1.dcm",), ("b/3.dcm",)]


def test_a_damaged_dicom_file_stops_nothing(checked, folder, names):
    from dicom_files import write_dicom

    rng = np.random.default_rng(0)
    for number, name in enumerate("ab"):
        write_dicom(folder / name / "x.dcm", rng.integers(0, 4000, (40, 40)).astype(np.uint16), PatientID=f"P{number}")
    content = (folder / "b" / "x.dcm").read_bytes()
    (folder / "b" / "cut.dcm").write_bytes(content[: len(content) - 900])
    (folder / "b" / "no_pixels.dcm").write_bytes(content[:300])
    report = checked()
    assert sorted(names(report, "unreadable")) == [("b/cut.dcm",), ("b/no_pixels.dcm",)]
    assert {fact.kind for fact in report.facts} == {"PNG", "DICOM"} and len(report.facts) == 28


def test_exit_status_and_order():
    note, warning, error = (Finding(level, "x", "y") for level in ("note", "warning", "error"))
    assert [exit_status(found) for found in ([], [note], [note, warning], [warning, error])] == [0, 0, 0, 2]
    assert [exit_status(found, strict=True) for found in ([], [note], [note, warning], [warning, error])] == [0, 0, 1, 2]
    assert ordered([note, error, warning, error]) == [error, error, warning, note]


def test_text_and_json_agree(checked, folder, tmp_path):
    for number in range(7):
        (folder / "a" / f"empty{number}.png").write_bytes(b"")
    report = checked()
    shown = text(report)
    assert "images that cannot be read: 7" in shown and "a/empty0.png: the file is empty" in shown and "… and 2 more" in shown
    write(report, tmp_path / "out" / "here", page(report))
    content = json.loads((tmp_path / "out" / "here" / "data_report.json").read_text(encoding="utf-8"))
    (finding,) = [finding for finding in content["findings"] if finding["check"] == "unreadable"]
    assert finding["num_cases"] == 7 and len(finding["cases"]) == 7 and finding["cases"][0]["images"] == ["a/empty0.png"]
    assert content["counts"] == {"error": 2, "warning": 0, "note": 0}
    assert content["classes"][0] == {"name": "a", "images": 19, "groups": 19, "unreadable": 7, "in_pairs": 0}


@pytest.mark.parametrize("key", SENTENCES)
def test_both_languages_have_the_same_values(key):
    from string import Formatter

    english, chinese = (sorted({field for _, field, _, _ in Formatter().parse(sentence) if field}) for sentence in SENTENCES[key])
    assert english == chinese


def test_chinese(checked, folder):
    (folder / "a" / "x.png").write_bytes(b"")
    report = checked(language="zh")
    assert "1 张图像无法读取" in text(report) and "错误" in text(report) and '<html lang="zh-CN">' in page(report)
    assert Words("zh")("flat", n=3) == "3 张图像只有一种颜色"
