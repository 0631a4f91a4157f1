"""Reduction of TIFF files to the pixels of the first page; files that Pillow would not read exactly are refused.

Pillow silently misreads many TIFFs. Compared with the written values, in both byte orders, as strips and as tiles, uncompressed and
compressed (Pillow 13):

=====================================================  ==============================================  =====================
kind                                                   Pillow                                          here
=====================================================  ==============================================  =====================
plain, orientation 5 … 8, opened by its path           mapped into memory at the swapped size          the right pixels
signed 8 bit; unsigned 32 bit                          as unsigned; as signed                          the right pixels
big-endian, compressed, signed 16 or 32 bit, float     bytes swapped                                   the right pixels
WhiteIsZero of more than 8 bits, float                 as BlackIsZero, or refused                      the right pixels
colour multiplied by its alpha                         divided, with rounding                          the right pixels
palette of 8-bit colours                               all black                                       the right pixels
strips or tiles missing                                black                                           refused
planes of 16 bits, or more than alpha; not compressed  noise, or refused                               refused
planes of gray with alpha, of a palette, of L*a*b*     noise or refused                                refused
YCbCr, not compressed, with fewer colour samples       noise                                           refused
no PhotometricInterpretation                           as WhiteIsZero                                  refused
64-bit; signed or floating point colour; half floats   refused                                         refused
BigTIFF, big-endian                                    refused                                         refused
=====================================================  ==============================================  =====================

Only tags needed for the pixels are passed on, so that invalid other tags never make an image unreadable.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import ceil

from clipzoo.errors import DataError

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 273, 274, 277, 278, 279, 284
COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_SIZES = 320, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, COEFFICIENTS, SUBSAMPLING, BLACK_WHITE, XMP = 338, 339, 347, 529, 530, 532, 700
_PIXEL_TAGS = frozenset(
    (WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR)
    + (COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_SIZES, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, COEFFICIENTS, SUBSAMPLING)
    + (BLACK_WHITE, 292, 293, 317, 332, 531, *range(512, 522))  # fax options, predictor, ink set, positioning, JPEG of the old style
)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4

# Gray types without a Pillow mode: the numpy type of the values, and the sample format under which Pillow returns their bits.
_WIDE = {
    (_UNSIGNED, 12): ("uint16", _UNSIGNED),
    (_UNSIGNED, 16): ("uint16", _UNSIGNED),
    (_UNSIGNED, 32): ("uint32", _SIGNED),
    (_SIGNED, 8): ("int8", _UNSIGNED),
    (_SIGNED, 16): ("int16", _UNSIGNED),
    (_SIGNED, 32): ("int32", _SIGNED),
    (_FLOAT, 32): ("float32", _FLOAT),
}
_FORMATS = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating point"}
_NAMES = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "L*a*b*"}
_RAW, _OLD_JPEG = 1, 6
_MOST_SAMPLES = 16


@dataclass(frozen=True)
class Gray:
    """Interpretation of gray values that Pillow returns as bits.

    Attributes:
        dtype: Name of the numpy type.
        inverted: Whether small values are bright.
        swapped: Whether Pillow returns each value's bytes in the wrong order.
    """

    dtype: str
    inverted: bool
    swapped: bool


@dataclass(frozen=True)
class Page:
    """The first page of a TIFF.

    Attributes:
        content: The file with a directory of only the tags needed for the pixels, in a form that Pillow reads correctly.
        orientation: Value of the orientation tag; 1 if missing or undefined.
        gray: Interpretation of the values; ``None`` if Pillow's pixels are correct.
        xmp: Bytes of the XMP tag, which may also contain an orientation.
        kind: Description of the pixels.
    """

    content: bytes
    orientation: int
    gray: Gray | None
    xmp: bytes
    kind: str


def first_page(content: bytes) -> Page:
    """The pixels of the first page.

    Raises:
        DataError: The file is damaged, or of a kind that cannot be read exactly.
    """
    try:
        directory = _Directory(content)
    except (struct.error, OverflowError) as error:
        raise DataError("the TIFF is truncated or damaged. Replace or remove the file") from error
    if directory.big and directory.order == ">":
        raise unreadable("BigTIFF, big-endian")
    if any(tag in _PIXEL_TAGS and entry[1] and not directory.data(tag) for tag, entry in directory.entries.items()):
        raise DataError("a tag of the TIFF points outside the file. The file is truncated or damaged: replace or remove it")
    orientation, xmp = directory.integer(ORIENTATION, 1), directory.data(XMP)
    gray, kind = _readable(directory, len(content))
    return Page(directory.rewritten(), orientation, gray, xmp, kind)


def unreadable(kind: str) -> DataError:
    """The error for a TIFF of ``kind``."""
    return DataError(f"a TIFF of a kind that cannot be read exactly ({kind}). Save it as 8- or 16-bit gray, or as 8-bit RGB")


class _Directory:
    """The tags of the first page, each with type, number of values, and values or their offset.

    Args:
        content: Content of the file.

    Raises:
        struct.error: The file is truncated.
        OverflowError: The directory's offset exceeds any file size.
    """

    def __init__(self, content: bytes):
        self.content = content
        self.order = "<" if content[:2] == b"II" else ">"
        self.big = struct.unpack_from(self.order + "H", content, 2) == (43,)
        self.word, self.room = ("Q", 8) if self.big else ("I", 4)
        (start,) = struct.unpack_from(self.order + self.word, content, 8 if self.big else 4)
        (number,) = struct.unpack_from(self.order + ("Q" if self.big else "H"), content, start)
        entry = struct.Struct(f"{self.order}HH{self.word}{self.room}s")
        start += 8 if self.big else 2
        self.entries: dict[int, tuple[int, int, bytes]] = {}
        for position in range(start, start + min(number, 65_535) * entry.size, entry.size):
            tag, kind, count, value = entry.unpack_from(content, position)
            self.entries.setdefault(tag, (kind, count, value))  # libtiff reads the first of duplicate tags

    def data(self, tag: int) -> bytes:
        """The bytes of a tag; empty if it is missing or points outside the file."""
        kind, count, value = self.entries.get(tag, (1, 0, b""))
        size = _SIZES.get(kind, 1) * count
        if size <= self.room:
            return value[:size]
        (start,) = struct.unpack(self.order + self.word, value)
        found = self.content[start : start + size]
        return found if len(found) == size else b""

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of an integer tag; empty if it is missing."""
        kind = self.entries.get(tag, (0,))[0]
        found = self.data(tag)
        return struct.unpack(f"{self.order}{len(found) // _SIZES[kind]}{_INTEGERS[kind]}", found) if kind in _INTEGERS else ()

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return (self.integers(tag) or (default,))[0]

    def write(self, tag: int, values: tuple[int, ...]) -> None:
        """Set the values of a tag, 16 bits each; long lists are appended to the file."""
        packed = struct.pack(f"{self.order}{len(values)}H", *values)
        if len(packed) > self.room:
            self.content += b"\0" * (len(self.content) % 2)
            packed, at = struct.pack(self.order + self.word, len(self.content)), packed
            self.content += at
        self.entries[tag] = (3, len(values), packed.ljust(self.room, b"\0"))

    def rewritten(self) -> bytes:
        """The file with an appended directory that contains only the tags needed for the pixels, and no further pages."""
        entries = {tag: entry for tag, entry in sorted(self.entries.items()) if tag in _PIXEL_TAGS}
        content = self.content + b"\0" * (len(self.content) % 2)
        start = 16 if self.big else 8
        header = content[: start - self.room] + struct.pack(self.order + self.word, len(content))
        number = struct.pack(self.order + ("Q" if self.big else "H"), len(entries))
        rows = [struct.pack(f"{self.order}HH{self.word}{self.room}s", tag, *entry) for tag, entry in entries.items()]
        return b"".join((header, memoryview(content)[start:], number, *rows, b"\0" * self.room))


