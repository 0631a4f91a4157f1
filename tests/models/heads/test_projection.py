"""The projections."""

import pytest
import torch

from clipzoo.errors import ConfigError
from clipzoo.models.heads import LinearProjection, MLPProjection
from clipzoo.registries import HEADS


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_is_made_at_once_or_later(name):
    at_once, later = HEADS.build(name, in_features=8, out_features=5), HEADS.build(name)
    assert later.connect(8, 5) is later
    assert at_once.connect(8, 5) is at_once
    for head in (at_once, later):
        assert head(torch.randn(3, 8)).shape == (3, 5)
        assert all(p.requires_grad for p in head.parameters())


def test_a_head_of_other_widths_is_refused():
    with pytest.raises(ConfigError, match="in_features=8, but the model requires 9"):
        LinearProjection(8).connect(9, 5)


def test_the_linear_projection_starts_with_clips_standard_deviation():
    torch.manual_seed(0)
    head = LinearProjection(400, 500)
    assert head.layers.bias is None
    assert head.layers.weight.std().item() == pytest.approx(400**-0.5, rel=0.02)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="dropout"):
        MLPProjection(dropout=1.0)
    with pytest.raises(ConfigError, match="out_features"):
        LinearProjection(3, 0)
