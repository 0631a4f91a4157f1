"""Losses of several labels per case: against naive loops, torch and SigLIP's formula; unknown answers have no part in them."""

import math

import pytest
import torch
from torch.nn import functional as F

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.losses import BinaryCrossEntropyLoss, ClassSigmoidLoss
from clipzoo.registries import LOSSES
from clipzoo.structures import Batch

FINDINGS = torch.tensor([[1, 0, -1], [0, 0, 1], [-1, -1, -1], [1, 1, 0], [0, -1, 0]]).float()
COUNTS = torch.tensor([[30, 8, 12], [10, 8, 0]])  # without, with; the third is never present


def logits(requires_grad: bool = False) -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(3)).mul_(2).requires_grad_(requires_grad)


def naive(values, weights=((1, 1, 1), (1, 1, 1)), gamma=0.0) -> float:
    """One answer after the other."""
    total, count = 0.0, 0
    for row, answers in zip(values.tolist(), FINDINGS.tolist(), strict=True):
        for c, (value, answer) in enumerate(zip(row, answers, strict=True)):
            if answer < 0:
                continue
            p = 1 / (1 + math.exp(-value))
            right = p if answer == 1 else 1 - p
            total += weights[int(answer)][c] * (1 - right) ** gamma * -math.log(right)
            count += 1
    return total / count


def test_plain_binary_cross_entropy_is_torchs_over_the_known_answers():
    own, theirs = logits(True), logits(True)
    value = BinaryCrossEntropyLoss()(own, FINDINGS)
    known = FINDINGS >= 0
    expected = F.binary_cross_entropy_with_logits(theirs[known], FINDINGS[known])
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(own.grad, theirs.grad)
    assert (own.grad[~known] == 0).all() and value.item() == pytest.approx(naive(logits()), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_balanced_weights_have_mean_1_and_torchs_ratio(gamma):
    loss = BinaryCrossEntropyLoss("balanced", gamma).connect(3)
    loss.fit(COUNTS)
    absent, present = loss.weight_2C.double()
    torch.testing.assert_close(present[:2] / absent[:2], torch.tensor([3.0, 1.0], dtype=torch.float64))
    mean = (absent * COUNTS[0] + present * COUNTS[1]) / COUNTS.sum(dim=0)
    torch.testing.assert_close(mean, torch.ones(3, dtype=torch.float64))
    assert loss.weight_2C[:, 2].tolist() == [1, 1] and loss.balances
    assert loss(logits(), FINDINGS).item() == pytest.approx(naive(logits(), loss.weight_2C.tolist(), gamma), rel=1e-5)


def test_a_list_of_weights_is_torchs_pos_weight_up_to_the_scale_of_each_finding():
    given = [2.0, 0.5, 7.0]
    loss = BinaryCrossEntropyLoss(given).connect(3)
    counts = torch.tensor([[30, 8, 12], [10, 8, 4]])
    loss.fit(counts)
    known = FINDINGS >= 0
    theirs = F.binary_cross_entropy_with_logits(logits(), FINDINGS.clamp(min=0), pos_weight=torch.tensor(given), reduction="none")
    scale = counts.sum(dim=0) / (counts[0] + torch.tensor(given) * counts[1])
    torch.testing.assert_close(loss(logits(), FINDINGS), (theirs * scale)[known].mean())
    assert loss.describe() == "BinaryCrossEntropyLoss with pos_weight given, 0.5 … 7"


def test_certain_answers_are_finite_and_all_unknown_is_zero():
    certain = torch.tensor([[80.0, -80.0, 80.0]]).requires_grad_()
    for gamma in (0.0, 0.5, 2.0):
        value = BinaryCrossEntropyLoss(gamma=gamma)(certain, torch.tensor([[1.0, 0.0, 0.0]]))
        (gradient,) = torch.autograd.grad(value, certain)
        assert torch.isfinite(value) and torch.isfinite(gradient).all() and value > 20
    unknown = logits(True)
    value = BinaryCrossEntropyLoss()(unknown, torch.full((5, 3), -1.0))
    value.backward()
    assert value.item() == 0 and (unknown.grad == 0).all()


def test_accuracy_counts_known_answers_only():
    batch = Batch(images=torch.zeros(5, 0), labels=torch.full((5,), -1), cases=torch.arange(5), findings=FINDINGS)
    values = torch.where(FINDINGS == 1, 1.0, -1.0)
    values[FINDINGS < 0] = 5.0
    values[0, 0] = -1.0
    assert BinaryCrossEntropyLoss().accuracy(values, batch).item() == pytest.approx(9 / 10)


def test_bad_weights_are_one_line():
    for wrong, message in (([1.0, -2.0], "pos_weight"), ("inverse", "pos_weight"), ([], "has 0 numbers, but there are 3 findings")):
        with pytest.raises(ConfigError, match=message):
            LOSSES.build({"type": "BinaryCrossEntropyLoss", "pos_weight": wrong}).connect(3)
    loss = BinaryCrossEntropyLoss("balanced").connect(3)
    with pytest.raises(BuildError, match="pos_weight has not been fitted"):
        loss(logits(), FINDINGS)
    with pytest.raises(BuildError, match="pos_weight requires findings, but the data have one class per image"):
        loss.fit(torch.tensor([3, 4, 5]))
    loaded = BinaryCrossEntropyLoss("balanced").connect(3)
    fitted = BinaryCrossEntropyLoss("balanced").connect(3)
    fitted.fit(COUNTS)
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(loaded(logits(), FINDINGS), fitted(logits(), FINDINGS))


def test_the_sigmoid_loss_over_classes_is_siglips_sum_over_the_known_pairs():
    """Class 0 has two captions, whose normalised mean stands for it; a caption of no class has no part."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(n, 8, generator=generator), dim=-1) for n in (5, 5))
    labels = torch.tensor([0, 0, 1, -1, 2])
    batch = Batch(images=torch.zeros(5, 0), labels=labels, cases=torch.arange(5), caption_labels=labels, findings=FINDINGS)
    loss = ClassSigmoidLoss(negatives_per_positive=4.0)
    assert loss.logit_bias.item() == pytest.approx(-math.log(4))
    value = loss(image, text, torch.tensor(7.0), batch)
    total = count = 0.0
    for b in range(5):
        for c, rows in enumerate(([0, 1], [2], [4])):
            if FINDINGS[b, c] < 0:
                continue
            prototype = text[rows].mean(dim=0)
            z = 2 * FINDINGS[b, c].item() - 1
            t = 7 * float(image[b] @ (prototype / prototype.norm())) - math.log(4)
            total += -math.log(1 / (1 + math.exp(z * -t)))
            count += 1
    assert value.item() == pytest.approx(total / count, rel=1e-5)
    (gradient,) = torch.autograd.grad(value, loss.logit_bias)
    assert gradient.abs() > 0
