"""Localisation, curves and randomisation: the measures that explanations are checked with."""

import numpy as np
import pytest
import torch

from clipzoo.explain import explain
from clipzoo.explain.curves import area_under, deletion_and_insertion
from clipzoo.explain.localisation import area_of, mass_inside, pointing_hits
from clipzoo.explain.randomised import randomised


def maps_with(*peaks):
    maps = np.zeros((len(peaks), 4, 6), dtype=np.float32)
    for one, points in zip(maps, peaks, strict=True):
        for row, column, value in points:
            one[row, column] = value
    return maps


def test_pointing_game_and_mass():
    box = (1.0, 1.0, 3.0, 3.0)  # columns 1 and 2 of rows 1 and 2
    maps = maps_with([(1, 1, 2), (0, 5, 1)], [(3, 3, 5), (2, 2, 4)], [(2, 2, 3), (0, 0, 3), (0, 1, 3), (0, 2, 3)], [])
    boxes = np.array([box] * 4)
    np.testing.assert_allclose(pointing_hits(maps, boxes), [1, 0, 1 / 4, 0])
    np.testing.assert_allclose(mass_inside(maps, boxes), [2 / 3, 4 / 9, 1 / 4, 0])
    np.testing.assert_allclose(area_of(maps.shape, boxes), 4 / 24)
    flat = np.ones_like(maps)
    np.testing.assert_allclose(mass_inside(flat, boxes), 4 / 24)
    np.testing.assert_allclose(pointing_hits(flat, boxes), 4 / 24)
    assert pointing_hits(maps[:1], np.array([[1.5, 1.0, 3.0, 3.0]])) == 1  # the centre of pixel 1 is at 1.5
    assert pointing_hits(maps[:1], np.array([[1.6, 1.0, 3.0, 3.0]])) == 0


def test_curves_of_a_score_that_is_the_sum_over_a_square():
    """The right map takes the score away first, its opposite last."""
    images = torch.ones(2, 3, 8, 8)
    weight = torch.zeros(8, 8)
    weight[:4, :4] = 1 / 16  # a quarter of the pixels

    def score(given):
        return (given.mean(dim=1) * weight).sum(dim=(1, 2))

    right = weight.expand(2, 8, 8)
    deletion, insertion = deletion_and_insertion(score, images, right, num_steps=8)
    torch.testing.assert_close(deletion[0], torch.tensor([1.0, 0.5, 0, 0, 0, 0, 0, 0, 0]))
    opposite, _ = deletion_and_insertion(score, images, -right, num_steps=8)
    torch.testing.assert_close(opposite[0], torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 0.5, 0]))
    torch.testing.assert_close(area_under(deletion), torch.full((2,), (0.5 + 0.5) / 8))
    torch.testing.assert_close(insertion, torch.ones(2, 9))  # a blurred constant is the same constant
    flat, _ = deletion_and_insertion(score, images, torch.zeros(2, 8, 8), num_steps=8)
    torch.testing.assert_close(area_under(flat), torch.full((2,), 0.5), rtol=0, atol=0.15)  # ties in random order


def test_insertion_starts_from_the_blurred_image_and_ends_at_the_image():
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    deletion, insertion = deletion_and_insertion(lambda given: given.abs().mean(dim=(1, 2, 3)), images, torch.rand(1, 16, 16), num_steps=4)
    full = float(images.abs().mean())
    assert float(deletion[0, 0]) == float(insertion[0, -1]) == pytest.approx(full) and float(deletion[0, -1]) == 0
    assert float(insertion[0, 0]) < 0.3 * full


@pytest.mark.parametrize("name", ["conv_clip", "vit_clip"])
def test_randomised_blocks_are_new_and_all_else_stays(name, request, files):
    loaded = request.getfixturevalue(name)
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    groups = loaded.model.image_encoder.depth_groups()
    generator = torch.get_rng_state()
    for blocks in (1, 2, None):
        other = randomised(loaded, blocks, seed=3)
        chosen = {f"image_encoder.{key}" for group in groups[-blocks if blocks else 0 :] for key in group}
        same = {key for key, value in other.model.named_parameters() if torch.equal(value, before[key])}
        assert {key for key in before if key in dict(other.model.named_parameters())} - same <= chosen
        matrices = {key for key, value in other.model.named_parameters() if key in chosen and value.ndim > 1}
        assert matrices and not matrices & same
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in loaded.model.state_dict().items())
    one, other = explain(loaded, files[:2], "一个圆"), explain(randomised(loaded), files[:2], "一个圆")
    assert np.abs(one.scores - other.scores).max() > 1e-4
    again = [explain(randomised(loaded, seed=1), files[:2], "一个圆").maps for _ in range(2)]
    np.testing.assert_array_equal(*again)
