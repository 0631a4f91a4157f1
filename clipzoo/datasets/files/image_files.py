"""Reduction of image files to the data that their pixels need, and their orientation.

All metadata (text, EXIF, XMP, ICC and Photoshop blocks, previews, further frames) is removed before decoding, so that damaged or
oversized metadata never makes an image unreadable. Only the orientation affects what people see, and is kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from clipzoo.datasets.files.dicom.detect import is_dicom
from clipzoo.datasets.files.tiff_pages import Gray, first_page
from clipzoo.errors import DataError

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")
_ORIENTATION = 0x0112
_APPLICATION = re.compile(rb"[\xe0-\xef\xfe]")  # markers of application data and comments
_COLOURS = re.compile(rb"\xff\xe0..JFIF\0.{9}|\xff\xee..Adobe.{7}", re.DOTALL)
_LARGEST_EXIF = 1 << 20  # bytes; a JPEG can hold 64 KiB


@dataclass(frozen=True)
class Pixels:
    """Decodable pixel data.

    Attributes:
        content: The image in the same format, without metadata.
        orientation: EXIF orientation, 1 … 8; 1 is upright.
        gray: Interpretation of TIFF values, if Pillow's differs.
        tiff: Description of a TIFF's pixels; empty for other formats.
    """

    content: bytes
    orientation: int = 1
    gray: Gray | None = None
    tiff: str = ""


def looks_like_an_image(head: bytes) -> bool:
    """Do the first bytes of a file (16, or ``dicom.detect.HEAD`` for DICOM) belong to a supported format, whatever its name?

    >>> looks_like_an_image(b'\\x89PNG\\r\\n\\x1a\\n'), looks_like_an_image(b'hello')
    (True, False)
    """
    if head.startswith((_PNG, _JPEG, b"BM", *_TIFF)) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    netpbm = head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3].isspace()
    return netpbm or is_dicom(head)


def pixels_only(content: bytes) -> Pixels:
    """``content`` without anything that its pixels do not need.

    Raises:
        DataError: A PNG or TIFF is damaged, or a TIFF is of a kind that cannot be read exactly.
    """
    if content.startswith(_PNG):
        return _png(content)
    if content.startswith(_JPEG):
        return _jpeg(content)
    if content.startswith(_TIFF):
        page = first_page(content)
        return Pixels(page.content, _defined(page.orientation) or _of_xmp(page.xmp), page.gray, page.kind)
    return _webp(content) if content.startswith(b"RIFF") else Pixels(content)


def exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, with or without its six-byte header; 0 if it is missing or undefined.

    >>> exif_orientation(b'MM\\0*\\0\\0\\0\\x08\\0\\x01\\x01\\x12\\0\\x03\\0\\0\\0\\x01\\0\\x06\\0\\0\\0\\0\\0\\0')
    6
    """
    exif = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "<")
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (number,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * number, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION:
                return _defined(*struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}.get(kind, "H"), exif, entry + 8))
    except struct.error:  # truncated
        pass
    return 0


def _of_xmp(xmp: bytes) -> int:
    found = _XMP_ORIENTATION.search(xmp)
    return int(found.group(1)) if found else 1


def _defined(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 0


def _png(content: bytes) -> Pixels:
    """Critical chunks and transparency; of an animation, the first image or its fallback."""
    kept, exif, text, position = [_PNG], b"", b"", len(_PNG)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, end = content[position + 4 : position + 8], position + 12 + length
        chunk = content[position:end]
        if kind[:1].isupper() or kind == b"tRNS":
            if end <= len(content) and zlib.crc32(chunk[4:-4]) != struct.unpack(">I", chunk[-4:])[0]:
                raise DataError(f"wrong checksum in a chunk of the PNG ({kind!r}). The file is damaged: replace or remove it")
            kept.append(chunk)
        elif kind == b"eXIf":
            exif = exif or chunk[8:-4]
        elif kind in (b"iTXt", b"tEXt", b"zTXt"):
            exif, text = exif or _raw_profile(kind, chunk[8:-4]), text or (chunk if b"XML:com.adobe.xmp" in chunk[:32] else b"")
        position = end
        if kind == b"IEND":
            break
    return Pixels(b"".join(kept), exif_orientation(exif) or _of_xmp(text))


def _raw_profile(kind: bytes, data: bytes) -> bytes:
    """EXIF as ImageMagick stores it in text: profile name, length, and hexadecimal digits."""
    key, _, text = data.partition(b"\0")
    if key != b"Raw profile type exif" or kind == b"iTXt":
        return b""
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], 2 * _LARGEST_EXIF)
        return bytes.fromhex("".join(text.decode("latin-1").split()[2:]))
    except (zlib.error, ValueError):
        return b""


def _jpeg(content: bytes) -> Pixels:
    """All segments before the first scan except comments and application data; of the latter, those that define the colours are kept."""
    kept, exif, xmp, position = [content[:2]], b"", b"", 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1 : position + 2]
        if marker == b"\xff":  # padding
            position += 1
            continue
        size = int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position : position + 2 + size]
        if marker < b"\xc0" or b"\xd0" <= marker <= b"\xda" or size < 2 or len(segment) < 2 + size:
            break  # the scan, or something for the decoder to handle
        body = segment[4:]
        if marker == b"\xe1":
            exif = exif or (body if body.startswith(_EXIF) else b"")
            xmp = xmp or (body if body.startswith(_XMP) else b"")
        if not _APPLICATION.match(marker) or _COLOURS.match(segment):
            kept.append(segment)
        position += len(segment)
    return Pixels(b"".join((*kept, content[position:])), exif_orientation(exif) or _of_xmp(xmp))


def _webp(content: bytes) -> Pixels:
    """WebP stores metadata after the pixels, and its decoder ignores it."""
    exif, xmp, position = b"", b"", 12
    while position + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, position)
        data = content[position + 8 : position + 8 + size]
        exif, xmp = exif or (data if kind == b"EXIF" else b""), xmp or (data if kind == b"XMP " else b"")
        position += 8 + size + size % 2
    return Pixels(content, exif_orientation(exif) or _of_xmp(xmp))
