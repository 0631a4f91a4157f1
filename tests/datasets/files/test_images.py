"""Files of every mode are written in code, read back, and compared with values worked out by hand or by a naive loop."""

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets.files.image_files import looks_like_an_image
from clipzoo.datasets.files.images import EXTENSIONS, read_image, rescale
from clipzoo.errors import DataError

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
WIDE = np.linspace(300, 4095, 120).astype(np.uint16).reshape(10, 12)


def expected_rescale(values, inverted=False):
    """The rule of the module, value by value."""
    low, high = float(values.min()), float(values.max())
    out = np.zeros(values.shape)
    for index, value in np.ndenumerate(values):
        share = (float(value) - low) / (high - low) * 255
        out[index] = 255 - share if inverted else share
    return out


def gray_of(path):
    image = read_image(path)
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    return pixels[..., 0]


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "tiff", "pgm"])
def test_8_bit_gray_is_kept(tmp_path, extension):
    path = tmp_path / f"image.{extension}"
    Image.fromarray(GRAY).save(path)
    np.testing.assert_array_equal(gray_of(path), GRAY)


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_16_bit_gray_is_rescaled_by_its_range(tmp_path, extension):
    path = tmp_path / f"image.{extension}"
    Image.fromarray(WIDE).save(path)
    np.testing.assert_allclose(gray_of(path), expected_rescale(WIDE), atol=0.5001)
    assert len(np.unique(gray_of(path))) > 100  # convert('RGB') would give one: white


def test_16_bit_of_both_byte_orders(tmp_path):
    for order, mode in (("<u2", "I;16"), (">u2", "I;16B")):
        path = tmp_path / "image.tif"
        Image.frombytes(mode, (12, 10), WIDE.astype(order).tobytes()).save(path)
        np.testing.assert_allclose(gray_of(path), expected_rescale(WIDE), atol=0.5001)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_tiff_with_negative_values(tmp_path, dtype):
    values = (WIDE.astype(np.int64) - 1000).astype(dtype)
    path = tmp_path / "image.tif"
    Image.fromarray(values).save(path)
    np.testing.assert_allclose(gray_of(path), expected_rescale(values), atol=0.5001)


