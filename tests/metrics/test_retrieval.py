"""Metrics of retrieval against enumerating orders, against sorting whole rows, and against the published 5-captions evaluation."""

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from clipzoo.config.checking import check_spec
from clipzoo.errors import ConfigError
from clipzoo.metrics import RETRIEVAL_DEFAULTS, MedianRank, Recall, RSum, rank, retrieval_table
from clipzoo.metrics.retrieval import expected_ranks, expected_reciprocal_ranks, hit_probabilities
from clipzoo.records.folds import Case
from clipzoo.records.tables import RetrievalTable
from clipzoo.registries import METRICS

NAMES = (
    "i2t_r1 i2t_r5 i2t_r10 t2i_r1 t2i_r5 t2i_r10 i2t_mean_rank t2i_mean_rank i2t_median_rank t2i_median_rank i2t_mrr t2i_mrr "
    "rsum positive_similarity negative_similarity similarity_gap"
).split()


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def scores(table: RetrievalTable) -> dict[str, float]:
    built = [METRICS.build(spec) for spec in RETRIEVAL_DEFAULTS]
    return {metric.name: metric.compute(table) for metric in built}


def searched(image: np.ndarray, text: np.ndarray, positives, fold="fold_1") -> RetrievalTable:
    cases = [Case(f"{fold}/{i:03}", None, "") for i in range(len(image))]
    captions = [f"caption {i:03}" for i in range(len(text))]
    return retrieval_table(rank(image, text, positives, block=16), cases=cases, captions=captions, fold=fold)


def queries(*results: tuple[int, int, int, int], direction: str = "image_to_text") -> RetrievalTable:
    """One query for each (gallery, ahead, tied, positives)."""
    gallery, ahead, tied, positives = zip(*results, strict=True)
    size = len(results)
    return RetrievalTable.from_columns(
        [direction] * size, map(str, range(size)), [""] * size, ["fold_1"] * size, gallery, ahead, tied, positives,
        [0.5] * size, [0.0] * size, [""] * size,
    )  # fmt: skip


def first_own_places(tied: int, positives: int) -> list[int]:
    """Place of the first of its own, counted from 1, in every order of what is tied."""
    return [min(own) + 1 for own in itertools.combinations(range(tied + positives), positives)]


@pytest.mark.parametrize("positives", [1, 2, 3])
@pytest.mark.parametrize("tied", [0, 1, 4, 6])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_ties_are_the_mean_over_all_orders(ahead, tied, positives):
    table = queries((ahead + tied + positives + 2, ahead, tied, positives))
    ranks = [ahead + place for place in first_own_places(tied, positives)]
    assert expected_ranks(table)[0] == pytest.approx(np.mean(ranks), rel=1e-14)
    assert expected_reciprocal_ranks(table)[0] == pytest.approx(np.mean([1 / r for r in ranks]), rel=1e-14)
    for k in range(1, ahead + tied + positives + 5):
        assert hit_probabilities(table, k)[0] == pytest.approx(np.mean([r <= k for r in ranks]), rel=1e-13, abs=1e-15), k


