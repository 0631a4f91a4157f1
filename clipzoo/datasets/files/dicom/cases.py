"""DICOM files as cases: groups from their patients, attributes for subgroups, and notes on what the headers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clipzoo.datasets.files.checks import refuse
from clipzoo.datasets.files.dicom.detect import HEAD, is_dicom
from clipzoo.datasets.files.dicom.header import Header, read_header
from clipzoo.datasets.pseudonyms import pseudonym, read_salt
from clipzoo.errors import DataError
from clipzoo.files import reason

ATTRIBUTES = ("view", "laterality", "sex", "age")
_SHORTEST = 4  # characters of a patient ID that are not found in a file name by chance


@dataclass(frozen=True)
class DicomCases:
    """What the headers of the DICOM files among some cases say.

    Attributes:
        groups: Pseudonym of the patient (or else of the study) by case id, of cases for which it is known.
        attributes: Values by attribute name and case id; only attributes with at least two values.
        notes: Remarks for the reader of a result, one sentence each.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, dict[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def dicom_among(paths: Mapping[str, str], extensions: tuple[str, ...]) -> dict[str, str]:
    """The DICOM files by case id, of files whose bytes nobody has looked at; those with one of ``extensions`` are not opened.

    Raises:
        DataError: A file cannot be opened.
    """
    found = {}
    for case_id, path in paths.items():
        if not path.lower().endswith(extensions):
            try:
                with open(path, "rb", buffering=0) as stream:
                    if is_dicom(stream.read(HEAD)):
                        found[case_id] = path
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    return found


def read_cases(
    paths: Mapping[str, str], folder: str, *, salt: str | None = None, frame: int | None = None, grouped: bool = False
) -> DicomCases:
    """Read the headers of DICOM files.

    The group of a file is its Patient ID. If that is missing, or the same in all files of several studies, as some anonymisers leave it,
    the group is the study, whose images are certainly of one patient. The issuer of the ID is not considered: two patients in one group
    are harmless, one patient in two groups is a leak.

    Args:
        paths: Path by case id, of DICOM files only.
        folder: Folder of the data, for the salt of pseudonyms; see ``pseudonyms``.
        salt: See ``read_salt``.
        frame: See ``pixels.displayed``.
        grouped: Whether groups are given, so that those of the headers are not needed.

    Raises:
        DataError: See ``read_header`` and ``read_salt``.
    """
    if not paths:
        return DicomCases()
    headers, problems = {}, []
    for case_id, path in paths.items():
        try:
            headers[case_id] = read_header(path, frame)
        except DataError as error:
            problems.append(error)
    if problems:
        more = f" (and {len(problems) - 1} more files that cannot be used)" if len(problems) > 1 else ""
        refuse(f"{problems[0]}{more}", problems[0])
    identifiers, notes = ({}, []) if grouped else _identifiers(headers)
    secret = read_salt(folder, salt) if identifiers else ""
    groups = {case_id: pseudonym(identifier, secret) for case_id, identifier in identifiers.items()}
    return DicomCases(groups, _attributes(headers), [*notes, *_notes(headers)])


def _identifiers(headers: Mapping[str, Header]) -> tuple[dict[str, str], list[str]]:
    """What identifies the group of each case, and notes on why it is not the patient."""
    patients = {header.patient.casefold() for header in headers.values()}
    studies = {header.study for header in headers.values()} - {""}
    useless = len(patients) == 1 and len(studies) > 1 and "" not in patients
    found, without = {}, 0
    for case_id, header in headers.items():
        patient = "" if useless else header.patient
        without += not patient
        if patient or header.study:
            found[case_id] = patient or f"study {header.study}"
    alone = len(headers) - len(found)
    notes = []
    if useless:
        notes.append(f"all {len(headers)} DICOM files have the same Patient ID, so that each of their {len(studies)} studies is a group")
    elif without:
        notes.append(f"{without} of {len(headers)} DICOM files have no Patient ID: the group is their study")
    if alone:
        notes.append(f"{alone} DICOM files have neither Patient ID nor study, and each is its own group")
    if notes:
        notes[-1] += ". If a patient has several studies, set groups, a group column or group_pattern" if without else ""
    return found, notes


def _attributes(headers: Mapping[str, Header]) -> dict[str, dict[str, str]]:
    found = {
        name: {case_id: header.attributes[name] for case_id, header in headers.items() if name in header.attributes} for name in ATTRIBUTES
    }
    return {name: values for name, values in found.items() if len(set(values.values())) > 1}


def _notes(headers: Mapping[str, Header]) -> list[str]:
    """What may identify patients although pseudonyms are used."""
    notes = []
    if annotated := sum(header.annotated for header in headers.values()):
        notes.append(f"{annotated} DICOM files have burned-in text, which is not removed from their pixels and may name the patient")
    named = sum(len(h.patient) >= _SHORTEST and h.patient.casefold() in case_id.casefold() for case_id, h in headers.items())
    if named:
        notes.append(
            f"the names of {named} files or folders contain the Patient ID, and names are written to the work dir. Rename them first"
        )
    return notes
