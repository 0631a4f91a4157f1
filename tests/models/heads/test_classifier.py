"""The classifiers."""

import math

import pytest
import torch
from torch.nn import functional as F

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.heads import CosineHead, LinearHead, LinearProjection, MLPProjection, ResidualMLPHead
from clipzoo.optim.parameter_groups import parameter_groups

STARTING = [CosineHead(), LinearHead(normalize=True), ResidualMLPHead(normalize=True)]


@pytest.fixture
def features():
    torch.manual_seed(0)
    return 3 * torch.randn(6, 8)


@pytest.fixture
def prototypes():
    return F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=-1)


@pytest.mark.parametrize("head", STARTING, ids=lambda head: type(head).__name__)
def test_a_head_started_from_prototypes_gives_zero_shot_logits(head, features, prototypes):
    head.connect(8, 4).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1  # whatever was there is gone
    head.start_from(prototypes, math.log(50))
    expected = 50 * F.cosine_similarity(features[:, None], prototypes[None], dim=-1)
    torch.testing.assert_close(head(features), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("head", [LinearHead(), ResidualMLPHead(), LinearProjection(), MLPProjection()], ids=lambda h: type(h).__name__)
def test_a_head_that_cannot_start_says_what_can(head, prototypes):
    assert "normalize=True" in head.refuses_start()
    with pytest.raises(BuildError, match="normalize=True"):
        head.connect(8, 4).start_from(prototypes, 1.0)


def test_the_residual_head_starts_as_a_linear_one_and_leaves_it(features):
    torch.manual_seed(0)
    head = ResidualMLPHead(8, 4, hidden_features=5)
    torch.testing.assert_close(head(features), head.layers["logits"](features))
    for _ in range(2):  # with the last map at 0, the first one has no gradient in the first step
        head.zero_grad()
        head(features).square().sum().backward()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.01 * parameter.grad
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    hidden = F.gelu(head.layers["branch"][1](F.layer_norm(features, (8,), *head.layers["branch"][0].parameters())))
    torch.testing.assert_close(head(features), head.layers["logits"](features + head.layers["branch"][4](hidden)))
    assert not torch.allclose(head(features), head.layers["logits"](features))


def test_the_linear_head_normalises_and_drops_where_it_is_told(features):
    torch.manual_seed(0)
    head = LinearHead(8, 4, normalize=True, bias=False)
    torch.testing.assert_close(head(features), head(7 * features))
    torch.testing.assert_close(LinearHead(8, 4, normalize=False).eval()(features).shape, torch.Size([6, 4]))
    dropping = LinearHead(8, 4, dropout=0.5)
    assert not torch.equal(dropping(features), dropping(features))
    dropping.eval()
    torch.testing.assert_close(dropping(features), dropping.layers(features))


def test_the_cosine_head_knows_no_lengths_and_its_temperature_stays_in_range(features):
    head = CosineHead(8, 4, temperature=0.1)
    torch.testing.assert_close(head(features), 10 * F.normalize(features, dim=1) @ F.normalize(head.layers.weight, dim=1).T)
    with torch.no_grad():
        head.layers.weight *= 5
    torch.testing.assert_close(head(features), head(2 * features))
    for far, limit in ((9.0, 100.0), (-3.0, 1.0)):
        with torch.no_grad():
            head.logit_scale.fill_(far)
        head.after_step()
        assert head.logit_scale.exp().item() == pytest.approx(limit, rel=1e-6)
    fixed = CosineHead(8, 4, temperature=0.001, learn_temperature=False)
    fixed.after_step()
    assert fixed.logit_scale.exp().item() == pytest.approx(1000, rel=1e-5) and not fixed.logit_scale.requires_grad


def test_lengths_of_cosine_weights_are_not_decayed():
    groups = {group["name"]: group["params"] for group in parameter_groups(CosineHead(8, 4), 1e-3, 0.1)}
    assert [name for name in groups] == ["no_decay"] and len(groups["no_decay"]) == 2


def test_arguments_are_checked():
    for make, said in (
        (lambda: LinearHead(dropout=1.0), "dropout: 1.0"),
        (lambda: ResidualMLPHead(hidden_features=0), "hidden_features: 0"),
        (lambda: ResidualMLPHead(dropout=-0.1), "dropout: -0.1"),
        (lambda: CosineHead(temperature=0.0), "temperature: 0.0"),
        (lambda: CosineHead(temperature=2.0), r"temperature: 2.0 outside \[0.01, 1\]"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()