def test_many_ties_are_exact_for_all_queries_at_once():
    results = [(50_000, 3, 20_000, 5), (50_000, 0, 49_999, 1), (9, 0, 4, 5), (7, 2, 0, 1), (3_000, 990, 1_500, 40), (2_000, 9, 1_000, 900)]
    table = queries(*results)
    for k in (1, 5, 10, 1_000, 60_000):
        expected = []
        for gallery, ahead, tied, positives in results:
            seen = max(min(k, gallery) - ahead, 0)
            expected.append(1 - Fraction(math.comb(tied, seen), math.comb(tied + positives, min(seen, tied + positives))))
        np.testing.assert_allclose(hit_probabilities(table, k), np.array(expected, dtype=float), rtol=1e-9, atol=1e-15)
    places = range(1, 20_002)
    orders = math.comb(20_005, 5)
    exact = sum(math.comb(20_005 - j, 4) / orders / (3 + j) for j in places)
    assert expected_reciprocal_ranks(table)[0] == pytest.approx(exact, rel=1e-12)
    assert expected_reciprocal_ranks(table)[1] == pytest.approx(sum(1 / j for j in range(1, 50_001)) / 50_000, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_sorting_every_row(seed):
    """Several captions per image, captions of several images; in float64, one query after another."""
    generator = np.random.default_rng(seed)
    image, text = generator.normal(size=(40, 12)), generator.normal(size=(70, 12))
    image, text = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (image, text))
    own = np.zeros((40, 70), dtype=bool)
    for i in range(40):
        own[i, generator.permutation(70)[: generator.integers(1, 5)]] = True
    got = scores(searched(image, text, [np.flatnonzero(mine) for mine in own]))
    assert list(got) == NAMES

    similarity = image @ text.T
    expected = {}
    for short, rows, mine in (("i2t", similarity, own), ("t2i", similarity.T, own.T)):
        ranks = []
        for row, belongs in zip(rows, mine, strict=True):
            order = sorted(range(len(row)), key=lambda i: -row[i])  # noqa: B023
            if belongs.any():
                ranks.append(next(place for place, i in enumerate(order, start=1) if belongs[i]))
        for k in (1, 5, 10):
            expected[f"{short}_r{k}"] = sum(r <= k for r in ranks) / len(ranks)
        expected[f"{short}_mean_rank"] = sum(ranks) / len(ranks)
        expected[f"{short}_median_rank"] = sorted(ranks)[len(ranks) // 2] / 2 + sorted(ranks)[(len(ranks) - 1) // 2] / 2
        expected[f"{short}_mrr"] = sum(1 / r for r in ranks) / len(ranks)
    expected["rsum"] = 100 * sum(expected[name] for name in NAMES[:6])
    positive = np.mean([similarity[i, own[i]].mean() for i in range(40)])
    negative = np.mean([similarity[i, ~own[i]].mean() for i in range(40)])
    expected |= {"positive_similarity": positive, "negative_similarity": negative, "similarity_gap": positive - negative}
    assert got == pytest.approx(expected, rel=1e-6)


def test_the_published_evaluation_of_five_captions_per_image():
    """As for COCO 5K and Flickr30K: captions 5i to 5i+4 are image i's; the rank of the first of the five; one image per caption."""
    generator = np.random.default_rng(0)
    image = generator.normal(size=(60, 16))
    text = image.repeat(5, axis=0) + 1.5 * generator.normal(size=(300, 16))
    image, text = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (image, text))
    similarity = image @ text.T
    first_of_five = np.empty(60)
    for i in range(60):
        place = np.empty(300)
        place[np.argsort(similarity[i])[::-1]] = np.arange(300)
        first_of_five[i] = place[5 * i : 5 * i + 5].min()
    of_captions = np.array([np.flatnonzero(np.argsort(similarity[:, c])[::-1] == c // 5)[0] for c in range(300)])
    got = scores(searched(image, text, [range(5 * i, 5 * i + 5) for i in range(60)]))
    for short, places in (("i2t", first_of_five), ("t2i", of_captions)):
        published = [float(np.mean(places < k)) for k in (1, 5, 10)] + [np.median(places) + 1, places.mean() + 1]
        named = [got[f"{short}_{name}"] for name in ("r1", "r5", "r10", "median_rank", "mean_rank")]
        assert named == pytest.approx(published) and 0.1 < published[0] < 0.9
    assert got["rsum"] == pytest.approx(100 * sum(got[name] for name in NAMES[:6]))


def test_a_perfect_model_has_every_point():
    got = scores(searched(np.eye(20), np.eye(20), [[i] for i in range(20)]))
    assert got["rsum"] == 600 and got["i2t_mean_rank"] == got["t2i_median_rank"] == got["i2t_mrr"] == 1
    assert (got["positive_similarity"], got["negative_similarity"], got["similarity_gap"]) == (1, 0, 1)


@pytest.mark.parametrize("per_image", [1, 3])
def test_a_collapsed_model_scores_exactly_chance(per_image):
    feature = np.random.default_rng(0).normal(size=(1, 96))
    feature /= np.linalg.norm(feature)
    num_texts = 24 * per_image
    positives = [range(per_image * i, per_image * (i + 1)) for i in range(24)]
    got = scores(searched(feature.repeat(24, axis=0), feature.repeat(num_texts, axis=0), positives))
    for k in (1, 5, 10):
        assert got[f"i2t_r{k}"] == pytest.approx(1 - math.comb(num_texts - per_image, k) / math.comb(num_texts, k), rel=1e-12)
        assert got[f"t2i_r{k}"] == pytest.approx(k / 24, rel=1e-12)
    assert got["t2i_mean_rank"] == got["t2i_median_rank"] == 12.5 and got["i2t_mean_rank"] == (num_texts + 1) / (per_image + 1)
    assert got["t2i_mrr"] == pytest.approx(sum(1 / r for r in range(1, 25)) / 24, rel=1e-12)
    assert got["similarity_gap"] == pytest.approx(0, abs=1e-6) and got["positive_similarity"] == pytest.approx(1, abs=1e-6)


def test_chance_is_what_random_orders_of_a_collapsed_model_give():
    generator = np.random.default_rng(0)
    own = np.isin(np.arange(30), [3, 4, 17])
    table = queries((32, 2, 27, 3))
    ranks = [2 + np.flatnonzero(own[generator.permutation(30)])[0] + 1 for _ in range(20_000)]
    assert hit_probabilities(table, 5)[0] == pytest.approx(np.mean(np.array(ranks) <= 5), abs=0.01)
    assert expected_reciprocal_ranks(table)[0] == pytest.approx(np.mean(1 / np.array(ranks)), abs=0.003)


def test_one_sentence_for_all_images_finds_everything():
    """A repeated caption belongs to every image it was written for: none of them is a false negative."""
    image = np.random.default_rng(0).normal(size=(10, 4))
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    got = scores(searched(image, image[:1], [[0]] * 10))
    assert got["rsum"] == 600 and math.isnan(got["negative_similarity"]) and math.isnan(got["similarity_gap"])
    assert not math.isnan(got["positive_similarity"])


def test_an_image_without_others_is_left_out_of_the_gap():
    table = queries((4, 0, 0, 1), (1, 0, 0, 1))
    table.negative_similarity[1] = np.nan
    assert METRICS.build("SimilarityGap").compute(table) == 0.5 and METRICS.build("NegativeSimilarity").compute(table) == 0


def test_pooled_folds_are_the_mean_over_queries_each_with_its_own_gallery():
    generator = np.random.default_rng(0)
    folds = []
    for name, size in (("fold_1", 6), ("fold_2", 18)):
        features = generator.normal(size=(2, size, 8))
        features /= np.linalg.norm(features, axis=2, keepdims=True)
        folds.append(searched(*features, [[i] for i in range(size)], fold=name))
    pooled = RetrievalTable.join(folds)
    for metric in map(METRICS.build, RETRIEVAL_DEFAULTS):
        if not isinstance(metric, MedianRank):
            own = [metric.compute(fold) for fold in folds]
            assert metric.compute(pooled) == pytest.approx((6 * own[0] + 18 * own[1]) / 24), metric.name


def test_k_larger_than_the_gallery_finds_everything():
    assert Recall("text_to_image", 10).compute(queries((4, 3, 0, 1), (2, 0, 1, 1), direction="text_to_image")) == 1


def test_a_direction_without_queries_is_not_defined():
    table = queries((4, 0, 0, 1))
    assert Recall("image_to_text", 1).compute(table) == 1
    assert math.isnan(Recall("text_to_image", 1).compute(table)) and math.isnan(RSum().compute(table))


def test_ranks_and_negatives_are_better_when_lower():
    built = [METRICS.build(spec) for spec in RETRIEVAL_DEFAULTS]
    lower = [metric.name for metric in built if not metric.greater_is_better]
    assert lower == ["i2t_mean_rank", "t2i_mean_rank", "i2t_median_rank", "t2i_median_rank", "negative_similarity"]
    assert METRICS.build({"type": "Recall", "direction": "text_to_image", "k": 50}).name == "t2i_r50"


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="Recall.k: 0 is not a whole number of 1 or more"):
        Recall("image_to_text", 0)
    with pytest.raises(ConfigError, match="MedianRank.direction: 'image_to_txt' is not one of .*. Did you mean 'image_to_text'"):
        MedianRank("image_to_txt")
    problems = []
    for spec in RETRIEVAL_DEFAULTS:
        check_spec(METRICS, spec, "evaluation.metrics.0", problems)
    assert problems == []
    for spec in ("MRR", {"type": "Recall", "direction": "i2t", "k": "5"}):
        check_spec(METRICS, spec, "evaluation.metrics.0", problems)
    assert [problem.what for problem in problems] == [
        "MRR requires 'direction'. MRR(direction)",
        "'i2t' is not one of 'image_to_text', 'text_to_image'",
        "'5' is not a whole number of 1 or more",
    ]
