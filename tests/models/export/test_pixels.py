"""The preprocessing as tensor operations: the grey levels of Pillow and torchvision, for every size and fit."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.errors import ConfigError
from clipzoo.models.export import pixels
from clipzoo.models.export.pixels import Pixels, columns_can_be_first
from clipzoo.structures import Preprocessing

# Larger, smaller and equal, wide and tall; with both orders of Pillow's passes, and sides of a single pixel.
SHAPES = ((40, 60), (500, 333), (64, 64), (32, 33), (32, 32), (7, 3), (1, 90), (99, 1), (200, 40), (40, 200))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_grey_levels_are_those_of_training(fit, interpolation):
    preprocessing = Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), interpolation, fit)
    ours, theirs = Pixels(preprocessing), evaluation_transform(preprocessing)
    mean, std = torch.tensor(preprocessing.mean)[:, None, None], torch.tensor(preprocessing.std)[:, None, None]
    for shape in SHAPES:
        array = noise(*shape)
        expected = theirs(Image.fromarray(array))
        levels = ours.grey_levels(torch.from_numpy(array)[None])[0]
        assert torch.equal(levels, ((expected * std + mean) * 255).round().double()), shape
        torch.testing.assert_close(ours(torch.from_numpy(array)[None])[0], expected, rtol=0, atol=1e-6)


def test_images_of_a_batch_do_not_meet():
    ours, one, other = Pixels(Preprocessing(16)), noise(20, 30), noise(20, 30)[::-1].copy()
    both = ours(torch.from_numpy(np.stack([one, other])))
    assert torch.equal(both[0], ours(torch.from_numpy(one)[None])[0]) and torch.equal(both[1], ours(torch.from_numpy(other)[None])[0])
    assert not torch.equal(both[0], both[1])


def test_the_order_of_passes_is_that_of_the_installed_pillow(monkeypatch):
    """Of a tall image the two orders differ; whichever Pillow has, the other one would be wrong."""
    squash = Preprocessing(32, interpolation="bicubic", fit="squash")
    image = torch.from_numpy(noise(200, 40))[None]
    right = Pixels(squash).grey_levels(image)
    is_new = columns_can_be_first()
    monkeypatch.setattr(pixels, "columns_can_be_first", lambda: not is_new)
    assert (Pixels(squash).grey_levels(image) - right).abs().max() > 1
    assert columns_can_be_first() == (int(Image.__version__.partition(".")[0]) >= 13)


def test_unknown_fit_and_interpolation_are_refused():
    with pytest.raises(ConfigError, match="unknown fit 'stretch'"):
        Pixels(Preprocessing(fit="stretch"))
    with pytest.raises(ConfigError, match="unknown interpolation 'lanczos'. Known: bilinear, bicubic"):
        Pixels(Preprocessing(interpolation="lanczos"))
