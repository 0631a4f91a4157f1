"""Every loss against plain loops over pairs in double precision: values, gradients, and what is known about their floors."""

import math

import pytest
import torch
from torch.nn import functional as F

from clipzoo.errors import ConfigError
from clipzoo.models.losses import (
    CaptionCrossEntropyLoss,
    ContrastiveLoss,
    Loss,
    MultiPositiveContrastiveLoss,
    SigmoidContrastiveLoss,
)
from clipzoo.models.prototypes import class_prototypes
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch

CONTRASTIVE = [ContrastiveLoss, MultiPositiveContrastiveLoss, SigmoidContrastiveLoss]
D = 5


def make_batch(drawn_ids, positive_ids, labels=None, caption_labels=None) -> Batch:
    """A batch whose case i drew caption ``drawn_ids[i]`` and is described by all of ``positive_ids[i]``."""
    distinct = sorted(set(drawn_ids))
    width = max(len(ids) for ids in positive_ids)
    padded = [list(ids) + [-1] * (width - len(ids)) for ids in positive_ids]
    return Batch(
        images=torch.zeros(len(drawn_ids), 3, 1, 1),
        labels=torch.tensor(labels if labels is not None else [-1] * len(drawn_ids)),
        cases=torch.arange(len(drawn_ids)),
        caption=torch.tensor([distinct.index(i) for i in drawn_ids]),
        caption_ids=torch.tensor(distinct),
        caption_labels=torch.tensor(caption_labels if caption_labels is not None else [-1] * len(distinct)),
        positive_ids=torch.tensor(padded),
    )