def test_white_is_zero_is_inverted(tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(WIDE).save(path, tiffinfo={262: 0})
    np.testing.assert_allclose(gray_of(path), expected_rescale(WIDE, inverted=True), atol=0.5001)


def test_constant_wide_image_is_black(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.full((4, 4), 900, np.uint16)).save(path)
    assert (gray_of(path) == 0).all()


def test_nan_is_refused(tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(np.array([[0, np.nan], [1, 2]], np.float32)).save(path)
    with pytest.raises(DataError, match=r"image\.tif: the image contains NaN or infinite values"):
        read_image(path)


def test_rescale_never_clips():
    values = np.array([[-5.0, 0.0], [1e6, 3e6]])
    assert rescale(values).tolist() == [[0, 0], [85, 255]]


def test_one_bit(tmp_path):
    path = tmp_path / "image.png"
    bits = GRAY > 100
    Image.fromarray(bits).save(path)
    np.testing.assert_array_equal(gray_of(path), bits * 255)


def test_palette_shows_its_colours(tmp_path):
    path = tmp_path / "image.png"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(path)
    assert np.asarray(read_image(path)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparent_palette_entry_is_black(tmp_path):
    path = tmp_path / "image.png"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(path, transparency=0)
    assert np.asarray(read_image(path)).tolist() == [[[0, 0, 0], [200, 100, 50]]]


@pytest.mark.parametrize("mode, colour", [("RGBA", (200, 100, 50, 128)), ("LA", (200, 128))])
def test_alpha_is_composited_on_black(tmp_path, mode, colour):
    path = tmp_path / "image.png"
    Image.new(mode, (1, 1), colour).save(path)
    opaque = np.array(colour[:-1] if mode == "RGBA" else [200] * 3)
    np.testing.assert_allclose(np.asarray(read_image(path))[0, 0], opaque * 128 / 255, atol=1)


def test_transparent_rgb_colour_key_is_black(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.array([[[255, 255, 255], [1, 2, 3]]], np.uint8)).save(path, transparency=(255, 255, 255))
    assert np.asarray(read_image(path)).tolist() == [[[0, 0, 0], [1, 2, 3]]]


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = (255, 0, 0)  # right half red
    for orientation, where in ((1, np.s_[:, 8:]), (3, np.s_[:, :8]), (6, np.s_[8:, :]), (8, np.s_[:8, :])):
        path = tmp_path / "image.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, exif=exif)
        upright = np.asarray(read_image(path))
        assert upright[..., 0].sum() == upright[where][..., 0].sum() == 255 * 64, orientation


def test_exif_orientation_of_16_bit(tmp_path):
    path = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WIDE).save(path, exif=exif)
    np.testing.assert_allclose(gray_of(path), expected_rescale(np.rot90(WIDE, -1)), atol=0.5001)


def test_cmyk_and_ycbcr_and_lab_become_rgb(tmp_path):
    for mode, name, tolerance in (("CMYK", "a.jpg", 8), ("CMYK", "b.tif", 1), ("YCbCr", "c.jpg", 8), ("LAB", "d.tif", 4)):
        path = tmp_path / name
        if mode == "LAB":
            image = Image.new("LAB", (8, 8), (128, 128, 128))  # L = 50 %, neutral: sRGB 119
            expected = (119, 119, 119)
        else:
            image = Image.new("RGB", (8, 8), (200, 100, 50)).convert(mode)
            expected = (200, 100, 50)
        image.save(path)
        result = read_image(path)
        assert result.mode == "RGB"
        np.testing.assert_allclose(np.asarray(result)[4, 4], expected, atol=tolerance, err_msg=name)


def test_jpeg_and_webp(tmp_path):
    for name, options in (("a.jpg", {"quality": 95}), ("b.webp", {"lossless": True})):
        Image.fromarray(GRAY).save(tmp_path / name, **options)
        np.testing.assert_allclose(gray_of(tmp_path / name), GRAY, atol=4)


def test_first_page_is_read(tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(GRAY).save(path, save_all=True, append_images=[Image.fromarray(255 - GRAY)])
    np.testing.assert_array_equal(gray_of(path), GRAY)


def test_damaged_files_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for extension in ("png", "jpg", "bmp", "tif", "webp", "pgm"):
        path = tmp_path / f"whole.{extension}"
        Image.fromarray(noise if extension != "pgm" else noise[..., 0]).save(path)
        content = path.read_bytes()
        for size in (len(content) // 2, 60, 20, 8, 3, 1):
            broken = tmp_path / f"broken.{extension}"
            broken.write_bytes(content[:size])
            with pytest.raises(DataError, match=rf"broken\.{extension}: "):
                read_image(broken)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
def test_damaged_bytes_inside_never_escape_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    source = tmp_path / "whole.tif"
    for extension in ("png", "tif", "bmp", "webp", "jpg"):
        source = tmp_path / f"whole.{extension}"
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(source)
        content = bytearray(source.read_bytes())
        for _ in range(40):
            damaged = bytearray(content)
            for place in rng.integers(0, min(len(content), 200), 6):
                damaged[place] = rng.integers(256)
            path = tmp_path / f"damaged.{extension}"
            path.write_bytes(damaged)
            try:
                assert read_image(path).mode == "RGB"
            except DataError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("content, words", [(b"", "empty"), (b"this is no image", "not an image"), (b"\x89PNG\r\n\x1a\nrubbish", "")])
def test_foreign_files_are_named(tmp_path, content, words):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"image\.jpg: .*{words}"):
        read_image(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "none.png")


def test_header_of_every_extension(tmp_path):
    assert "jpeg" in {e[1:] for e in EXTENSIONS}
    for extension in EXTENSIONS:
        path = tmp_path / f"image{extension}"
        Image.fromarray(GRAY).save(path)
        assert looks_like_an_image(path.read_bytes()[:16]), extension
    big = tmp_path / "big.tif"
    Image.fromarray(GRAY).save(big, big_tiff=True)
    assert looks_like_an_image(big.read_bytes()[:16])
    np.testing.assert_array_equal(gray_of(big), GRAY)
    for foreign in (b"", b"P", b"Path,group\n", b"GIF89a", b"RIFF0000WAVE", b"{}"):
        assert not looks_like_an_image(foreign)
