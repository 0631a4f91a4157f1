"""Every kind of TIFF gives the values that were written, or is refused: strips, tiles, planes, compressed or not, both byte orders."""

import io

import numpy as np
import pytest
from PIL import Image
from tiff_files import tiff

from clipzoo.datasets.files.images import decode, read_image, rescale, upright_rgb
from clipzoo.errors import DataError

HEIGHT, WIDTH = 37, 21
NO_RATIO = b"\xff" * 4 + b"\0" * 4
ORIENTATION, EXTRA, COLOUR_MAP, SUBSAMPLING = 274, 338, 320, 530
LAYOUTS = {
    "one strip": {},
    "strips": {"rows": 5},
    "tiles": {"tile": 16},
    "LZW": {"compression": "lzw", "rows": 5},
    "LZW tiles": {"compression": "lzw", "tile": 16},
    "deflate": {"compression": "deflate"},
}
GRAY = {  # type and photometric interpretation
    "1": (bool, 1),
    "1, white is zero": (bool, 0),
    "8": ("u1", 1),
    "8, white is zero": ("u1", 0),
    "8 signed": ("i1", 1),
    "16": ("u2", 1),
    "16, white is zero": ("u2", 0),
    "16 signed": ("i2", 1),
    "16 signed, white is zero": ("i2", 0),
    "32": ("u4", 1),
    "32 signed": ("i4", 1),
    "32 signed, white is zero": ("i4", 0),
    "float": ("f4", 1),
    "float, white is zero": ("f4", 0),
}
COLOUR = {  # type, samples, photometric interpretation, extra samples
    "RGB": ("u1", 3, 2, None),
    "RGB of 16 bits": ("u2", 3, 2, None),
    "RGBA": ("u1", 4, 2, 2),
    "RGBA of 16 bits": ("u2", 4, 2, 2),
    "RGBA, multiplied": ("u1", 4, 2, 1),
    "RGBA of 16 bits, multiplied": ("u2", 4, 2, 1),
    "RGB and something": ("u1", 4, 2, 0),
    "CMYK": ("u1", 4, 5, None),
    "CMYK of 16 bits": ("u2", 4, 5, None),
    "gray with alpha": ("u1", 2, 1, 2),
    "gray, multiplied by alpha": ("u1", 2, 1, 1),
}


