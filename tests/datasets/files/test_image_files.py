"""Metadata that pixels do not need cannot refuse an image, and the orientation is found wherever it stands."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets.files.image_files import exif_orientation, pixels_only
from clipzoo.datasets.files.images import decode, read_image, upright_rgb
from clipzoo.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


OPTIONS = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "PNG": {}}


def encoded(name, **options):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, name, **OPTIONS[name], **options)
    return stream.getvalue()


def exif(orientation, order="<", odd=True):
    """A block of EXIF: the orientation, and a rational of -1/0 that nothing can be computed with or written from."""
    entries = [(0x0112, 3, 1, struct.pack(order + "HH", orientation, 0))] + [(0x9201, 10, 1, struct.pack(order + "I", 38))] * odd
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(entries))
    return b"Exif\0\0" + head + body + struct.pack(order + "I", 0) + struct.pack(order + "ii", -1, 0)


def chunk(kind, data, crc=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png_with(*chunks, behind=False):
    """A PNG with chunks before, or behind, its pixels."""
    content = encoded("PNG")
    place = content.index(b"IEND") - 4 if behind else content.index(b"IDAT") - 4
    return content[:place] + b"".join(chunks) + content[place:]


def jpeg_with(*segments):
    """A JPEG with segments of application data in front."""
    content = encoded("JPEG")
    return content[:2] + b"".join(b"\xff" + marker + struct.pack(">H", len(data) + 2) + data for marker, data in segments) + content[2:]


def check(content, like, orientation=1):
    """The pixels are those of ``like``, turned."""
    turn = {1: lambda a: a, 6: lambda a: np.rot90(a, -1), 8: np.rot90, 3: lambda a: np.rot90(a, 2)}[orientation]
    np.testing.assert_array_equal(np.asarray(decode(content)), turn(np.asarray(Image.open(io.BytesIO(like)).convert("RGB"))))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_an_odd_rational_in_exif_changes_nothing(name, order):
    check(encoded(name, exif=exif(6, order)), encoded(name), 6)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"tEXt", b"Comment\0" + b"x" * 1_100_000)],
        [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 1_100_000))],
        [chunk(b"iTXt", b"Comment\0\x01\0\0\0" + zlib.compress(b"x" * 1_100_000))],
        [chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(b"x" * 1_000_000)) for i in range(70)],
        [chunk(b"zTXt", b"Comment\0\x07x")],
        [chunk(b"iCCP", b"profile\0\x05x"), chunk(b"iCCP", b"p"), chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x" * 2_000_000))],
        [chunk(b"eXIf", b"rubbish"), chunk(b"eXIf", b"")],
        [chunk(kind, b"\0") for kind in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"tIME", b"acTL", b"fcTL", b"fdAT", b"sBIT", b"bKGD")],
        [chunk(b"tEXt", b"Comment\0x", crc=7)],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<not xml \xff")],
        [chunk(b"zTXt", b"Raw profile type exif\0\0rubbish"), chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nzz")],
    ],
    ids=["tEXt", "zTXt", "iTXt", "in all", "method", "ICC", "EXIF", "short", "checksum", "XMP", "raw"],
)
def test_a_png_with_any_metadata_is_read(chunks, behind):
    check(png_with(*chunks, behind=behind), encoded("PNG"))


@pytest.mark.parametrize(
    "segments",
    [
        [(b"\xe0", b"JF"), (b"\xe0", b"JFXX\0\x10")],
        [(b"\xe1", b"Exif\0\0"), (b"\xe1", b"Exif\0\0II*\0\xff\xff\xff\xff")],
        [(b"\xe1", b"http://ns.adobe.com/xap/1.0/\0<not xml")],
        [(b"\xe2", b"ICC_PROFILE\0"), (b"\xe2", b"ICC_PROFILE\0\x05\x02rubbish"), (b"\xe2", b"FPXR")],
        [(b"\xe2", b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\x01\0\0\0\x02\0\0\0")],
        [(b"\xed", b"Photoshop 3.0\x008BIM\x04"), (b"\xed", b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x02x")],
        [(b"\xee", b"Adobe"), (b"\xef", b""), (b"\xfe", b"\xff\xfe comment")],
    ],
    ids=["JFIF", "EXIF", "XMP", "ICC", "MPF", "Photoshop", "others"],
)
def test_a_jpeg_with_any_metadata_is_read(segments):
    check(jpeg_with(*segments), encoded("JPEG"))


def test_what_says_which_colours_the_numbers_mean_is_kept():
    """Without Adobe's segment a CMYK, or an RGB that is stored as it is, would be shown in other colours."""
    for mode, options in (("CMYK", {}), ("RGB", {"keep_rgb": True}), ("YCbCr", {}), ("L", {})):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).convert(mode).save(stream, "JPEG", **options)
        np.testing.assert_array_equal(np.asarray(decode(stream.getvalue())), np.asarray(Image.open(stream).convert("RGB")), err_msg=mode)


