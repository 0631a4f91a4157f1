"""Probes against naive loops and scikit-learn, and the promises that all of them keep."""

import math

import numpy as np
import pytest
from probe_examples import draw, queries

from clipzoo.errors import BuildError, ConfigError, DataError
from clipzoo.probes import Examples, KNearest, LinearProbe, MajorityClass, Prototype, TipAdapter, ZeroShot
from clipzoo.probes.base import normalised, softmax
from clipzoo.probes.nearest import nearest
from clipzoo.registries import PROBES

ALL = sorted(name for name in PROBES if PROBES.get(name).__module__.startswith("clipzoo."))


def cosine(a, b) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / math.sqrt(
        sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b)
    )


def shares(logits: list[float]) -> list[float]:
    odds = [math.exp(value - max(logits)) for value in logits]
    return [value / sum(odds) for value in odds]


@pytest.mark.parametrize("name", ALL)
def test_every_probe_gives_probabilities_and_the_same_ones_again(name):
    examples, images = draw(), queries(1500)
    probe = PROBES.build(name)
    fitted = probe.fit(examples)
    found = fitted.predict(images)
    assert found.shape == (1500, 3) and found.dtype == np.float32 and np.allclose(found.sum(axis=1), 1, atol=1e-6) and (found >= 0).all()
    assert fitted.predict(images[:0]).shape == (0, 3)
    again = PROBES.build(name).fit(examples)
    assert np.array_equal(again.predict(images), found) and again.chosen == fitted.chosen and not fitted.notes
    assert np.allclose(fitted.predict(images[1100:1101]), found[1100:1101], atol=1e-6)
    assert probe.name == probe.name.lower()


@pytest.mark.parametrize("name", ALL)
def test_every_probe_does_with_one_class_one_example_or_a_class_without_any(name):
    one = draw(num_classes=1, per_class=4)
    assert np.array_equal(PROBES.build(name).fit(one).predict(queries(5)), np.ones((5, 1)))
    examples = draw(num_classes=5)
    rows = np.flatnonzero(np.isin(examples.labels, (1, 4)))[:7]
    few = draw(num_classes=5, features=examples.features[rows], labels=examples.labels[rows])
    fitted = PROBES.build(name).fit(few)
    found = fitted.predict(queries())
    if PROBES.get(name).needs_text:
        assert (found[:, [0, 2, 3]] > 0).all()
    else:
        assert (found[:, [0, 2, 3]] == 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-6)
    assert any("class 0, 2, 3" in note for note in fitted.notes) == PROBES.get(name).needs_examples
    single = draw(num_classes=3, per_class=1)
    assert np.isfinite(PROBES.build(name).fit(single).predict(queries())).all()


def test_majority_gives_the_shares_of_the_classes():
    examples = draw(labels=np.array([2] * 9 + [0] * 6 + [1] * 3))
    assert np.allclose(MajorityClass().fit(examples).predict(queries(2)), [[6 / 18, 3 / 18, 9 / 18]] * 2)


def test_zero_shot_equals_a_naive_loop_and_needs_no_examples():
    examples, images = draw(), queries()
    naive = [shares([20.0 * cosine(image, text) for text in examples.text]) for image in images]
    assert np.allclose(ZeroShot().fit(examples).predict(images), naive, atol=1e-5)
    none = draw(features=np.empty((0, 8), np.float32), labels=np.empty(0, np.int64))
    assert np.allclose(ZeroShot().fit(none).predict(images), naive, atol=1e-5)


def test_prototype_equals_a_naive_loop():
    examples, images = draw(num_classes=4, per_class=3), queries()
    means = []
    for label in range(4):
        own = [row for row, of in zip(examples.features.tolist(), examples.labels, strict=True) if of == label]
        means.append([sum(column) / len(own) for column in zip(*own, strict=True)])
    naive = [shares([cosine(image, mean) / 0.07 for mean in means]) for image in images]
    fitted = Prototype(temperature=0.07).fit(examples)
    assert np.allclose(fitted.predict(images), naive, atol=1e-5) and fitted.chosen == {"temperature": 0.07}


@pytest.mark.parametrize("k", [1, 3, 4, 18, 99])
def test_k_nearest_equals_scikit_learn(k):
    from sklearn.neighbors import KNeighborsClassifier

    examples, images = draw(noise=2.0), queries(200)
    reference = KNeighborsClassifier(n_neighbors=min(k, 18), metric="cosine").fit(examples.features, examples.labels)
    found = KNearest(k).fit(examples).predict(images)
    assert np.allclose(found, reference.predict_proba(images), atol=1e-7)
    assert np.array_equal(found.argmax(axis=1), reference.predict(images))


