"""MixUp and CutMix: the images, the proportion, the loss with mixed targets, and a run that is stopped and goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clipzoo.datasets.augmentations import CutMix, MixUp, StandardAugmentation, augmentation_of, mixed, mixings_of
from clipzoo.engine import checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import ConfigError
from clipzoo.models.losses import CaptionCrossEntropyLoss, CrossEntropyLoss, MultiPositiveContrastiveLoss, SigmoidContrastiveLoss
from clipzoo.structures import Batch


def batch_of(num_cases=6, size=8, captions=4):
    """Cases of which several share a caption."""
    generator = torch.Generator().manual_seed(3)
    caption_B = torch.randint(captions, (num_cases,), generator=generator)
    ids_U = torch.arange(captions) + 10
    return Batch(
        images=torch.randn(num_cases, 3, size, size, generator=generator),
        labels=caption_B.clone(),
        cases=torch.arange(num_cases) + 100,
        caption=caption_B,
        caption_ids=ids_U,
        caption_labels=torch.arange(captions),
        positive_ids=ids_U[caption_B][:, None],
    )


def test_mixup_is_a_weighted_mean():
    batch = batch_of()
    found = mixed(batch, [MixUp(alpha=1.0)], seed=5)
    share = float(found.share)
    assert 0 < share < 1 and sorted(found.partner.tolist()) == list(range(6)) and found.partner.tolist() != list(range(6))
    for case, partner in enumerate(found.partner.tolist()):
        torch.testing.assert_close(found.images[case], share * batch.images[case] + (1 - share) * batch.images[partner])
    assert torch.equal(found.labels, batch.labels) and torch.equal(mixed(batch, [MixUp(alpha=1.0)], seed=5).images, found.images)


def test_cutmix_replaces_one_rectangle_and_its_share_is_that_of_the_pixels():
    batch, shares = batch_of(size=12), []
    for seed in range(30):
        found = mixed(batch, [CutMix()], seed)
        case = next(i for i, partner in enumerate(found.partner.tolist()) if i != partner)
        own = (found.images[case] == batch.images[case]).all(dim=0)
        other = (found.images[case] == batch.images[found.partner[case]]).all(dim=0)
        assert (own ^ other).all()
        rows, columns = other.any(dim=1).nonzero().flatten().tolist(), other.any(dim=0).nonzero().flatten().tolist()
        assert int(other.sum()) == len(rows) * len(columns) and (not rows or rows == list(range(rows[0], rows[-1] + 1)))
        assert float(found.share) == pytest.approx(float(own.float().mean()), abs=1e-6)
        shares.append(float(found.share))
    assert min(shares) < 0.3 and max(shares) > 0.9


def test_the_proportion_is_beta_and_the_same_for_batches_of_another_size():
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within five standard errors of 500 draws."""
    for alpha in (0.2, 1.0):
        small, large = (
            np.array([float(mixed(batch, [MixUp(alpha)], seed).share) for seed in range(500)]) for batch in (batch_of(2), batch_of(5))
        )
        assert np.array_equal(small, large)
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(small.mean() - 0.5) < 5 * np.sqrt(variance / 500) and abs(small.var() - variance) < 0.2 * variance


def test_a_share_of_the_batches_is_mixed_and_one_of_several_kinds_is_drawn():
    batch = batch_of()
    assert mixed(batch, [], 0) is batch and mixed(batch, [MixUp(probability=0.0)], 0) is batch
    found = [mixed(batch, [MixUp(0.5, 0.5), CutMix(1.0, 0.5)], seed) for seed in range(200)]
    assert 70 < sum(one.partner is None for one in found) < 130
    kinds = [
        bool(((one.images == batch.images) | (one.images == batch.images[one.partner])).all()) for one in found if one.partner is not None
    ]
    assert 25 < sum(kinds) < len(kinds) - 25


