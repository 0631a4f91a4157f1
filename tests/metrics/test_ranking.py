"""Ranks in blocks against sorting the whole matrix in float64, and on the corners: ties, distractors, NaN, rounding."""

import math

import numpy as np
import pytest
import torch

from clipzoo.metrics import RETRIEVAL_DEFAULTS, rank, retrieval_table
from clipzoo.records.folds import Case
from clipzoo.registries import METRICS

COLUMNS = ("ahead", "tied", "positives", "positive_similarity", "negative_similarity", "best_match")


def unit(features: np.ndarray) -> np.ndarray:
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def random_features(seed: int, num_images: int, num_texts: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return unit(generator.normal(size=(num_images, 6))), unit(generator.normal(size=(num_texts, 6)))


def tied_features(seed: int, num_images: int, num_texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Entries of ±1/2 in four dimensions: all cosines are -1, -1/2, 0, 1/2 or 1, without any rounding."""
    generator = np.random.default_rng(seed)
    draw = lambda rows: generator.choice([-0.5, 0.5], (rows, 4)).astype(np.float32)  # noqa: E731
    return draw(num_images), draw(num_texts)


def random_positives(seed: int, num_images: int, num_texts: int) -> list[list[int]]:
    """None to four captions for an image, in any order; captions of several images, and of none."""
    generator = np.random.default_rng(1000 + seed)
    return [generator.permutation(num_texts)[: generator.integers(0, 5)].tolist() for _ in range(num_images)]


def naive(similarity: np.ndarray, own: list[set[int]]) -> dict[str, list]:
    """The definitions, one query after another, in float64."""
    found = {name: [] for name in COLUMNS}
    for row, mine in zip(similarity, own, strict=True):
        others = [i for i in range(len(row)) if i not in mine]
        best = max((row[i] for i in mine), default=-math.inf)
        level = [i for i in range(len(row)) if abs(row[i] - best) <= 1e-6]
        top = max(row[i] for i in others) if others else -math.inf
        found["ahead"].append(sum(row[i] > best + 1e-6 for i in others))
        found["tied"].append(sum(i in level for i in others))
        found["positives"].append(sum(i in level for i in mine))
        found["positive_similarity"].append(np.mean([row[i] for i in mine]) if mine else math.nan)
        found["negative_similarity"].append(np.mean([row[i] for i in others]) if others else math.nan)
        found["best_match"].append(next(i for i in others if row[i] == top) if top > best + 1e-6 else min(level))
    return found


def naive_both(image, text, positives):
    similarity = image.astype(np.float64) @ text.astype(np.float64).T
    by_text = [{i for i, mine in enumerate(positives) if t in mine} for t in range(len(text))]
    return naive(similarity, [set(mine) for mine in positives]), naive(similarity.T, by_text)


def assert_same(found, expected: dict[str, list]):
    for name in COLUMNS:
        value = getattr(found, name)
        if name.endswith("similarity"):
            np.testing.assert_allclose(value, expected[name], atol=1e-7, err_msg=name)
        else:
            assert value.dtype == np.int64 and value.tolist() == expected[name], name


@pytest.mark.fast_cases(10)
@pytest.mark.parametrize("block", [1, 3, 8, None])
@pytest.mark.parametrize("features", [random_features, tied_features])
@pytest.mark.parametrize("seed", range(4))
def test_ranks_in_blocks_of_any_size_equal_the_definitions(features, seed, block):
    image, text = features(seed, 17, 23)
    positives = random_positives(seed, 17, 23)
    ranks = rank(image, text, positives, block=block)
    by_image, by_text = naive_both(image, text, positives)
    assert_same(ranks.image_to_text, by_image)
    assert_same(ranks.text_to_image, by_text)
    assert (ranks.image_to_text.gallery, ranks.text_to_image.gallery) == (23, 17)


def test_the_cases_hold_what_they_are_meant_to():
    positives = [mine for seed in range(4) for mine in random_positives(seed, 17, 23)]
    assert {len(mine) for mine in positives} == {0, 1, 2, 3, 4}
    image, text = tied_features(0, 17, 23)
    by_image, by_text = naive_both(image, text, random_positives(0, 17, 23))
    for found in (by_image, by_text):
        assert max(found["tied"]) > 2 and max(found["positives"]) > 1 and max(found["ahead"]) > 2 and 0 in found["positives"]


@pytest.mark.parametrize("block", [4, 100])
def test_histograms_hold_every_pair_once(block):
    image, text = random_features(5, 30, 40)
    positives = random_positives(5, 30, 40)
    own = np.zeros((30, 40), dtype=bool)
    for row, mine in enumerate(positives):
        own[row, mine] = True
    similarity = image.astype(np.float64) @ text.T.astype(np.float64)
    found = rank(image, text, positives, block=block).similarities
    assert len(found.edges) == 201 and found.edges[0] == -1 and found.edges[-1] == 1
    np.testing.assert_array_equal(found.positive_histogram, np.histogram(similarity[own], found.edges)[0])
    np.testing.assert_array_equal(found.negative_histogram, np.histogram(similarity[~own], found.edges)[0])


def test_cosines_rounded_beyond_one_stay_in_the_histogram():
    image = unit(np.random.default_rng(0).normal(size=(1, 768)).repeat(50, axis=0)) * np.float32(1 + 1e-6)
    found = rank(np.concatenate([image, -image]), image, [[i] for i in range(50)] + [[]] * 50).similarities
    assert found.positive_histogram[-1] == 50 and found.negative_histogram[-1] == 50 * 49 and found.negative_histogram[0] == 50 * 50


def test_order_does_not_matter():
    image, text = random_features(7, 20, 30)
    positives = random_positives(7, 20, 30)
    plain = rank(image, text, positives, block=8)
    images, texts = np.random.default_rng(1).permutation(20), np.random.default_rng(2).permutation(30)
    place = np.argsort(texts)
    shuffled = rank(image[images], text[texts], [[int(place[t]) for t in reversed(positives[i])] for i in images], block=8)
    for before, after, queries, items in (
        (plain.image_to_text, shuffled.image_to_text, images, texts),
        (plain.text_to_image, shuffled.text_to_image, texts, images),
    ):
        for name in ("ahead", "tied", "positives"):
            np.testing.assert_array_equal(getattr(before, name)[queries], getattr(after, name))
        np.testing.assert_array_equal(before.best_match[queries], items[after.best_match])


def test_a_caption_named_twice_counts_once():
    image, text = random_features(0, 3, 4)
    once, twice = rank(image, text, [[0, 1], [2], []]), rank(torch.from_numpy(image), torch.from_numpy(text), [[1, 0, 1], [2, 2], []])
    for a, b in ((once.image_to_text, twice.image_to_text), (once.text_to_image, twice.text_to_image)):
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("width", [3, 512, 2048])
def test_a_collapsed_model_is_all_ties_whatever_the_products_round_to(width):
    """The same direction for everything, once negative parts cancel and once all are positive, which rounds worst."""
    for seed in range(3):
        feature = np.random.default_rng(seed).normal(size=(1, width))
        feature = unit(feature if seed else np.abs(feature))
        ranks = rank(feature.repeat(60, axis=0), feature.repeat(90, axis=0), [[i, i + 1] for i in range(60)], block=32)
        assert set(ranks.image_to_text.ahead) == {0} and set(ranks.image_to_text.tied) == {88} and set(ranks.image_to_text.positives) == {2}
        own = ranks.text_to_image.positives
        assert set(ranks.text_to_image.ahead[own > 0]) == {0} and (ranks.text_to_image.tied + own)[own > 0].tolist() == [60] * 61


@pytest.mark.parametrize(("difference", "expected"), [(5e-7, (0, 1)), (-5e-7, (0, 1)), (3e-6, (1, 0)), (-3e-6, (0, 0))])
def test_ties_are_what_float32_does_not_resolve(difference, expected):
    cosines = np.array([0.6, 0.6 + difference])
    text = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    ranks = rank(np.array([[1.0, 0.0]]), text, [[0]]).image_to_text
    assert (ranks.ahead[0], ranks.tied[0]) == expected


@pytest.mark.parametrize(("difference", "expected"), [(5e-7, 2), (3e-6, 1)])
def test_its_own_may_be_tied_too(difference, expected):
    cosines = np.array([0.6, 0.6 + difference, 0.0])
    text = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    ranks = rank(np.array([[1.0, 0.0]]), text, [[0, 1]]).image_to_text
    assert (ranks.ahead[0], ranks.tied[0], ranks.positives[0]) == (0, 0, expected)


def test_autocast_and_fast_products_around_it_change_nothing(monkeypatch):
    image, text = random_features(3, 64, 64)
    positives = [[i] for i in range(64)]
    expected, multiply, precisions = rank(image, text, positives), torch.mm, set()
    # TF32 is for GPUs, and not every CPU has bfloat16 products: what counts is what is asked for.
    monkeypatch.setattr(torch, "mm", lambda *a, **k: precisions.add(torch.get_float32_matmul_precision()) or multiply(*a, **k))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = rank(image, text, positives)
        assert precisions == {"highest"} and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found.image_to_text, name), getattr(expected.image_to_text, name))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_one_feature_that_is_not_finite_leaves_nothing_known(side, bad):
    features = random_features(0, 12, 24)
    features[side][3, 2] = bad
    ranks = rank(*features, [[2 * i, 2 * i + 1] for i in range(12)])
    table = retrieval_table(ranks, cases=cases(12), captions=captions(24), fold="fold_1")
    assert len(table) == 36 and np.isnan(table.positive_similarity).all() and np.isnan(table.negative_similarity).all()
    assert set(table.best_match) == {""} and (table.ahead + table.tied > 0).all()
    assert all(math.isnan(METRICS.build(spec).compute(table)) for spec in RETRIEVAL_DEFAULTS)
    assert ranks.similarities.negative_histogram.sum() == ranks.similarities.positive_histogram.sum() == 0


def test_no_product_is_larger_than_a_block(monkeypatch):
    sizes, multiply = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: sizes.append(multiply(*a, **k).shape) or multiply(*a, **k))
    rank(*random_features(0, 50, 70), [[i] for i in range(50)], block=16)
    assert len(sizes) == 4 * 5 and max(max(size) for size in sizes) == 16


@pytest.mark.parametrize(("num_images", "num_texts"), [(0, 0), (0, 5), (5, 0)])
def test_nothing_to_search(num_images, num_texts):
    ranks = rank(np.zeros((num_images, 4)), np.zeros((num_texts, 4)), [[]] * num_images)
    assert ranks.image_to_text.positives.tolist() == [0] * num_images and ranks.text_to_image.ahead.tolist() == [num_images] * num_texts
    table = retrieval_table(ranks, cases=cases(num_images), captions=captions(num_texts), fold="fold_1")
    assert len(table) == 0 and table.gallery.dtype == np.int64


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((3, 4), (5, 4), [[0], [1], [5]]), {}, "positives name captions 0 to 5, but there are 5"),
        (((3, 4), (5, 4), [[0], [1], [-1]]), {}, "positives name captions -1 to 1"),
        (((3, 4), (5, 4), [[0], [1]]), {}, "positives of 2 images"),
        (((3, 4), (5, 6), [[0], [1], [2]]), {}, r"\(3, 4\) images, \(5, 6\) captions"),
        (((3, 4), (5, 4), [[0]] * 3), {"block": 5000}, "block is 5000; it must be 1 to 4096"),
        (((3, 4), (5, 4), [[0]] * 3), {"block": 0}, "block is 0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    images, texts, positives = arguments
    with pytest.raises(ValueError, match="rank: .*" + message):
        rank(np.ones(images), np.ones(texts), positives, **options)


def cases(number: int) -> list[Case]:
    return [Case(f"图/{i:02}.png", None, f"P{i // 2}") for i in range(number)]


def captions(number: int) -> list[str]:
    return [f'第{i:02}句, "话"' for i in range(number)]


def test_the_table_names_things_and_leaves_distractors_out():
    image, text = np.eye(3, 4, dtype=np.float32), np.eye(4, dtype=np.float32)
    table = retrieval_table(rank(image, text, [[1, 0], [1], []]), cases=cases(3), captions=captions(4), fold="fold_2")
    assert table.direction.tolist() == ["image_to_text"] * 2 + ["text_to_image"] * 2
    assert table.query.tolist() == ["图/00.png", "图/01.png", '第00句, "话"', '第01句, "话"']
    assert table.group.tolist() == ["P0", "P0", "", ""] and set(table.fold) == {"fold_2"}
    named = {"cases": cases(3), "captions": captions(4), "fold": "f"}
    for positives, groups in (([[1, 0], [1], []], ["P0"] * 4), ([[0], [1], [1]], ["P0", "P0", "P1", "P0", ""])):  # images 0 and 1 are of P0
        assert retrieval_table(rank(image, text, positives), **named, positives=positives).group.tolist() == groups
    assert table.gallery.tolist() == [4, 4, 3, 3]
    assert table.best_match.tolist() == ['第00句, "话"', '第01句, "话"', "图/00.png", "图/01.png"]
    assert table.positive_similarity.tolist() == [0.5, 1, 1, 0.5] and table.negative_similarity.tolist() == [0, 0, 0, 0]
