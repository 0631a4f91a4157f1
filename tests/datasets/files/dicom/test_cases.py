import warnings

import numpy as np
import pytest
from dicom_files import write_dicom

from clipzoo.datasets.files.dicom.cases import dicom_among, read_cases
from clipzoo.datasets.files.dicom.header import read_header
from clipzoo.datasets.pseudonyms import SALT_FILE
from clipzoo.errors import DataError

PIXELS = np.arange(6, dtype=np.uint16).reshape(2, 3)


@pytest.fixture(autouse=True)
def no_warnings_of_the_writer():
    """pydicom warns about some of the values that are written here on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def cases(tmp_path):
    """``cases({elements}, …)``: what the headers of files with these elements say; their names are letters."""

    def make(*elements, names="abcdefgh", **arguments):
        paths = {name: str(write_dicom(tmp_path / name, PIXELS, **given)) for name, given in zip(names, elements, strict=False)}
        return read_cases(paths, str(tmp_path), **arguments)

    return make


def test_a_header_in_chinese(tmp_path):
    elements = {"PatientID": "甲-001 ", "PatientName": "张^三", "PatientSex": "F", "PatientAge": "047Y", "ViewPosition": "ap"}
    for charset in ("GB18030", "ISO_IR 192"):
        elements["SpecificCharacterSet"] = charset
        header = read_header(str(write_dicom(tmp_path / "a", PIXELS, ImageLaterality="L", **elements)))
        assert header.patient == "甲-001" and header.study == "1.2.3.4"
        assert header.attributes == {"view": "AP", "laterality": "L", "sex": "F", "age": "40-49"}
        assert not header.annotated
    header = read_header(str(write_dicom(tmp_path / "a", PIXELS, Laterality="R", PatientAge="forty", BurnedInAnnotation="YES")))
    assert header.attributes == {"laterality": "R"} and header.annotated and header.patient == ""


def test_damage_of_a_header_is_one_line_that_names_nobody(tmp_path):
    path = write_dicom(tmp_path / "a", PIXELS, PatientID="SECRET-1", PatientName="SECRET^2", PatientSex="M", ViewPosition="AP")
    content = path.read_bytes()
    rng, outcomes = np.random.default_rng(0), set()
    bad = [content[:n] for n in range(132, len(content), 7)]
    for _ in range(150):
        changed = bytearray(content)
        changed[rng.integers(132, len(content))] = rng.integers(256)
        bad.append(bytes(changed))
    for changed in bad:
        path.write_bytes(changed)
        try:
            outcomes.add(type(read_header(str(path))).__name__)
        except DataError as error:
            assert "\n" not in str(error) and "SECRET" not in str(error)
            outcomes.add("DataError")
    assert outcomes == {"Header", "DataError"}


def test_given_groups_need_no_salt_and_no_notes_on_patients(cases, tmp_path):
    found = cases({}, {"StudyInstanceUID": "1.9", "BurnedInAnnotation": "YES"}, grouped=True)
    assert not found.groups and len(found.notes) == 1 and "burned-in" in found.notes[0] and not (tmp_path / SALT_FILE).exists()


def test_groups_are_patients_under_pseudonyms(cases):
    found = cases({"PatientID": "P001"}, {"PatientID": "P002"}, {"PatientID": "p001 "}, {"PatientID": "P003", "PatientSex": "M"})
    assert found.groups["a"] == found.groups["c"] and len(set(found.groups.values())) == 3 and not found.notes
    assert all(group.startswith("patient-") and "p00" not in group for group in found.groups.values())
    assert found.attributes == {}, "an attribute with a single value says nothing"
    assert cases({"PatientID": "P001"}).groups["a"] == found.groups["a"], "in another run on the same data"


def test_attributes_have_the_known_values(cases):
    found = cases({"PatientID": "1", "PatientSex": "M"}, {"PatientID": "2", "PatientSex": "F", "PatientAge": "071Y"}, {"PatientID": "3"})
    assert found.attributes == {"sex": {"a": "M", "b": "F"}}


def test_without_a_patient_the_study_is_the_group(cases):
    found = cases(
        {"PatientID": "1"}, {"StudyInstanceUID": "1.9"}, {"StudyInstanceUID": "1.9"}, {"StudyInstanceUID": None}, {"PatientID": ""}
    )
    assert set(found.groups) == {"a", "b", "c", "e"} and found.groups["b"] == found.groups["c"] and len(set(found.groups.values())) == 3
    assert found.notes[0] == "4 of 5 DICOM files have no Patient ID: the group is their study"
    assert found.notes[1].startswith("1 DICOM files have neither Patient ID nor study, and each is its own group. If a patient has several")


def test_one_patient_id_for_everybody_is_none(cases):
    same = [{"PatientID": "ANON", "StudyInstanceUID": f"1.2.{n // 2}"} for n in range(6)]
    found = cases(*same)
    assert len(set(found.groups.values())) == 3 and found.groups["a"] == found.groups["b"]
    assert found.notes[0].startswith("all 6 DICOM files have the same Patient ID, so that each of their 3 studies is a group. If a patient")
    assert len(set(cases({"PatientID": "P1"}, {"PatientID": "P1"}).groups.values())) == 1, "one study of one patient is no doubt"


def test_what_may_identify_is_said_without_repeating_it(cases):
    found = cases({"PatientID": "p001234", "BurnedInAnnotation": "YES"}, {"PatientID": "x"}, names=["P001234_ap", "x_ap"])
    assert found.notes[0].startswith("1 DICOM files have burned-in text, which is not removed from their pixels")
    assert found.notes[1].startswith("the names of 1 files or folders contain the Patient ID") and "1234" not in found.notes[1]


def test_files_that_cannot_be_used_are_counted(cases):
    with pytest.raises(DataError, match=r"/b: has 2 frames, not one\. .* \(and 1 more files that cannot be used\)"):
        cases({}, {"NumberOfFrames": 2}, {"Rows": None})
    assert len(cases({"NumberOfFrames": 2}, {"NumberOfFrames": 3}, frame=2).groups) == 2


def test_only_names_without_another_ending_are_opened(tmp_path):
    for name in ("a", "b.dcm", "c.png"):
        write_dicom(tmp_path / name, PIXELS)
    (tmp_path / "d").write_text("text")
    paths = {name: str(tmp_path / name) for name in ("a", "b.dcm", "c.png", "d")}
    assert list(dicom_among(paths, (".png",))) == ["a", "b.dcm"]
    with pytest.raises(DataError, match="e: cannot be read"):
        dicom_among({"e": str(tmp_path / "e")}, (".png",))