def test_the_loss_of_a_classifier_is_cross_entropy_with_mixed_targets():
    batch, logits = mixed(batch_of(), [MixUp(1.0)], 1), torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = CrossEntropyLoss(label_smoothing=0.1)
    found = batch.mixed_loss(lambda described: loss(logits, described.labels))
    one_hot, share = F.one_hot(batch.labels, 4).double(), float(batch.share)
    target = share * one_hot + (1 - share) * one_hot[batch.partner]
    expected = F.cross_entropy(logits, target, label_smoothing=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # the share is a float32


def test_the_loss_of_a_clip_has_the_captions_of_both_cases_as_positives():
    """A naive loop over images and captions, with mixed targets in both directions."""
    batch = mixed(batch_of(), [CutMix()], 2)
    generator = torch.Generator().manual_seed(1)
    image, text = (F.normalize(torch.randn(n, 5, dtype=torch.float64, generator=generator), dim=1) for n in (6, 4))
    scale, share = torch.tensor(7.0, dtype=torch.float64), float(batch.share)
    found = batch.mixed_loss(lambda described: MultiPositiveContrastiveLoss()(image, text, scale, described))
    logits = (scale * image @ text.T).numpy()

    def log_softmax(values):
        return values - np.log(np.exp(values - values.max()).sum()) - values.max()

    expected = 0.0
    own, partner = batch.caption.numpy(), batch.caption[batch.partner].numpy()
    for captions, weight in ((own, share), (partner, 1 - share)):
        for case, caption in enumerate(captions):
            expected -= weight * log_softmax(logits[case])[caption] / 6 / 2
            cases = np.flatnonzero(captions == caption)
            expected -= weight * log_softmax(logits[:, caption])[cases].mean() / 6 / 2
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [CaptionCrossEntropyLoss, SigmoidContrastiveLoss])
def test_every_loss_of_a_clip_is_between_those_of_the_two_assignments(kind):
    batch, generator = mixed(batch_of(), [MixUp(2.0)], 4), torch.Generator().manual_seed(1)
    image, text = (F.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (6, 4))
    loss = kind()
    per_case = {name: getattr(batch, name)[batch.partner] for name in ("labels", "cases", "caption", "positive_ids")}
    own, other = (loss(image, text, torch.tensor(5.0), one).item() for one in (batch, replace(batch, **per_case)))
    found = batch.mixed_loss(lambda described: loss(image, text, torch.tensor(5.0), described)).item()
    assert own != other and found == pytest.approx(float(batch.share) * own + (1 - float(batch.share)) * other, rel=1e-5)


def test_it_stands_in_a_list():
    spec = ["standard", {"type": "MixUp", "alpha": 0.3}, "CutMix"]
    assert [type(one).__name__ for one in mixings_of(spec)] == ["MixUp", "CutMix"] and mixings_of("standard") == []
    assert isinstance(augmentation_of(spec).members[0], StandardAugmentation)


def mixing(config_of, **train):
    augmentation = ["minimal", {"type": "MixUp", "alpha": 0.4, "probability": 0.8}, {"type": "CutMix"}]
    return config_of(data={"augmentation": augmentation}, train={"epochs": 2, **train})


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(config_of, tmp_path, quiet, stopped_at):
    CrossValidation(mixing(config_of), tmp_path / "whole", console=quiet).train(fold=1)
    with stopped_at(2):
        CrossValidation(mixing(config_of), tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(mixing(config_of), tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(config_of(), tmp_path / "plain", console=quiet).train(fold=1)
    whole, stopped, plain = (
        checkpoint.read(tmp_path / name / "fold_1" / "checkpoint_latest.pth")["model"] for name in ("whole", "stopped", "plain")
    )
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    assert not all(torch.equal(whole[key], plain[key]) for key in whole)


def test_what_cannot_be_mixed_is_one_clear_line(config_of, tmp_path, quiet, monkeypatch):
    with pytest.raises(
        ConfigError, match=r"^data.augmentation: MixUp, CutMix cannot be used with train.grad_cache. Remove one of the two$"
    ):
        CrossValidation(mixing(config_of, grad_cache=True, accumulation=2), tmp_path / "a", console=quiet).train(fold=1)
    from clipzoo.models.clip import CLIP

    monkeypatch.setattr(CLIP, "takes_mixed", False)
    with pytest.raises(ConfigError, match=r"^data.augmentation: CLIP does not support MixUp, CutMix"):
        CrossValidation(mixing(config_of), tmp_path / "b", console=quiet).train(fold=1)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
