"""Hyper-parameters are chosen inside the examples: the folds, the losses against naive loops, and what happens where it is impossible."""

from types import SimpleNamespace

import numpy as np
import pytest
from probe_examples import draw, queries
from sklearn.linear_model import LogisticRegression

from clipzoo.probes import Examples, KNearest, LinearProbe, Prototype, TipAdapter
from clipzoo.probes import linear as linear_module
from clipzoo.probes import nearest as nearest_module
from clipzoo.probes import prototype as prototype_module
from clipzoo.probes import tip_adapter as tip_module
from clipzoo.probes.base import softmax
from clipzoo.probes.choice import Choice, choose, cost, inner_folds, log_loss


def with_groups(examples: Examples, per_group: int, mixed: bool = False) -> Examples:
    """Groups of so many examples; inside a class, or across classes."""
    order = np.arange(len(examples)) if mixed else np.argsort(examples.labels, kind="stable")
    groups = np.empty(len(examples), dtype=np.int64)
    groups[order] = np.arange(len(examples)) // per_group
    return Examples(examples.features, examples.labels, examples.num_classes, groups, examples.text, examples.logit_scale)


@pytest.mark.parametrize("per_class", [2, 5, 7, 20])
def test_folds_are_stratified(per_class):
    examples = draw(4, per_class)
    folds, problem = inner_folds(examples)
    K = min(5, per_class)
    table = np.array([np.bincount(folds[examples.labels == label], minlength=K) for label in range(4)])
    assert not problem and table.shape == (4, K) and table.max() - table.min() <= 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 4 * (per_class % K > 0)


@pytest.mark.parametrize("mixed", [False, True])
def test_groups_are_kept_together_and_every_class_is_in_two_folds(mixed):
    examples = with_groups(draw(3, 12), 3, mixed)
    folds, problem = inner_folds(examples)
    assert not problem
    assert all(len(set(folds[examples.groups == group])) == 1 for group in set(examples.groups))
    assert all(len(set(folds[examples.labels == label])) >= 2 for label in range(3))
    named = Examples(examples.features, examples.labels, 3, np.array([f"P{group:03d}" for group in examples.groups]))
    assert np.array_equal(inner_folds(named)[0], folds)


def naive_losses(examples: Examples, probes: list) -> np.ndarray:
    """Every probe learns from the other folds and is asked for the one left out."""
    folds = inner_folds(examples)[0]
    losses = []
    for probe in probes:
        right = np.empty(len(examples))
        for fold in set(folds):
            out = folds == fold
            part = Examples(examples.features[~out], examples.labels[~out], examples.num_classes, None, examples.text, examples.logit_scale)
            fitted = probe.fit(part)._probabilities(examples.features[out])  # before they are cut to float32
            right[out] = fitted[np.arange(out.sum()), examples.labels[out]]
        losses.append(-np.log(right).mean())
    return np.array(losses)


class Regression:
    """scikit-learn's, on the features as they are.

    Args:
        c: Over the squared spread of ``examples``.
    """

    def __init__(self, c: float, examples: Examples):
        spread = np.mean([np.sum((row - examples.features.mean(axis=0)) ** 2) for row in examples.features])
        self.model = LogisticRegression(C=c / spread, tol=1e-8, max_iter=5000)

    def fit(self, part: Examples) -> SimpleNamespace:
        return SimpleNamespace(_probabilities=self.model.fit(part.features.astype(np.float64), part.labels).predict_proba)


GRIDS = {
    "prototype": [Prototype(value) for value in prototype_module.TEMPERATURES if value >= 0.05],
    "linear": list(linear_module.STRENGTHS),
    "tip": [TipAdapter(alpha, beta) for beta in tip_module.BETAS for alpha in tip_module.ALPHAS],
}


