"""Recognition of DICOM files by their first bytes, without pydicom.

A DICOM file starts with 128 arbitrary bytes and ``DICM`` (PS3.10 7.1). Old files lack this header and start with their first element; they
are recognised by its tag, of a few that files start with, together with a plausible type or length.
"""

from __future__ import annotations

import re

HEAD = 1024  # bytes that are enough for all functions here

_MARK, _MARK_AT = b"DICM", 128
_DIRECTORY = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![.0-9])")  # Media Storage Directory Storage, in the header
_OTHER_FORMATS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # but not TIFF, with whose header a DICOM file may start
_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018, 0x0020)  # of group 0008
_FIRST_META = (0x0000, 0x0001, 0x0002, 0x0010)  # of group 0002
_TYPES = (b"UL", b"CS", b"UI", b"DA", b"LO", b"OB", b"SH", b"RET")
_LONGEST = 512  # bytes of a first element without a type


def is_dicom(head: bytes) -> bool:
    """Are these the first bytes of a DICOM file, with or without its header?

    Args:
        head: The first ``HEAD`` bytes, or all of a shorter file.

    >>> is_dicom(bytes(128) + b'DICM'), is_dicom(b'\\xff\\xd8\\xff' + bytes(125) + b'DICM')
    (True, False)
    >>> is_dicom(b'\\x08\\0\\x05\\0CS\\n\\0ISO_IR 100'), is_dicom(b'\\x08\\0\\x05\\0text')
    (True, False)
    """
    if head.startswith(_OTHER_FORMATS):
        return False
    return head[_MARK_AT : _MARK_AT + len(_MARK)] == _MARK or _starts_with_an_element(head)


def has_header(head: bytes) -> bool:
    """Does a DICOM file start with the header of PS3.10?"""
    return head[_MARK_AT : _MARK_AT + len(_MARK)] == _MARK


def is_directory(head: bytes) -> bool:
    """Is it a DICOMDIR, the table of contents of a disc, which lists images but has none?"""
    return has_header(head) and _DIRECTORY.search(head) is not None


def _starts_with_an_element(head: bytes) -> bool:
    for order in ("little", "big"):
        group, element = int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)
        if len(head) >= 8 and element in {0x0002: _FIRST_META, 0x0008: _FIRST_ELEMENTS}.get(group, ()):
            implicit = order == "little" and group == 0x0008 and int.from_bytes(head[4:8], order) in range(2, _LONGEST, 2)
            return head[4:6] in _TYPES or implicit
    return False