def _readable(directory: _Directory, size: int) -> tuple[Gray | None, str]:
    """Check that Pillow will read the page exactly, and modify the tags that would prevent it.

    Args:
        directory: Directory, modified in place.
        size: File size in bytes.

    Returns:
        See ``Page.gray`` and ``Page.kind``.
    """
    compression, photometric = directory.integer(COMPRESSION, _RAW), directory.integer(PHOTOMETRIC, -1)
    if photometric == -1 and compression != _OLD_JPEG:
        raise DataError("the TIFF does not define what its values mean (no PhotometricInterpretation). Save it with another program")
    samples = directory.integer(SAMPLES, 3 if compression == _OLD_JPEG else 1)
    bits = directory.integers(BITS) or (1,)
    kind = f"{samples} x {'/'.join(map(str, dict.fromkeys(bits)))} bits, {_NAMES.get(photometric, f'photometric {photometric}')}"
    if not 1 <= samples <= _MOST_SAMPLES or len(bits) not in (1, samples):
        raise unreadable(kind)
    planar = directory.integer(PLANAR, 1) == 2 and samples > 1
    if compression != _OLD_JPEG:
        _check_blocks(directory, bits if len(bits) == samples else bits * samples, compression, planar, size)
    if directory.integer(FILL_ORDER, 1) == 2 and photometric == 0 and compression == _RAW and bits[0] == 8:
        raise unreadable(f"bits stored backwards, {kind}")
    extra = directory.integers(EXTRA_SAMPLES)
    if planar and (photometric not in (2, 5) or (compression == _RAW and (set(bits) != {8} or set(extra) & {0, 1}))):
        raise unreadable(f"in planes, {kind}")
    if photometric == 6 and compression == _RAW and not _plain_ycbcr(directory):
        raise unreadable("YCbCr with fewer colour samples than pixels, or with unusual coefficients")
    if 1 in extra:  # premultiplied colours are already composited on black
        directory.write(EXTRA_SAMPLES, tuple(0 if value == 1 else value for value in extra))
    if photometric == 3:
        _widen_palette(directory)
    formats = {_UNSIGNED if value == _UNDEFINED else value for value in directory.integers(SAMPLE_FORMAT) or (_UNSIGNED,)}
    kind = f"{', '.join(_FORMATS.get(value, 'complex') for value in sorted(formats))} {kind}"
    if samples == 1 and photometric in (0, 1) and (formats != {_UNSIGNED} or bits[0] > 8):
        return _wide_gray(directory, max(formats), bits[0], photometric, kind), kind
    if formats != {_UNSIGNED}:
        raise unreadable(kind)
    directory.entries.pop(SAMPLE_FORMAT, None)
    return None, kind


