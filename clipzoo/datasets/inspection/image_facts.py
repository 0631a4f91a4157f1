"""Every image of a dataset, decoded once: what its file is, and a small grey picture from which the other checks work."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.files.dicom.detect import HEAD, is_dicom
from clipzoo.datasets.files.dicom.reading import read_elements
from clipzoo.datasets.files.image_files import pixels_only
from clipzoo.errors import DAMAGE, ClipzooError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 64  # pixels of the small grey picture
DEEP = 8  # bits per channel, above which an image is not plain
MOST_WORKERS = 16  # threads, if a machine has as many cores
_PORTION = 8  # images per task of a thread
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".pgm", ".ppm", ".pnm", ".pbm"),
}
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
_TIFF_BITS = 258
_PNG = b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG, with a segment, or the end; in compressed data only as such
_END_OF_IMAGE = 0xD9


@dataclass(frozen=True, eq=False)
class FileFact:
    """One image.

    Attributes:
        id: Id of the case that the image is, or its path below the root if a case has several images.
        path: The file; empty if a dataset has no files.
        size: Bytes of the file.
        kind: Format of the content, such as ``'PNG'`` or ``'DICOM'``; empty if it is unknown.
        mode: Pillow's mode before the conversion to RGB; of DICOM, the photometric interpretation; empty if it is unknown.
        bits: Bits per channel; of DICOM, the stored ones; 0 if unknown.
        orientation: EXIF orientation, 1 … 8; 1 is upright.
        width: Pixels of the upright image; 0 if it cannot be decoded.
        height: Likewise.
        digest: BLAKE2b-128 of the bytes, hexadecimal; empty without bytes.
        pixels: BLAKE2b-128 of size and RGB values, hexadecimal; empty if the image cannot be decoded.
        thumbnail: ``[64, 64]`` uint8 grey, the whole image squeezed into a square; ``None`` if it cannot be decoded.
        incomplete: Whether the file ends too early, although its pixels can be decoded.
        error: Why the image cannot be decoded; empty if it can.
    """

    id: str
    path: str = ""
    size: int = 0
    kind: str = ""
    mode: str = ""
    bits: int = 0
    orientation: int = 1
    width: int = 0
    height: int = 0
    digest: str = ""
    pixels: str = ""
    thumbnail: np.ndarray | None = None
    incomplete: bool = False
    error: str = ""

    @property
    def wrong_ending(self) -> bool:
        """Whether the ending of the file's name belongs to another format."""
        ending = os.path.splitext(self.path)[1].lower()
        if self.kind == "DICOM":
            return any(ending in endings for endings in _ENDINGS.values())
        return self.kind in _ENDINGS and ending not in _ENDINGS[self.kind]


def look_at(
    data: Dataset, workers: int, advance: Callable[[int], None] = lambda done: None, *, of: Callable[[Dataset, int], FileFact] | None = None
) -> list[FileFact]:
    """The facts of all images of ``data``, by row. Damaged images are described, and stop nothing.

    Args:
        data: Dataset of single images.
        workers: Number of threads; decoding and resizing do not hold Python's lock.
        advance: Function called with the number of images done.
        of: ``fact_of`` (``None``), or ``decoded_fact_of``.
    """
    facts: list[FileFact] = []
    for found in facts_of(data, range(len(data)), workers, of or fact_of):
        facts += found
        advance(len(facts))
    return facts


def facts_of(data: Dataset, rows: Sequence[int], workers: int, of: Callable[[Dataset, int], FileFact]) -> Iterator[list[FileFact]]:
    """The facts of the images in ``rows``, a few at a time, in order; see ``look_at``."""
    stop = threading.Event()

    def look(portion: Sequence[int]) -> list[FileFact]:
        return [of(data, row) for row in portion if not stop.is_set()]

    with warnings.catch_warnings():  # threads below change the filters in no particular order
        warnings.simplefilter("ignore")
        pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="check")
        try:
            yield from pool.map(look, (rows[start : start + _PORTION] for start in range(0, len(rows), _PORTION)))
        finally:  # immediately, also after Ctrl-C
            stop.set()
            pool.shutdown(cancel_futures=True)