def test_the_segment_of_adobe_decides_where_there_is_no_jfif():
    jfif = encoded("JPEG")
    adobe = b"\xff\xee\0\x0eAdobe\0\x64" + b"\0" * 5  # no transformation: the numbers are red, green and blue
    content = jfif[:2] + adobe + jfif[20:]
    check(content, content)
    assert not np.array_equal(np.asarray(decode(content)), np.asarray(decode(jfif)))


def test_of_several_pictures_in_a_jpeg_the_first_is_read():
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    stream = io.BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=[second], quality=95)
    check(stream.getvalue(), encoded("JPEG"))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_orientation_is_found_wherever_it_stands(orientation):
    raw = (b"\nexif\n      %d\n" % len(exif(orientation))) + exif(orientation).hex().encode()
    for content in (
        png_with(chunk(b"eXIf", exif(orientation)[6:])),
        png_with(chunk(b"eXIf", exif(orientation)[6:]), behind=True),
        png_with(chunk(b"tEXt", b"Raw profile type exif\0" + raw)),
        png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))),
        png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % orientation)),
    ):
        check(content, encoded("PNG"), orientation)
        for loaded in (False, True):  # what Pillow opened, or decoded, follows the same rule
            image = Image.open(io.BytesIO(content))
            if loaded:
                image.load()
            np.testing.assert_array_equal(np.asarray(upright_rgb(image)), np.asarray(decode(content)))
    for segment in (exif(orientation, ">"), b"http://ns.adobe.com/xap/1.0/\0" + XMP % orientation):
        check(jpeg_with((b"\xe1", segment)), encoded("JPEG"), orientation)
    for options in ({"exif": exif(orientation)}, {"xmp": XMP % orientation}):
        check(encoded("WEBP", **options), encoded("WEBP"), orientation)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_is_not_defined_turns_nothing(orientation):
    assert exif_orientation(exif(orientation)) == 0
    check(encoded("JPEG", exif=exif(orientation)), encoded("JPEG"))


def test_exif_that_ends_too_early():
    whole = exif(6)
    assert exif_orientation(whole) == exif_orientation(whole[6:]) == 6
    assert {exif_orientation(whole[:n]) for n in range(len(whole) - 30)} == {0}


def test_a_flipped_bit_in_the_pixels_of_a_png_is_noticed():
    content = bytearray(encoded("PNG"))
    content[content.index(b"IDAT") + 30] ^= 4
    with pytest.raises(DataError, match=r"wrong checksum in a chunk of the PNG \(b'IDAT'\)"):
        decode(bytes(content))


def test_only_the_formats_that_are_named_are_opened():
    """Pillow reads others, some of them with the help of other programs."""
    for name in ("GIF", "EPS", "TGA", "PCX"):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).convert("L" if name == "GIF" else "RGB").save(stream, name)
        with pytest.raises(DataError, match="not an image"):
            decode(stream.getvalue())


def test_limits_have_a_message_of_their_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="the image exceeds the size limit .*Downscale it"):
        decode(encoded("PNG"))


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "gone", "self"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.png"
    {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "gone": lambda: path.symlink_to("nowhere"),
        "self": lambda: path.symlink_to(path),
    }[kind]()
    said = {
        "fifo": "a FIFO",
        "device": "a device",
        "folder": "a folder",
        "gone": "broken link to nowhere",
        "self": "links",
    }
    with pytest.raises(DataError, match=rf"a\.png: .*{said[kind]}"):
        read_image(path)


def test_nothing_is_left_but_pixels():
    content = pixels_only(png_with(chunk(b"tEXt", b"Comment\0x"), chunk(b"tRNS", b"\0\1\0\2\0\3"))).content
    assert b"tEXt" not in content and b"tRNS" in content
    assert b"Exif" not in pixels_only(encoded("JPEG", exif=exif(6))).content