@pytest.mark.parametrize("grouped", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("name", sorted(GRIDS))
def test_what_is_chosen_has_the_lowest_loss_of_a_naive_cross_validation(name, grouped, monkeypatch):
    examples = draw(3, 8, noise=1.2)
    examples = with_groups(examples, 2) if grouped else examples
    seen = []
    module = {"prototype": prototype_module, "linear": linear_module, "tip": tip_module}[name]
    monkeypatch.setattr(module, "choose", lambda *given: seen.append(given) or choose(*given))
    chosen = {"prototype": Prototype, "linear": LinearProbe, "tip": TipAdapter}[name]().fit(examples).chosen
    _, grid, _, held_out = seen[0]
    found = [cost(examples, logits)[1] for logits in held_out(inner_folds(examples)[0])][: len(GRIDS[name])]
    probes = [Regression(entry["c"], examples) for entry in grid] if name == "linear" else GRIDS[name]
    naive = naive_losses(examples, probes)
    if name == "linear":  # it stops after two rises in a row
        rises = np.flatnonzero((np.diff(naive)[1:] > 0) & (np.diff(naive)[:-1] > 0))
        tried = rises[0] + 3
        assert len(rises) > 1 and len(found) == tried
        naive = naive[:tried]
    assert np.allclose(found, naive, rtol=1e-2 if name == "linear" else 1e-4)
    assert np.ptp(naive) > 0.01 and chosen == grid[int(np.argmin(naive))]


def test_k_is_chosen_by_votes_with_one_more_that_all_classes_share(monkeypatch):
    examples = draw(3, 6, noise=1.2)
    seen = []
    monkeypatch.setattr(nearest_module, "choose", lambda *given: seen.append(given) or choose(*given))
    chosen = KNearest().fit(examples).chosen
    folds = inner_folds(examples)[0]
    losses = [cost(examples, logits)[1] for logits in seen[0][3](folds)]
    naive = []
    for k in (1, 3, 5, 10):
        total = 0.0
        for row in range(18):
            others = sorted((j for j in range(18) if folds[j] != folds[row]), key=lambda j: -examples.features[row] @ examples.features[j])
            votes = sum(examples.labels[j] == examples.labels[row] for j in others[:k])
            total -= np.log((votes + 1 / 3) / (k + 1))
        naive.append(total / 18)
    assert np.allclose(losses, naive) and chosen == {"k": (1, 3, 5, 10)[int(np.argmin(naive))]}


def test_k_is_never_more_than_the_examples_that_are_left():
    examples = draw(2, 3)  # folds of two: four are left, so five cannot vote
    folds = inner_folds(examples)[0]
    assert len(list(nearest_module._held_out(examples, folds, [1, 3, 5]))) == 2


@pytest.mark.parametrize(
    ("probe", "chosen"),
    [
        (Prototype(), {"temperature": 1 / 20}),
        (KNearest(), {"k": 1}),
        (LinearProbe(), {"c": 10.0}),
        (TipAdapter(), {"alpha": 1.0, "beta": 5.5}),
        (TipAdapter(alpha=2.5), {"alpha": 2.5, "beta": 5.5}),
    ],
)
def test_where_a_class_has_one_example_the_fixed_value_is_taken_and_said(probe, chosen):
    fitted = probe.fit(draw(3, 1))
    assert fitted.chosen == pytest.approx(chosen)
    (note,) = fitted.notes
    assert note.startswith("a class has one example: nothing could be chosen") and f"={next(iter(chosen.values())):g}" in note


def test_reasons_why_nothing_can_be_chosen():
    examples = draw(2, 4)
    one_group = Examples(examples.features, examples.labels, 2, np.where(examples.labels == 0, 0, np.arange(8) + 1))
    assert inner_folds(one_group)[1] == "a class has examples of one group only"
    assert inner_folds(draw(1, 4))[1] == "there is one class only"
    assert "there is one class only" in Prototype().fit(draw(1, 4)).notes[0]


def test_given_values_are_taken_without_a_look():
    assert choose(draw(), [{"k": 4}], {"k": 1}, lambda folds: pytest.fail("looked")) == Choice({"k": 4})
    fixed = TipAdapter(alpha=2.5).fit(draw())
    assert fixed.chosen["alpha"] == 2.5 and fixed.chosen["beta"] in tip_module.BETAS and not fixed.notes


def test_the_first_of_equals_is_taken():
    grid = [{"k": 1}, {"k": 3}, {"k": 5}]
    examples = draw()
    sure = np.eye(examples.num_classes)[examples.labels]
    assert choose(examples, grid, grid[0], lambda folds: [sure, 2 * sure, 2 * sure]).values == {"k": 3}


def test_the_criterion_decides_then_the_log_loss():
    """The second and the third entry are right more often; the third is surer of it."""
    examples = draw(2, 10, criterion=lambda labels, probabilities: float((probabilities.argmax(axis=1) != labels).mean()))
    right = np.eye(2)[examples.labels]
    grid = [{"k": 1}, {"k": 3}, {"k": 5}, {"k": 7}]
    wrong_once = 100 * right
    wrong_once[0] = wrong_once[0, ::-1] / 1000
    offered = [wrong_once, right, 2 * right, np.full_like(right, np.nan)]
    assert choose(examples, grid, grid[0], lambda folds: offered).values == {"k": 5}
    with_loss_alone = draw(2, 10)
    assert choose(with_loss_alone, grid, grid[0], lambda folds: offered[:3]).values == {"k": 1}


@pytest.mark.parametrize("probe", [Prototype(), KNearest(), LinearProbe(), TipAdapter()], ids=lambda probe: probe.name)
def test_the_choice_by_balanced_accuracy_is_that_of_a_naive_search(probe, monkeypatch):
    """Over every entry of the grid, each scored on the examples that its folds leave out."""
    from clipzoo.metrics import BalancedAccuracy

    rare = draw(3, 16, noise=1.4)
    keep = np.flatnonzero((rare.labels != 2) | (np.arange(len(rare)) % 3 == 0))
    fields = {"text": rare.text, "logit_scale": 20.0, "balanced": True}
    examples = Examples(
        rare.features[keep], rare.labels[keep], 3, **fields, criterion=lambda labels, p: -BalancedAccuracy().compute(labels, p)
    )
    seen = []
    for module in (prototype_module, linear_module, tip_module, nearest_module):
        monkeypatch.setattr(module, "choose", lambda *given: seen.append(given) or choose(*given))
    chosen = probe.fit(examples).chosen
    _, grid, _, held_out = seen[0]
    folds = inner_folds(examples)[0]
    scored = [BalancedAccuracy().compute(examples.labels, softmax(logits)) for logits in held_out(folds)]
    assert len(scored) == len(grid)  # nothing ends early
    assert scored[grid.index(chosen)] == max(scored)


def test_log_loss_equals_scikit_learn():
    from sklearn.metrics import log_loss as reference

    from clipzoo.probes.base import softmax

    logits = np.random.default_rng(0).normal(size=(2, 30, 4)) * 10
    labels = np.arange(30) % 4
    expected = [reference(labels, softmax(one)) for one in logits]
    assert np.allclose(log_loss(logits, labels), expected)
    assert log_loss(np.array([[0.0, -np.inf]]), np.array([0])) == 0.0


def test_the_choice_does_not_depend_on_images_that_are_predicted():
    fitted = LinearProbe().fit(draw())
    before = fitted.predict(queries(5))
    fitted.predict(queries(500, seed=3))
    assert np.array_equal(fitted.predict(queries(5)), before)