def fact_of(data: Dataset, row: int) -> FileFact:
    """The facts of the image in ``row``."""
    return _fact(data, row, _with_pixels)


def decoded_fact_of(data: Dataset, row: int, keep: Callable[[bytes, Image.Image], object] | None = None) -> FileFact:
    """The facts of the image in ``row`` without what is compared with other images: ``digest``, ``pixels`` and ``thumbnail``.

    Args:
        data: Dataset of single images.
        row: A row of it.
        keep: Function called with the digest of the file's bytes and the decoded image.
    """

    def completed(fact: FileFact, image: Image.Image) -> FileFact:
        if keep is not None and fact.digest:
            keep(bytes.fromhex(fact.digest), image)
        return replace(fact, digest="", width=image.width, height=image.height)

    return _fact(data, row, completed)


def _fact(data: Dataset, row: int, completed: Callable[[FileFact, Image.Image], FileFact]) -> FileFact:
    fact = FileFact(data.cases[row].id)
    try:
        if not data.reads_encoded:
            return completed(fact, data.read_image(row))
        fact = replace(fact, path=str(data.path_of(row)))
        content = data.encoded_image(row)
        fact = replace(fact, size=len(content), digest=_digest(content), **_header(content))
        return completed(replace(fact, incomplete=_is_cut(content)), data.decode_image(row, content))
    except ClipzooError as error:
        return replace(fact, error=str(error).removeprefix(f"{fact.path}: "))


def _with_pixels(fact: FileFact, image: Image.Image) -> FileFact:
    from PIL.Image import Resampling

    grey = image.convert("L").resize((SIDE, SIDE), Resampling.BILINEAR)
    pixels = _digest(f"{image.width}x{image.height}:".encode() + image.tobytes())
    return replace(fact, width=image.width, height=image.height, pixels=pixels, thumbnail=np.asarray(grey).copy())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _header(content: bytes) -> dict[str, object]:
    """Format, mode, bits per channel and orientation, as far as the first bytes say."""
    from PIL import Image

    if is_dicom(content[:HEAD]):
        return _dicom_header(content)
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            tags = getattr(image, "tag_v2", {})
            bits = 16 if image.mode.startswith("I;16") else 32 if image.mode in ("I", "F") else 8
            if image.format == "PNG":
                bits = content[24]  # of IHDR
            elif _TIFF_BITS in tags:
                bits = int(np.max(tags[_TIFF_BITS]))
            found = {"kind": image.format, "mode": image.mode, "bits": bits}
    except (*DAMAGE, Image.DecompressionBombError):
        return {}
    try:
        return {**found, "orientation": max(pixels_only(content).orientation, 1)}
    except (ClipzooError, *DAMAGE):
        return found


def _dicom_header(content: bytes) -> dict[str, object]:
    """Photometric interpretation and stored bits; of more than 8 allocated bits often 10 or 12 are used."""
    try:
        found = read_elements(content, ("BitsStored", "PhotometricInterpretation"), pixels=False)
        return {"kind": "DICOM", "mode": str(found.get("PhotometricInterpretation") or ""), "bits": int(found.get("BitsStored") or 0)}
    except (ClipzooError, *DAMAGE):
        return {"kind": "DICOM"}


def _is_cut(content: bytes) -> bool:
    """Does a JPEG or PNG lack the end of its first picture? Pillow decodes such a file if only the last bytes are missing."""
    if content.startswith(b"\xff\xd8\xff"):
        return not _jpeg_ends(content)
    return content.startswith(_PNG) and not _png_ends(content)


def _jpeg_ends(content: bytes) -> bool:
    """Whether the markers of a JPEG lead to the one of its end; those inside of segments, such as a preview's, do not count."""
    at = 2
    while (found := _MARKER.search(content, at)) is not None:
        code, at = content[found.start() + 1], found.end()
        if code == _END_OF_IMAGE:
            return True
        at += int.from_bytes(content[at : at + 2], "big")
    return False


def _png_ends(content: bytes) -> bool:
    """Whether the chunks of a PNG lead to the whole last one; other bytes may follow it."""
    at = len(_PNG)
    while at + 12 <= len(content):  # length, name, checksum
        if content[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return False
