"""Reading of DICOM data sets through pydicom: only the elements that are asked for, and every failure in one line."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from clipzoo.datasets.files.dicom.detect import HEAD, has_header, is_directory
from clipzoo.errors import ANY_DAMAGE, DataError

if TYPE_CHECKING:
    from pydicom import Dataset

INSTALL = "Run pip install 'clipzoo[medical]', or convert the files to PNG"
_QUOTED = re.compile(r"b?(['\"]).*?\1")
_LONGEST = 150  # characters of a reason; decoders may list many
_IMPLICIT, _EXPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def read_elements(content: bytes | BinaryIO, tags: Iterable[str], *, pixels: bool) -> Dataset:
    """Read the given elements of a DICOM file; all others are skipped and never decoded.

    Args:
        content: The file, or a stream at its start.
        tags: Keywords of the elements.
        pixels: Whether to read on to the pixels, instead of stopping before them.

    Returns:
        The data set; ``file_meta.TransferSyntaxUID`` is always set.

    Raises:
        DataError: pydicom is missing, or the file is damaged or a DICOMDIR.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise DataError(f"DICOM files require the package pydicom. {INSTALL}")
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset

    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    head = stream.read(HEAD)
    stream.seek(0)
    if is_directory(head):
        raise DataError("a DICOMDIR, the table of contents of a disc, not an image. Name the files that it lists")
    with readable():
        found = dcmread(stream, force=not has_header(head), stop_before_pixels=not pixels, specific_tags=list(tags))
        meta = found.file_meta = getattr(found, "file_meta", None) or FileMetaDataset()
        if not meta.get("TransferSyntaxUID"):
            implicit, little = found.original_encoding
            meta.TransferSyntaxUID = _IMPLICIT if implicit else _EXPLICIT if little else _BIG
    return found


@contextmanager
def readable(what: str = "the DICOM file cannot be read") -> Iterator[None]:
    """Turn whatever goes wrong inside into a DataError of one line.

    Warnings and quotations in messages are dropped: in a damaged file any of them may contain the name of the patient.

    Raises:
        DataError: See above.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError as error:
        raise DataError("too little memory for the image. Downscale it") from error
    except (*ANY_DAMAGE, BytesLengthException, InvalidDicomError) as error:
        reason = _QUOTED.sub("…", " ".join(str(error).split()))[:_LONGEST] or type(error).__name__
        raise DataError(f"{what} ({reason}). The file is truncated, damaged or of an unusual kind: replace or remove it") from error