def some(dtype, samples=None):
    """Values over the whole range of a type."""
    rng = np.random.default_rng(0)
    shape = (HEIGHT, WIDTH) if samples is None else (HEIGHT, WIDTH, samples)
    if dtype is bool:
        return rng.integers(0, 2, shape).astype(bool)
    if np.dtype(dtype).kind == "f":
        return (1000 * rng.normal(size=shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def gray_meant(values, photometric):
    """The rule of ``images``: 1 and 8 bits as they are, the others by their own range."""
    if values.dtype in (bool, np.uint8):
        eight = values * np.uint8(255) if values.dtype == bool else values
        return 255 - eight if photometric == 0 else eight
    return rescale(values, inverted=photometric == 0)


def colour_meant(values, photometric, extra):
    """The rules of ``images``, by way of a Pillow image of the values in memory."""
    values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    if extra in (0, 1):  # what was multiplied by alpha is on black already
        values = values[..., :-1]
    mode = {2: {3: "RGB", 4: "RGBA"}, 5: {4: "CMYK"}, 1: {1: "L", 2: "LA"}}[photometric][values.shape[2]]
    return np.asarray(upright_rgb(Image.frombytes(mode, values.shape[1::-1], values.tobytes())))


def shown(values, orientation):
    """What the eight orientations mean, by the rows and columns of TIFF's definition."""
    turned = values if orientation < 5 else np.swapaxes(values, 0, 1)
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return turned[::-1] if orientation in (3, 4, 7, 8) else turned


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", GRAY)
def test_gray_is_exact(kind, layout, order):
    dtype, photometric = GRAY[kind]
    values = some(dtype)
    result = np.asarray(decode(tiff(values, photometric, order=order, **LAYOUTS[layout])))
    np.testing.assert_array_equal(result, np.repeat(gray_meant(values, photometric)[..., None], 3, axis=2))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", COLOUR)
def test_colour_is_exact_or_refused(kind, planar, layout, order):
    dtype, samples, photometric, extra = COLOUR[kind]
    values = some(dtype, samples)
    written = LAYOUTS[layout] | {"planar": planar, "order": order, "tags": {} if extra is None else {EXTRA: (3, extra)}}
    content = tiff(values, photometric, **written)
    if planar and (photometric == 1 or ("compression" not in written and (dtype == "u2" or extra in (0, 1)))):
        with pytest.raises(DataError, match=r"a kind that cannot be read exactly \(in planes, \d x \d+ bits, .*Save it as"):
            decode(content)
    else:
        np.testing.assert_array_equal(np.asarray(decode(content)), colour_meant(values, photometric, extra))


@pytest.mark.fast_cases(8)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["none", "lzw"])
def test_the_orientation_of_every_mode_is_applied_once(tmp_path, orientation, compression):
    """Pillow maps a plain TIFF that is opened by its path into memory, at the size of the turned image."""
    path = tmp_path / "image.tif"
    for dtype, samples, photometric, extra in [(bool, None, 1, None), ("u1", None, 1, None), ("u2", None, 1, None), *COLOUR.values()]:
        values = some(dtype, samples)
        tags = {ORIENTATION: (3, orientation)} | ({} if extra is None else {EXTRA: (3, extra)})
        path.write_bytes(tiff(values, photometric, compression=compression, tags=tags))
        meant = gray_meant(values, 1)[..., None].repeat(3, 2) if samples is None else colour_meant(values, photometric, extra)
        np.testing.assert_array_equal(np.asarray(read_image(path)), shown(meant, orientation))
        with Image.open(path) as image:  # not decoded yet: read by the same rules
            np.testing.assert_array_equal(np.asarray(upright_rgb(image)), shown(meant, orientation))


@pytest.mark.parametrize("orientation", [1, 6, 7])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_of_8_and_16_bit_colours(orientation, order, bits):
    values, colours = some("u1"), np.random.default_rng(1).integers(0, 256, (3, 256))
    tags = {COLOUR_MAP: (3, (colours.ravel() * (1 if bits == 8 else 257)).tolist()), ORIENTATION: (3, orientation)}
    result = np.asarray(decode(tiff(values, 3, order=order, tags=tags)))
    np.testing.assert_array_equal(result, shown(colours.T[values], orientation))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("order", "<>")
def test_stored_differences_are_added_up(dtype, order):
    for samples in (None, 3):
        values = some(dtype, samples)
        meant = gray_meant(values, 1)[..., None].repeat(3, 2) if samples is None else colour_meant(values, 2, None)
        content = tiff(values, 1 if samples is None else 2, order=order, compression="deflate", predictor=True, rows=5)
        np.testing.assert_array_equal(np.asarray(decode(content)), meant)


@pytest.mark.parametrize("dtype, samples, photometric", [("u1", 3, 6), ("u1", 3, 8)])
def test_other_colours_are_those_of_their_compressed_twin(dtype, samples, photometric):
    values, tags = some(dtype, samples), {SUBSAMPLING: (3, [1, 1])}
    plain, packed = (np.asarray(decode(tiff(values, photometric, tags=tags, compression=name))).astype(int) for name in ("none", "lzw"))
    assert np.abs(plain - packed).max() <= 2  # of YCbCr, rounded in two libraries


@pytest.mark.parametrize(
    "kind, words",
    [
        ({"values": some("f8")}, r"\(floating point 1 x 64 bits, gray\)"),
        ({"values": some("f2")}, "floating point 1 x 16 bits"),
        ({"values": some("u8")}, "unsigned 1 x 64 bits"),
        ({"values": some("f4", 3), "photometric": 2}, "floating point 3 x 32 bits, RGB"),
        ({"values": some("i1", 3), "photometric": 2}, "signed 3 x 8 bits, RGB"),
        ({"values": some("u4", 3), "photometric": 2}, "unsigned 3 x 32 bits, RGB"),
        ({"values": some("u2", 2), "tags": {EXTRA: (3, 2)}}, "unsigned 2 x 16 bits, gray"),
        ({"values": some("u1", 3), "photometric": 6}, "YCbCr with fewer colour samples"),
        ({"values": some("u1", 3), "photometric": 8, "planar": True}, "in planes, 3 x 8 bits, L.a.b"),
        ({"values": some("u1", 3), "photometric": 32803}, "photometric 32803"),
        ({"values": some("u1"), "tags": {277: (4, 4_000_000_000)}}, "4000000000 x 8 bits"),
        ({"values": some("u1"), "tags": {262: (3, None)}}, "does not define what its values mean"),
        ({"values": some("u1"), "tags": {256: (3, None)}}, "does not define the image size"),
        ({"values": some("u1"), "rows": 5, "tags": {257: (3, 99)}}, "has 8 strips, but its size requires 20"),
        ({"values": some("u1"), "tile": 16, "tags": {257: (3, 99)}}, "has 6 tiles, but its size requires 14"),
    ],
)
def test_what_could_not_be_read_exactly_is_refused(kind, words):
    for order in "<>":
        with pytest.raises(DataError, match=words):
            decode(tiff(**kind, order=order))


@pytest.mark.parametrize("layout", [{"rows": 5}, {"tile": 16}, {"compression": "lzw", "rows": 5}])
def test_a_page_that_ends_behind_the_file_is_refused(layout):
    """Pixels often come after the directory; what is put behind the file here must not be taken for them."""
    content = tiff(some("u2"), **layout)
    places = 324 if "tile" in layout else 273
    count = len(Image.open(io.BytesIO(content)).tag_v2[places])
    behind = [8 + 10 * i for i in range(count - 1)] + [len(content) - 8]
    with pytest.raises(DataError, match="ends before the last of the TIFF's (strips|tiles)"):
        decode(tiff(some("u2"), tags={places: (4, behind)}, **layout))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", [{}, {"rows": 5}, {"tile": 16}, {"compression": "lzw", "rows": 5}])
@pytest.mark.parametrize("kind", GRAY)
def test_bits_stored_backwards_are_exact_or_refused(kind, layout, order):
    dtype, photometric = GRAY[kind]
    values = some(dtype)
    try:
        result = np.asarray(decode(tiff(values, photometric, order=order, backwards=True, **layout)))
    except DataError as error:
        assert "a kind that cannot be read exactly" in str(error) and (dtype not in (bool, "u1", "i1") or kind == "8, white is zero")
    else:
        np.testing.assert_array_equal(result[..., 0], gray_meant(values, photometric))


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_bigtiff(compression):
    for kind, (dtype, photometric) in GRAY.items():
        values = some(dtype)
        result = np.asarray(decode(tiff(values, photometric, big=True, rows=7, compression=compression, tags={ORIENTATION: (3, 5)})))
        np.testing.assert_array_equal(result[..., 0], shown(gray_meant(values, photometric), 5), err_msg=kind)
    with pytest.raises(DataError, match="BigTIFF, big-endian"):
        decode(tiff(some("u1"), big=True, order=">"))


@pytest.mark.parametrize("tag", [270, 282, 296, 305, 306, 330, 700, 33432, 34377, 34665, 34675, 34853, 40960])
@pytest.mark.parametrize("kind, value", [(3, 7), (1, b"\xff" * 9), (5, NO_RATIO), (10, NO_RATIO), (4, 4_294_967_295)])
def test_metadata_of_any_sort_cannot_refuse_a_tiff(tag, kind, value):
    """Resolution, software, date, sub-pages, XMP, copyright, Photoshop, EXIF, ICC, GPS: odd types, denominators of 0, wrong places."""
    values = some("u1")
    for layout in ({}, {"compression": "lzw"}):
        result = np.asarray(decode(tiff(values, tags={tag: (kind, value), ORIENTATION: (3, 6)}, **layout)))
        np.testing.assert_array_equal(result[..., 0], shown(values, 6))


def test_the_first_page_is_read_and_pillow_agrees():
    stream = io.BytesIO()
    pages = [Image.fromarray(some("u1")), Image.fromarray(255 - some("u1"))]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw", exif={ORIENTATION: 8})
    np.testing.assert_array_equal(np.asarray(decode(stream.getvalue()))[..., 0], np.asarray(Image.open(stream).convert("L")))