def _wide_gray(directory: _Directory, sample_format: int, bits: int, photometric: int, kind: str) -> Gray:
    raw = directory.integer(COMPRESSION, _RAW) == _RAW
    wide = _WIDE.get((sample_format, bits))
    if wide is None or (bits == 12 and (not raw or directory.order == ">")):
        raise unreadable(kind)
    directory.write(PHOTOMETRIC, (1,))
    directory.write(SAMPLE_FORMAT, (wide[1],))
    swapped = not raw and directory.order == ">" and bits == 32  # libtiff returns values, which Pillow treats as file bytes
    return Gray(wide[0], photometric == 0, swapped)


def _check_blocks(directory: _Directory, bits: tuple[int, ...], compression: int, planar: bool, size: int) -> None:
    """Refuse a page whose strips or tiles are missing or extend beyond the file."""
    width, height = directory.integer(WIDTH, 0), directory.integer(LENGTH, 0)
    tiled = TILE_OFFSETS in directory.entries
    places = directory.integers(TILE_OFFSETS if tiled else STRIP_OFFSETS)
    sizes = directory.integers(TILE_SIZES if tiled else STRIP_SIZES)
    across = directory.integer(TILE_WIDTH, 0) if tiled else width
    down = directory.integer(TILE_LENGTH, 0) if tiled else min(directory.integer(ROWS_PER_STRIP, height), height)
    if min(width, height, across, down) < 1:
        raise DataError("the TIFF does not define the image size. The file is damaged: replace or remove it")
    per_plane = ceil(width / across) * ceil(height / down)
    expected = per_plane * (len(bits) if planar else 1)
    what = "tiles" if tiled else "strips"
    if len(places) != expected:
        raise DataError(f"the TIFF has {len(places)} {what}, but its size requires {expected}. The file is damaged: replace or remove it")
    if compression == _RAW:
        row = (across * (bits[0] if planar else sum(bits)) + 7) // 8
        sizes = tuple(row * (down if tiled else min(down, height - down * (i % per_plane))) for i in range(expected))
    if any(start + length > size for start, length in zip(places, sizes, strict=False)):
        raise DataError(f"the file ends before the last of the TIFF's {what}. It is truncated: replace or remove it")


def _plain_ycbcr(directory: _Directory) -> bool:
    return directory.integers(SUBSAMPLING) == (1, 1) and not {COEFFICIENTS, BLACK_WHITE} & directory.entries.keys()


def _widen_palette(directory: _Directory) -> None:
    """Scale palette colours to 16 bits; if none exceeds 255, they were written as 8-bit values."""
    colours = directory.integers(COLOUR_MAP)
    if colours and max(colours) < 256:
        directory.write(COLOUR_MAP, tuple(257 * colour for colour in colours))