def unit(rows: int, seed: int) -> torch.Tensor:
    features = torch.randn(rows, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(features, dim=-1).requires_grad_()


UNIQUE = make_batch([3, 7, 1, 5], [[3], [7], [1], [5]])
REPEATED = make_batch([2, 9, 2, 4, 9, 2], [[2], [9], [2], [4], [9], [2]])
SEVERAL = make_batch([0, 1, 0, 3, 2, 3], [[0, 1], [0, 1], [0, 1], [2, 3, 8], [2, 3, 8], [2, 3, 8]])  # 8 was drawn by nobody
BATCHES = {"unique": UNIQUE, "repeated": REPEATED, "several": SEVERAL}


def naive_parts(image, text, scale, batch):
    """Logits as a list of lists, the caption of each case, and the set of positive rows of each case."""
    logits = [[scale * sum(a * b for a, b in zip(i, t, strict=True)) for t in text] for i in image]
    ids = batch.caption_ids.tolist()
    positive = [{u for u, c in enumerate(ids) if c in row and c >= 0} for row in batch.positive_ids.tolist()]
    return logits, batch.caption.tolist(), positive


def minus_log_softmax(values, index):
    return torch.stack(values).exp().sum().log() - values[index]


def naive_standard(image, text, scale, batch):
    logits, caption, _ = naive_parts(image, text, scale, batch)
    total, num = 0.0, len(logits)
    for i in range(num):
        total = total + minus_log_softmax([logits[i][caption[j]] for j in range(num)], i)
        total = total + minus_log_softmax([logits[j][caption[i]] for j in range(num)], i)
    return total / (2 * num)


def naive_multi_positive(image, text, scale, batch):
    logits, caption, positive = naive_parts(image, text, scale, batch)
    total, num = 0.0, len(logits)
    for i in range(num):
        for u in positive[i]:
            total = total + minus_log_softmax(logits[i], u) / len(positive[i])
        described = [j for j in range(num) if caption[i] in positive[j]]
        for j in described:
            total = total + minus_log_softmax([row[caption[i]] for row in logits], j) / len(described)
    return total / (2 * num)


def naive_sigmoid(image, text, scale, batch, bias):
    logits, _, positive = naive_parts(image, text, scale, batch)
    total = 0.0
    for i, row in enumerate(logits):
        for u, logit in enumerate(row):
            sign = 1 if u in positive[i] else -1
            total = total + (1 + (-sign * (logit + bias)).exp()).log()
    return total / len(logits)


def naive_cross_entropy(image, text, scale, batch, smoothing):
    labels = batch.caption_labels.tolist()
    prototypes = []
    for c in range(max(labels) + 1):
        members = [text[s] / text[s].norm() for s, label in enumerate(labels) if label == c]
        mean = sum(members) / len(members)
        prototypes.append(mean / mean.norm())
    losses = []
    for i, label in enumerate(batch.labels.tolist()):
        if label < 0:
            continue
        logits = [scale * (image[i] * p).sum() for p in prototypes]
        for c in range(len(prototypes)):
            target = (1 - smoothing) * (c == label) + smoothing / len(prototypes)
            losses.append(target * minus_log_softmax(logits, c))
    return sum(losses) / sum(label >= 0 for label in batch.labels.tolist())


def check_equal(loss: Loss, naive, batch: Batch, **more):
    """Value and every gradient of ``loss`` equal those of ``naive``."""
    inputs = [unit(len(batch), 1), unit(len(batch.caption_ids), 2), torch.tensor(6.5, dtype=torch.float64, requires_grad=True)]
    parameters = list(loss.parameters())
    ours, expected = loss(*inputs, batch), naive(*inputs, batch, *parameters, **more)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(ours, inputs + parameters)
    for got, want in zip(gradients, torch.autograd.grad(expected, inputs + parameters), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", BATCHES)
def test_contrastive_losses_equal_naive_loops(name):
    check_equal(ContrastiveLoss(), naive_standard, BATCHES[name])
    check_equal(MultiPositiveContrastiveLoss(), naive_multi_positive, BATCHES[name])
    check_equal(SigmoidContrastiveLoss(5.0).double(), naive_sigmoid, BATCHES[name])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_caption_cross_entropy_equals_a_naive_loop(smoothing):
    batch = make_batch([0, 1, 2, 3, 4], [[0], [1], [2], [3], [4]], labels=[2, 0, -1, 1, 0], caption_labels=[0, 1, 0, 2, 0])
    check_equal(CaptionCrossEntropyLoss(label_smoothing=smoothing), naive_cross_entropy, batch, smoothing=smoothing)


def test_caption_cross_entropy_is_torchs_with_one_caption_per_class():
    batch = make_batch([0, 1, 2], [[0], [1], [2]], labels=[2, 0, 1], caption_labels=[0, 1, 2])
    image, text = unit(3, 1), unit(3, 2)
    expected = F.cross_entropy(9.0 * image @ text.T, batch.labels, label_smoothing=0.2)
    torch.testing.assert_close(CaptionCrossEntropyLoss(0.2)(image, text, torch.tensor(9.0).double(), batch), expected)


def test_caption_cross_entropy_of_unlabelled_cases_is_zero_with_zero_gradient():
    batch = make_batch([0, 1], [[0], [1]], labels=[-1, -1], caption_labels=[0, 1])
    image, text = unit(2, 1), unit(2, 2)
    loss = CaptionCrossEntropyLoss()(image, text, torch.tensor(9.0).double(), batch)
    assert loss.item() == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, [image, text]))


def test_the_losses_without_repeated_captions_equal_each_other_and_open_clip():
    open_clip_loss = pytest.importorskip("open_clip.loss")
    image, text, scale = unit(4, 1), unit(4, 2), torch.tensor(14.0).double()
    standard = ContrastiveLoss()(image, text, scale, UNIQUE)
    text_of_case = text[UNIQUE.caption]
    torch.testing.assert_close(standard, MultiPositiveContrastiveLoss()(image, text, scale, UNIQUE), rtol=1e-12, atol=0)
    torch.testing.assert_close(standard, open_clip_loss.ClipLoss()(image, text_of_case, scale), rtol=1e-12, atol=0)
    sigmoid = SigmoidContrastiveLoss(3.0).double()
    theirs = open_clip_loss.SigLipLoss()(image, text_of_case, scale, sigmoid.logit_bias)
    torch.testing.assert_close(sigmoid(image, text, scale, UNIQUE), theirs, rtol=1e-12, atol=0)