def test_of_equally_similar_examples_the_earlier_ones_vote():
    assert nearest(np.array([[0.5, 0.9, 0.5, 0.9, 0.5]]), 3).tolist() == [[1, 3, 0]]
    assert nearest(np.zeros((2, 4)), 2).tolist() == [[0, 1], [0, 1]]
    copies = np.tile(queries(1), (4, 1))
    examples = Examples(copies, np.array([1, 0, 0, 0]), 2)
    assert KNearest(1).fit(examples).predict(queries(1)).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(("per_class", "width"), [(8, 30), (40, 10)])  # fewer examples than features, and more
@pytest.mark.parametrize("num_classes", [2, 4])
def test_linear_probe_equals_scikit_learn(num_classes, per_class, width):
    from sklearn.linear_model import LogisticRegression

    examples, images = draw(num_classes, per_class, width), queries(60, width)
    spread = np.mean([np.sum((row - examples.features.mean(axis=0)) ** 2) for row in examples.features])
    for c in (0.5, 50.0):
        reference = LogisticRegression(C=c / spread, tol=1e-8, max_iter=5000).fit(examples.features.astype(np.float64), examples.labels)
        assert np.allclose(LinearProbe(c).fit(examples).predict(images), reference.predict_proba(images), atol=2e-4)


def test_linear_probe_keeps_the_numbers_of_the_classes():
    examples = draw(2, 10)
    moved = Examples(examples.features, np.array([2, 5])[examples.labels], 7)
    found = LinearProbe(1.0).fit(moved).predict(queries())
    assert np.allclose(found[:, [2, 5]], LinearProbe(1.0).fit(examples).predict(queries()), atol=1e-6)
    assert not found[:, [0, 1, 3, 4, 6]].any()


def test_tip_adapter_equals_a_naive_loop():
    examples, images = draw(), queries()
    naive = []
    for image in images:
        logits = [20.0 * cosine(image, text) for text in examples.text]
        for feature, label in zip(examples.features, examples.labels, strict=True):
            logits[label] += 1.7 * math.exp(-4.0 * (1 - cosine(image, feature)))
        naive.append(shares(logits))
    fitted = TipAdapter(alpha=1.7, beta=4.0).fit(examples)
    assert np.allclose(fitted.predict(images), naive, atol=1e-5) and fitted.chosen == {"alpha": 1.7, "beta": 4.0}
    assert np.allclose(TipAdapter(alpha=0, beta=1).fit(examples).predict(images), ZeroShot().fit(examples).predict(images), atol=1e-7)


def test_probes_learn():
    examples, images = draw(5, 20, 32, noise=0.7), draw(5, 20, 32, noise=0.7, seed=0)
    rng = np.random.default_rng(5)
    images = normalised(images.features + 0.15 * rng.normal(size=images.features.shape))
    for probe in (Prototype(), KNearest(), LinearProbe(), TipAdapter()):
        assert (probe.fit(examples).predict(images).argmax(axis=1) == examples.labels).mean() > 0.95, probe.name


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Prototype(temperature=0), "Prototype.temperature: 0 is not a number above 0"),
        (lambda: Prototype(temperature=float("inf")), "Prototype.temperature: inf is not a number above 0"),
        (lambda: KNearest(k=0), "KNearest.k: 0 is not a whole number of 1 or more"),
        (lambda: LinearProbe(c=-1), "LinearProbe.c: -1 is not a number above 0"),
        (lambda: LinearProbe(c=float("nan")), "LinearProbe.c: nan is not a number above 0"),
        (lambda: TipAdapter(beta=-0.1), "TipAdapter.beta: -0.1 is not a number of 0 or more"),
    ],
)
def test_impossible_arguments_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_impossible_examples_are_refused():
    with pytest.raises(BuildError, match="TipAdapter: requires class texts"):
        TipAdapter().fit(draw(text=None))
    with pytest.raises(DataError, match="KNearest: there are no examples"):
        KNearest().fit(draw(features=np.empty((0, 8), np.float32), labels=np.empty(0, np.int64)))
    with pytest.raises(DataError, match="labels are 0 … 2, but there are 2 classes"):
        draw(num_classes=2, labels=np.array([0, 1, 2] * 4))
    with pytest.raises(DataError, match="must be \\[N, D\\] and \\[N\\]"):
        draw(labels=np.zeros(3, np.int64))
    with pytest.raises(DataError, match="groups have shape \\[2\\]"):
        draw(groups=np.zeros(2))
    with pytest.raises(DataError, match="text has shape \\[2, 8\\], expected one row per class, \\[3, 8\\]"):
        draw(text=np.zeros((2, 8), np.float32))
    broken = draw().features.copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="a feature is not finite"):
        draw(features=broken)


