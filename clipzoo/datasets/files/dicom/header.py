"""What a DICOM file says about its patient and its view, read without its pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.datasets.files.dicom.pixels import check_pixels
from clipzoo.datasets.files.dicom.reading import read_elements, readable
from clipzoo.errors import DataError
from clipzoo.files import check_regular, reason
from clipzoo.text import clean_name

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXELS = ("Rows", "Columns", "PhotometricInterpretation", "NumberOfFrames", "SOPClassUID")
_PATIENT = ("PatientID", "StudyInstanceUID", "PatientSex", "PatientAge")
_VIEW = ("ViewPosition", "ImageLaterality", "Laterality", "BurnedInAnnotation")
_AGE = re.compile(r"(\d{3})([DWMY])")  # value representation AS, PS3.5 6.2
_OLDEST = 90  # years; ages above may identify a person


@dataclass(frozen=True)
class Header:
    """The header of one DICOM file.

    Attributes:
        patient: Patient ID; empty if it is missing. An identifier: never write it anywhere.
        study: UID of the study; empty if it is missing. An identifier, too.
        attributes: Values of ``view``, ``laterality``, ``sex`` and ``age`` (in decades), as far as they are known.
        annotated: Whether the pixels contain burned-in text, according to the file.
    """

    patient: str
    study: str
    attributes: dict[str, str]
    annotated: bool


def read_header(path: str, frame: int | None = None) -> Header:
    """Read the header of a DICOM file, and refuse a file whose pixels cannot be read.

    Args:
        path: The file.
        frame: See ``pixels.displayed``.

    Raises:
        DataError: See ``pixels.displayed``; damage of the pixels themselves is not detected.
    """
    check_regular(path)
    try:
        with open(path, "rb") as stream:
            data = read_elements(stream, (*_PIXELS, *_PATIENT, *_VIEW), pixels=False)
            with readable():
                check_pixels(data, frame)
                return _header(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def _header(data: Dataset) -> Header:
    attributes = {
        "view": _text(data, "ViewPosition").upper(),
        "laterality": _text(data, "ImageLaterality").upper() or _text(data, "Laterality").upper(),
        "sex": _text(data, "PatientSex").upper(),
        "age": decade(_text(data, "PatientAge")),
    }
    known = {name: value for name, value in attributes.items() if value}
    annotated = _text(data, "BurnedInAnnotation").upper() == "YES"
    return Header(_text(data, "PatientID"), _text(data, "StudyInstanceUID"), known, annotated)


def _text(data: Dataset, keyword: str) -> str:
    """The value of an element as clean text; empty if it is missing or cannot be decoded, which is no reason to refuse an image."""
    try:
        return clean_name(str(data.get(keyword) or ""))
    except (ValueError, TypeError, LookupError, AttributeError):
        return ""


def decade(age: str) -> str:
    """The decade of an age as DICOM writes it, in years; empty if it is written otherwise.

    >>> decade('047Y'), decade('018M'), decade('093Y'), decade('47')
    ('40-49', '0-9', '90+', '')
    """
    found = _AGE.fullmatch(age.upper())
    if found is None:
        return ""
    years = int(found.group(1)) if found.group(2) == "Y" else int(found.group(1)) // {"D": 365, "W": 52, "M": 12}[found.group(2)]
    start = years // 10 * 10
    return f"{_OLDEST}+" if start >= _OLDEST else f"{start}-{start + 9}"
