"""From the square that a tower sees back to the picture, and the overlay."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipzoo.datasets.batches.image_list import Preprocess
from clipzoo.datasets.placement import Placement, placement
from clipzoo.errors import ConfigError, DataError
from clipzoo.explain.explanation import Explanation, to_original
from clipzoo.explain.overlay import COLOURS, STRONGEST, overlay
from clipzoo.structures import Preprocessing

SIZES = [(300, 100), (100, 300), (97, 160), (40, 40)]  # width, height


def patched(width, height, centre=(0.5, 0.5)):
    """A black picture with a white square of an eighth of the shorter side."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    half = min(width, height) / 16
    x, y = centre[0] * width, centre[1] * height
    box = [round(edge) for edge in (x - half, y - half, x + half, y + half)]
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels), box


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_a_bright_patch_returns_to_its_place(fit, size):
    """The brightness that the tower sees is the map: it must lie on the patch of the original picture."""
    width, height = size
    preprocessing = Preprocessing(64, (0.0,) * 3, (1.0,) * 3, fit=fit)
    inside = (0.44, 0.58) if fit == "crop" else (0.2, 0.7)
    image, (left, top, right, bottom) = patched(width, height, inside)
    seen = Preprocess(preprocessing)(image).mean(dim=0).numpy()
    found = to_original(seen, preprocessing, width, height)
    assert found.shape == (height, width) and found.dtype == np.float32
    rows, columns = np.mgrid[:height, :width] + 0.5
    assert abs((found * columns).sum() / found.sum() - (left + right) / 2) < 0.02 * width
    assert abs((found * rows).sum() / found.sum() - (top + bottom) / 2) < 0.02 * height
    assert found[(top + bottom) // 2, (left + right) // 2] > 0.5
    reach = max(width, height) // 16
    outside = np.ones_like(found, dtype=bool)
    outside[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach] = False
    assert found[outside].max() < 0.1


def test_the_placement_of_every_fit():
    assert placement("pad", 64, 300, 100) == Placement(64, 21, 0, 21)
    assert placement("crop", 64, 300, 100) == Placement(192, 64, -64, 0)
    assert placement("squash", 64, 300, 100) == Placement(64, 64, 0, 0)
    assert placement("pad", 64, 1, 6400) == Placement(1, 64, 31, 0)
    with pytest.raises(ConfigError, match="unknown fit 'fill'. Known: pad, crop, squash"):
        placement("fill", 64, 1, 1)


def test_bars_of_padding_are_not_part_of_the_picture_and_what_was_cropped_is_0():
    square = np.ones((64, 64), dtype=np.float32)
    square[:21] = square[42:] = 9  # on the bars of a wide picture
    np.testing.assert_allclose(to_original(square, Preprocessing(64), 300, 100)[5:-5], 1)
    found = to_original(np.ones((64, 64)), Preprocessing(64, fit="crop"), 300, 100)
    assert not found[:, :99].any() and not found[:, 201:].any() and (found[:, 101:199] == 1).all()


def test_an_extreme_shape_needs_no_large_canvas():
    assert to_original(np.ones((32, 32)), Preprocessing(32, fit="crop"), 20000, 1).shape == (1, 20000)


@pytest.fixture
def explanation():
    maps = np.zeros((2, 32, 32), dtype=np.float32)
    maps[0, 8:16, 16:24] = 2.0
    return Explanation(maps, np.zeros(2, dtype=np.float32), ("a", "b"), (), "grad_cam", Preprocessing(32))


def test_the_overlay_lies_on_the_upright_picture_of_any_kind(explanation, tmp_path):
    upright = Image.new("RGB", (60, 80), (200, 200, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    upright.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    pictures = [explanation.on(0, given) for given in (tmp_path / "turned.jpg", upright, torch.full((3, 80, 60), 200, dtype=torch.uint8))]
    for picture in pictures:
        assert picture.size == (60, 80) and picture.mode == "RGB"
        np.testing.assert_allclose(np.asarray(picture), np.asarray(pictures[1]), atol=3)
    changed = np.abs(np.asarray(pictures[1]).astype(int) - 200).max(axis=2) > 20
    rows, columns = np.nonzero(changed)
    assert 18 <= rows.min() and rows.max() < 42 and 26 <= columns.min() and columns.max() < 52
    assert explanation.on(0, upright, longest=40).size == (30, 40)
    assert explanation.on(0, upright, longest=500).size == upright.size == (60, 80)
    with pytest.raises(DataError, match="nowhere.png: no such file"):
        explanation.on(0, tmp_path / "nowhere.png")


def test_colours_and_opacity_show_the_share_of_the_maximum():
    from matplotlib import colormaps

    image = Image.new("RGB", (3, 1), (100, 100, 100))
    shown = np.asarray(overlay(image, np.array([[0.0, 2.0, 4.0]]))).astype(int)[0]
    for pixel, share in zip(shown, (0.0, 0.5, 1.0), strict=True):
        colour = 255 * np.array(colormaps[COLOURS](share)[:3])
        np.testing.assert_allclose(pixel, (1 - STRONGEST * share) * 100 + STRONGEST * share * colour, atol=1)
    blank = np.asarray(overlay(image, np.zeros((1, 3))))
    assert (blank == 100).all()