def test_features_that_lie_close_together_are_learnt_all_the_same():
    """As those of a tower without training, whose mean is nearly 1 long: the sweep of the penalty follows their spread."""
    examples = draw(3, 10)
    moved = examples.features + 30 * np.eye(examples.features.shape[1], dtype=np.float32)[0]
    near = Examples(moved / np.linalg.norm(moved, axis=1, keepdims=True), examples.labels, 3)
    assert np.linalg.norm(near.features.mean(axis=0)) > 0.99
    alone, together = LinearProbe().fit(examples), LinearProbe().fit(near)
    assert together.chosen == alone.chosen
    assert np.allclose(together.predict(near.features), alone.predict(examples.features), atol=0.05)


def unequal(noise: float = 0.6, **changes) -> Examples:
    """Three classes of 4, 8 and 16 examples."""
    drawn = draw(3, 16, noise=noise)
    keep = np.concatenate([np.flatnonzero(drawn.labels == label)[: 4 * 2**label] for label in range(3)])
    fields = {"text": drawn.text, "logit_scale": 20.0, **changes}
    return Examples(drawn.features[keep], drawn.labels[keep], 3, **fields)


def test_balanced_weights_give_every_class_the_same_sum():
    examples = unequal(balanced=True)
    sums = np.bincount(examples.labels, weights=examples.weights)
    assert np.allclose(sums, sums[0]) and examples.weights.mean() == pytest.approx(1)
    assert unequal().weights is None and draw(balanced=True).weights is None  # nothing to balance
    absent = Examples(examples.features, np.where(examples.labels == 1, 2, examples.labels), 4, balanced=True)
    assert np.bincount(absent.labels, weights=absent.weights, minlength=4) == pytest.approx([14, 0, 14, 0])


def test_balanced_linear_probe_equals_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    examples = unequal(noise=1.2, balanced=True)
    spread = ((examples.features - examples.features.mean(axis=0)) ** 2).sum(axis=1).mean()
    reference = LogisticRegression(C=2.0 / spread, tol=1e-9, max_iter=5000, class_weight="balanced").fit(examples.features, examples.labels)
    found = LinearProbe(c=2.0).fit(examples).predict(queries())
    assert np.allclose(found, reference.predict_proba(queries()), atol=1e-4)


def test_balanced_votes_equal_a_naive_loop():
    examples = unequal(noise=1.2, balanced=True)
    found = KNearest(k=5).fit(examples).predict(queries())
    for query, row in zip(queries(), found, strict=True):
        votes = np.zeros(3)
        for j in sorted(range(len(examples)), key=lambda j: -(query @ examples.features[j]))[:5]:
            votes[examples.labels[j]] += 1 / np.sum(examples.labels == examples.labels[j])
        assert np.allclose(row, votes / votes.sum(), atol=1e-6)


def test_a_balanced_cache_equals_a_naive_loop():
    examples = unequal(balanced=True)
    found = TipAdapter(alpha=2.0, beta=3.0).fit(examples).predict(queries(5))
    for query, row in zip(queries(5), found, strict=True):
        logits = 20.0 * (examples.text @ query)
        for feature, label in zip(examples.features, examples.labels, strict=True):
            share = len(examples) / 3 / np.sum(examples.labels == label)
            logits[label] += 2.0 * share * np.exp(-3.0 * (1 - feature @ query))
        assert np.allclose(row, softmax(logits), atol=1e-5)


@pytest.mark.parametrize("probe", [KNearest(), LinearProbe()], ids=lambda probe: probe.name)
def test_a_rare_class_is_not_given_up(probe):
    """81 % of the cases in one class that overlaps the others: what log loss alone chooses answers with the large class."""
    from clipzoo.metrics import BalancedAccuracy

    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [162, 19, 19])
    centres = rng.normal(size=(3, 64))
    cloud = {n: normalised(0.2 * centres[n] + rng.normal(size=(n_cases, 64))) for n, n_cases in ((0, 262), (1, 119), (2, 119))}
    train = np.concatenate([cloud[0][:162], cloud[1][:19], cloud[2][:19]])
    test, truth = np.concatenate([cloud[n][-100:] for n in range(3)]), np.repeat([0, 1, 2], 100)

    def balanced_accuracy(**changes):
        return BalancedAccuracy().compute(truth, probe.fit(Examples(train, labels, 3, **changes)).predict(test))

    fair = balanced_accuracy(balanced=True, criterion=lambda truth, p: -BalancedAccuracy().compute(truth, p))
    assert balanced_accuracy() < 0.6 and fair > balanced_accuracy() + 0.1
