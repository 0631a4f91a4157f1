"""Several images of a case, and test views of an image: features are means of the tower's outputs."""

import pytest
import torch
from small_towers import IMAGES
from torch import nn
from torch.nn import functional as F

from clipzoo.features.digest import feature_digest
from clipzoo.models import CLIP, ImageClassifier
from clipzoo.models.backbones.base import views_of
from clipzoo.models.pooling import mean_per_case
from clipzoo.registries import BACKBONES, TEXT_ENCODERS
from clipzoo.structures import Batch, Preprocessing

SIZES = torch.tensor([3, 1, 2])
KINDS = {"flip": 1, "rotations": 2, "zooms": 2, "shifts": 4}


def small(**changes):
    torch.manual_seed(0)
    return BACKBONES.build({**IMAGES["CLIPVision"], **changes})


def batch_of(images, sizes=SIZES):
    rows = torch.arange(len(images) if sizes is None else len(sizes))
    return Batch(images=images, labels=rows, cases=rows, num_images=sizes)


@pytest.fixture
def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_mean_per_case_is_that_of_a_loop(images):
    features = images.flatten(1)[:, :5].double()
    parts = features.split(SIZES.tolist())
    torch.testing.assert_close(mean_per_case(features, SIZES), torch.stack([part.mean(dim=0) for part in parts]))
    assert mean_per_case(features.bfloat16(), SIZES).dtype == torch.float32


def test_a_clip_averages_before_the_projection_and_a_classifier_before_the_head(images):
    text = TEXT_ENCODERS.build({"type": "CLIPText", "width": 32, "heads": 2, "layers": 1, "output_dim": 16})
    clip, classifier = CLIP(small(), text, embed_dim=8).eval(), ImageClassifier(small(), 3).eval()
    with torch.no_grad():
        pooled = torch.stack([part.mean(dim=0) for part in clip.image_encoder(images).split(SIZES.tolist())])
        found = clip.encode_image(images, None, SIZES)
        torch.testing.assert_close(found, F.normalize(clip.image_projection(pooled), dim=1))
        prototypes = F.normalize(torch.randn(3, 8), dim=1)
        torch.testing.assert_close(clip.predict(batch_of(images), prototypes), clip.logit_scale.exp() * found @ prototypes.T)
        torch.testing.assert_close(classifier.predict(batch_of(images)), classifier.head(pooled))
        one = torch.ones(6, dtype=torch.int64)
        torch.testing.assert_close(classifier.predict(batch_of(images, one)), classifier.predict(batch_of(images, None)))


def test_every_image_of_a_case_gets_its_share_of_the_gradient(images):
    classifier = ImageClassifier(small(), 3)
    images.requires_grad_()
    classifier(batch_of(images))["cross_entropy"].backward()
    norms = images.grad.flatten(1).norm(dim=1)
    assert (norms > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_test_views_average_over_the_image_and_its_changed_copies(kind, images):
    tower = small().eval()
    with torch.no_grad():
        plain = tower.averaged(images)
        assert torch.equal(plain, tower(images))
        tower.test_views = (kind,)
        changes = views_of(kind, tower.preprocessing)
        found = tower.averaged(images)
        expected = torch.stack([tower(images), *(tower(change(images)) for change in changes)]).mean(dim=0)
    assert len(changes) == KINDS[kind] and not torch.allclose(found, plain, atol=1e-4)
    torch.testing.assert_close(found, expected)


def test_views_are_what_their_names_say():
    preprocessing = Preprocessing(size=40, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.5))
    black = torch.tensor([-0.5 / 0.2, -0.4 / 0.3, -0.3 / 0.5])
    image = torch.randn(1, 3, 40, 40)
    (flip,) = views_of("flip", preprocessing)
    assert torch.equal(flip(image), image.flip(3))
    left, right, up, down = (change(image) for change in views_of("shifts", preprocessing))
    assert torch.equal(left[..., :-1], image[..., 1:]) and torch.equal(right[..., 1:], image[..., :-1])
    assert torch.equal(up[..., :-1, :], image[..., 1:, :]) and torch.equal(down[..., 1:, :], image[..., :-1, :])
    assert torch.allclose(left[0, :, :, -1], black[:, None].expand(3, 40)) and torch.allclose(down[0, :, 0], black[:, None].expand(3, 40))
    smaller, larger = (change(torch.ones(1, 3, 40, 40)) for change in views_of("zooms", preprocessing))
    assert torch.allclose(smaller[0, :, 0, 0], black) and torch.allclose(larger, torch.ones(()), atol=1e-5)
    one, other = (change(image) for change in views_of("rotations", preprocessing))
    assert torch.allclose(one.flip(3), views_of("rotations", preprocessing)[1](image.flip(3)), atol=1e-4) and not torch.allclose(one, other)


def test_a_trained_tower_averages_outside_training_and_a_frozen_one_always(images):
    for frozen in (False, True):
        classifier = ImageClassifier(small(freeze="all") if frozen else small(), 3)
        plain = classifier.image_encoder(images)
        classifier.image_encoder.test_views = ("flip",)
        for module in classifier.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        assert torch.allclose(classifier.train().tower_features(images), plain, atol=1e-6) is not frozen
        assert not torch.allclose(classifier.eval().tower_features(images), plain, atol=1e-4)


def test_cached_features_of_other_views_are_not_used():
    tower = small()
    digests = {feature_digest(tower, tower.preprocessing)}
    for kinds in (None, [], ("flip",), ("shifts",), ("flip", "shifts"), ("shifts", "flip")):
        tower.average_over(kinds)
        digests.add(feature_digest(tower, tower.preprocessing))
    assert len(digests) == 4