def test_the_standard_loss_has_the_gradient_of_encoding_every_repeat():
    open_clip_loss = pytest.importorskip("open_clip.loss")
    image, text, scale = unit(6, 1), unit(3, 2), torch.tensor(8.0).double().requires_grad_()
    repeated = text[REPEATED.caption].detach().requires_grad_()
    theirs = torch.autograd.grad(open_clip_loss.ClipLoss()(image, repeated, scale), [image, repeated, scale])
    ours = torch.autograd.grad(ContrastiveLoss()(image, text, scale, REPEATED), [image, text, scale])
    summed = torch.zeros(3, D).double().index_add(0, REPEATED.caption, theirs[1])
    for got, want in zip(ours, [theirs[0], summed, theirs[2]], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_the_floors_under_repeated_captions():
    """Features that could not be better: the standard loss stays at the mean ln(duplicates), the multi-positive one at half of it."""
    text = torch.eye(3, D, dtype=torch.float64)
    image = text[REPEATED.caption]
    scale = torch.tensor(200.0).double()
    counts = [3, 2, 3, 1, 2, 3]
    floor = sum(math.log(n) for n in counts) / len(counts)
    assert ContrastiveLoss()(image, text, scale, REPEATED).item() == pytest.approx(floor, abs=1e-9)
    assert MultiPositiveContrastiveLoss()(image, text, scale, REPEATED).item() == pytest.approx(floor / 2, abs=1e-9)
    assert SigmoidContrastiveLoss(1.0)(image, text, scale, REPEATED).item() == pytest.approx(6 * math.log(2) * 2 / 6, abs=1e-6)

    perfect = image.clone().requires_grad_()
    for loss in (ContrastiveLoss(), MultiPositiveContrastiveLoss()):
        (gradient,) = torch.autograd.grad(loss(perfect, text, scale, REPEATED), perfect)
        assert gradient.abs().max() < 1e-9


def test_only_the_standard_loss_pushes_images_of_one_caption_apart():
    """Two images sit on their shared caption; two captions of one class both describe both cases."""
    text = torch.eye(2, D, dtype=torch.float64).requires_grad_()
    batch = make_batch([0, 1], [[0, 1], [0, 1]])
    image = F.normalize(torch.eye(2, D, dtype=torch.float64).sum(0).expand(2, D), dim=-1)
    scale = torch.tensor(20.0).double()
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(MultiPositiveContrastiveLoss()(image, text, scale, batch), image)
    assert gradient.abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(ContrastiveLoss()(image, text, scale, batch), image)
    assert gradient.abs().max() > 1


def test_sigmoid_bias_starts_at_the_log_odds_of_a_positive():
    loss = SigmoidContrastiveLoss(negatives_per_positive=9)
    assert loss.logit_bias.item() == pytest.approx(-math.log(9))
    assert dict(loss.named_parameters()).keys() == {"logit_bias"}
    # With similarities of 0 the expected share of "yes" is the true one, so the bias has no gradient yet.
    ids = list(range(10))
    batch = make_batch(ids, [[i] for i in ids])
    zero = torch.zeros(10, D, dtype=torch.float64)
    loss.double()(zero, zero, torch.tensor(10.0).double(), batch).backward()
    assert loss.logit_bias.grad.item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("make", [lambda: SigmoidContrastiveLoss(0), lambda: CaptionCrossEntropyLoss(1.0)])
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ConfigError, match="is not a number"):
        make()


@pytest.mark.parametrize("name", ["CaptionCrossEntropyLoss", *[c.__name__ for c in CONTRASTIVE]])
def test_every_loss_is_registered_and_stays_in_fp32_under_autocast(name):
    loss = LOSSES.build(name)
    assert isinstance(loss, Loss) and loss.captions in ("batch", "all")
    batch = make_batch([0, 1, 2], [[0], [1], [2]], labels=[2, 0, 1], caption_labels=[0, 1, 2])
    image, text, scale = unit(3, 1).detach().float(), unit(3, 2).detach().float(), torch.tensor(100.0)
    expected = loss(image, text, scale, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(image, text, scale, batch), expected)
        halved = loss(image.bfloat16(), text.bfloat16(), scale, batch)
    assert expected.dtype == halved.dtype == torch.float32 and expected.dim() == 0


def test_prototypes_are_normalised_averaged_and_normalised():
    text = torch.tensor([[3.0, 0.0], [0.0, 0.5], [0.0, -2.0], [9.0, 9.0]])
    got = class_prototypes(text, torch.tensor([0, 0, 2, -1]), 3)
    half = math.sqrt(0.5)
    torch.testing.assert_close(got, torch.tensor([[half, half], [0.0, 0.0], [0.0, -1.0]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(class_prototypes(text, torch.tensor([0, 0, 2, -1]), 3), got)
