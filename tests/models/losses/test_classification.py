"""Losses over logits: against naive loops, against torch, and over unequal processes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clipzoo.balance import weight_of_a_case
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.losses import CrossEntropyLoss, FocalLoss

LABELS = torch.tensor([0, 2, 1, 2, -1, 2, 0])
COUNTS = torch.tensor([10, 2, 28])


def logits(requires_grad: bool = False) -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(3)).mul_(2).requires_grad_(requires_grad)


def naive(values: torch.Tensor, *, smoothing: float = 0.0, gamma: float = 0.0, weights=(1.0, 1.0, 1.0)) -> float:
    """One case after the other."""
    total, count = 0.0, 0
    for row, label in zip(values.tolist(), LABELS.tolist(), strict=True):
        if label < 0:
            continue
        exps = [math.exp(v) for v in row]
        log_p = [math.log(e / sum(exps)) for e in exps]
        target = [(1 - smoothing) * (c == label) + smoothing / 3 for c in range(3)]
        p = math.exp(log_p[label])
        total += weights[label] * (1 - p) ** gamma * -sum(t * lp for t, lp in zip(target, log_p, strict=True))
        count += 1
    return total / count


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing):
    own, theirs = logits(True), logits(True)
    value = CrossEntropyLoss(label_smoothing=smoothing)(own, LABELS)
    expected = F.cross_entropy(theirs, LABELS, ignore_index=-1, label_smoothing=smoothing)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(own.grad, theirs.grad)
    assert value.item() == pytest.approx(naive(logits(), smoothing=smoothing), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("method", ["inverse_freq", "inverse_sqrt", "balanced"])
def test_a_weighted_case_weighs_what_its_class_does(method, smoothing):
    loss = CrossEntropyLoss(smoothing, class_weights=method)
    loss.fit(COUNTS)
    raw = {"inverse_freq": [1 / 11, 1 / 3, 1 / 29], "inverse_sqrt": [11**-0.5, 3**-0.5, 29**-0.5], "balanced": [1 / 10, 1 / 2, 1 / 28]}[
        method
    ]
    mean = sum(w * n for w, n in zip(raw, COUNTS.tolist(), strict=True)) / 40
    weights = [w / mean for w in raw]
    assert (loss.weight_C * COUNTS).sum().item() == pytest.approx(40), "the mean over the training cases is 1"
    assert loss(logits(), LABELS).item() == pytest.approx(naive(logits(), smoothing=smoothing, weights=weights), rel=1e-5)
    if not smoothing:
        known = LABELS >= 0
        theirs = F.cross_entropy(logits()[known], LABELS[known], weight=loss.weight_C, reduction="sum") / 6
        torch.testing.assert_close(loss(logits(), LABELS), theirs)


def test_balanced_weights_are_scikit_learns_and_those_of_the_sampler():
    from sklearn.utils.class_weight import compute_class_weight

    from clipzoo.datasets.batches.samplers import WeightedSampler

    labels = np.repeat([0, 1, 2], COUNTS.numpy())
    loss = CrossEntropyLoss(class_weights="balanced")
    loss.fit(COUNTS)
    np.testing.assert_allclose(loss.weight_C, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)
    for method in ("inverse_freq", "inverse_sqrt"):
        loss = FocalLoss(class_weights=method)
        loss.fit(COUNTS)
        np.testing.assert_allclose(loss.weight_C[labels] / 40, WeightedSampler(method).weights(labels), rtol=1e-6)


def test_given_weights_are_scaled_to_a_mean_of_1():
    loss = CrossEntropyLoss(class_weights=[2.0, 4.0, 1.0])
    loss.fit(COUNTS)
    scale = 40 / (2 * 10 + 4 * 2 + 1 * 28)
    torch.testing.assert_close(loss.weight_C, scale * torch.tensor([2.0, 4.0, 1.0]))


def test_a_class_without_training_cases_has_a_finite_weight():
    np.testing.assert_allclose(weight_of_a_case(np.array([4, 0]), "balanced"), [0.25, 1.0])
    np.testing.assert_allclose(weight_of_a_case(np.array([4, 0]), "inverse_freq", 0.0), [0.25, 1.0])
    with pytest.raises(BuildError, match="no training case has a class"):
        CrossEntropyLoss(class_weights="balanced").fit(torch.tensor([0, 0]))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_papers(gamma):
    values = logits(True)
    loss = FocalLoss(gamma)
    loss(values, LABELS).backward()
    assert loss(logits(), LABELS).item() == pytest.approx(naive(logits(), gamma=gamma), rel=1e-5)
    double = logits().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: FocalLoss(gamma)(z, LABELS), double)
    if gamma == 0:
        torch.testing.assert_close(loss(logits(), LABELS), CrossEntropyLoss()(logits(), LABELS))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_a_certain_case_is_0_with_a_finite_gradient(gamma):
    values = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    value = FocalLoss(gamma)(values, torch.tensor([0, 0]))
    value.backward()
    assert value.item() == pytest.approx(100.0) and torch.isfinite(values.grad).all() and values.grad[1].abs().sum() > 0


@pytest.mark.parametrize("make", [CrossEntropyLoss, FocalLoss])
def test_losses_are_fp32_under_autocast_and_0_without_labels(make):
    values = logits(True)
    with torch.autocast("cpu", torch.bfloat16):
        halves = make()(values, LABELS)
    assert halves.dtype == torch.float32 and torch.equal(halves, make()(values, LABELS))
    none = make()(values, torch.full((7,), -1))
    none.backward()
    assert none.item() == 0 and values.grad.abs().sum() == 0


def test_weights_are_in_the_checkpoint_and_needed():
    loss = FocalLoss(class_weights="balanced").connect(3)
    with pytest.raises(BuildError, match="class_weights have not been fitted"):
        loss(logits(), LABELS)
    fitted = FocalLoss(class_weights="balanced").connect(3)
    fitted.fit(COUNTS)
    loss.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(loss(logits(), LABELS), fitted(logits(), LABELS), rtol=0, atol=0)
    assert loss.balances and not FocalLoss().balances and not FocalLoss().state_dict()
    assert fitted.describe() == "FocalLoss with class weights 'balanced', 0.476 … 6.67"


def test_arguments_are_checked():
    for make, said in (
        (lambda: CrossEntropyLoss(label_smoothing=1.0), "label_smoothing: 1.0"),
        (lambda: CrossEntropyLoss(class_weights="balansed"), "Did you mean 'balanced'"),
        (lambda: CrossEntropyLoss(class_weights=[1.0, 0.0]), "class_weights.1: 0.0 is not a number above 0"),
        (lambda: CrossEntropyLoss(class_weights=[1.0, 2.0]).connect(3), "class_weights has 2 numbers, but there are 3 classes"),
        (lambda: FocalLoss(gamma=-1.0), "gamma: -1.0"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()


def test_the_average_over_processes_is_the_loss_of_one(monkeypatch):
    """Two processes with 4 and 2 labelled cases, one after the other; that ``mean_over_cases`` really adds up is in test_gather.py."""
    from clipzoo.models.losses import gather

    loss = FocalLoss(class_weights="balanced")
    loss.fit(COUNTS)
    whole, shared = logits(True), logits(True)
    loss(whole, LABELS).backward()
    monkeypatch.setattr(gather, "num_processes", lambda: 2)
    monkeypatch.setattr(gather.dist, "all_reduce", lambda count: count.fill_(6))
    shares = [loss(shared[part], LABELS[part]) for part in (slice(0, 5), slice(5, 7))]
    (sum(shares) / 2).backward()
    torch.testing.assert_close(shared.grad, whole.grad)
