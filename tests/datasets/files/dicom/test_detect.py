import numpy as np
import pytest
from dicom_files import write_dicom

from clipzoo.datasets.files.dicom.detect import HEAD, has_header, is_dicom, is_directory
from clipzoo.datasets.files.folders import is_image

PIXELS = np.arange(6, dtype=np.uint16).reshape(2, 3)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_files_with_and_without_a_header(tmp_path, syntax):
    with_header = write_dicom(tmp_path / "a", PIXELS, syntax=syntax).read_bytes()[:HEAD]
    without = write_dicom(tmp_path / "b", PIXELS, syntax=syntax, header=False).read_bytes()[:HEAD]
    assert is_dicom(with_header) and has_header(with_header) and not is_directory(with_header)
    assert is_dicom(without) and not has_header(without)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x08",
        b"text of more than one hundred and thirty-two bytes " * 4,
        b"\x08\x00\x05\x00",
        b"\x08\x00\x05\x00\xff\xff\xff\xff",  # a length that no first element has
        b"\x08\x00\x05\x00\x03\x00\x00\x00abc",  # an odd one
        b"\x08\x00\x99\x00CS\x02\x00",
        b"\x08\x00\x05\x00ZZ\x02\x00",
        b"\x10\x00\x20\x00LO\x04\x00P001",
        b"\x89PNG\r\n\x1a\n" + bytes(120) + b"DICM",
        b"\xff\xd8\xff" + bytes(125) + b"DICM",
        bytes(127) + b"DICM",
        bytes(HEAD),
    ],
)
def test_other_files(head):
    assert not is_dicom(head)


def test_few_random_files_are_taken_for_one_without_a_header():
    rng = np.random.default_rng(0)
    assert not any(is_dicom(rng.bytes(HEAD)) for _ in range(20000))


def test_names_do_not_matter_where_bytes_decide(tmp_path):
    for name in ("IM0001", "1.2.840.113619.2.5", "a.dcm", "b.DCM", "c.ima", "d.txt"):
        assert is_image(str(write_dicom(tmp_path / name, PIXELS))), name
    for name in ("IM2", "1.2.3.77", "e.dcm"):
        assert is_image(str(write_dicom(tmp_path / name, PIXELS, header=False))), name
    assert not is_image(str(write_dicom(tmp_path / "f.raw", PIXELS, header=False)))
    (tmp_path / "g.dcm").write_bytes(b"")
    (tmp_path / "notes").write_bytes(b"text")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM\2\0\2\0UI\x14\0" + b"1.2.840.10008.1.3.10")
    assert is_image(str(tmp_path / "g.dcm")), "so that it is reported as empty"
    assert not is_image(str(tmp_path / "notes")) and not is_image(str(tmp_path / "DICOMDIR")) and not is_image(str(tmp_path / "none"))
