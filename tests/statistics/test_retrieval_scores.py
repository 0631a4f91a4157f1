"""Weighted retrieval scores against clipzoo.metrics on the repeated rows."""

import numpy as np
import pytest

from clipzoo.metrics import RETRIEVAL_DEFAULTS
from clipzoo.records.tables import DIRECTIONS, RetrievalTable
from clipzoo.registries import METRICS
from clipzoo.statistics.cases import Queries
from clipzoo.statistics.retrieval_scores import RankOutcomes, weighted_retrieval_scores


def example(num=40, seed=0, directions=DIRECTIONS):
    """Ranks with ties and several matches; one image has no negatives."""
    rng = np.random.default_rng(seed)
    n = num * len(directions)
    ahead, tied, positives = rng.integers(0, 9, n), rng.integers(0, 4, n), rng.integers(1, 4, n)
    negative = rng.uniform(-0.5, 0.5, n)
    negative[2] = np.nan
    return RetrievalTable.from_columns(
        np.repeat(directions, num), [f"q{row}" for row in range(n)], [""] * n, ["fold_1"] * n, [30] * n, ahead, tied, positives,
        rng.uniform(0, 1, n), negative, [""] * n,
    )  # fmt: skip


def expected(table):
    return {metric.name: metric.compute(table) for metric in map(METRICS.build, RETRIEVAL_DEFAULTS)}


def test_integer_weights_are_repeated_rows():
    table = example()
    weights = np.random.default_rng(1).integers(0, 4, size=(140, len(table)))
    weights[0] = 1
    scores = weighted_retrieval_scores(RankOutcomes.of(Queries.from_table(table)), weights).overall
    for row in (0, 1, 127, 139):
        wanted = expected(table.take(np.repeat(np.arange(len(table)), weights[row])))
        assert scores.keys() == wanted.keys()
        for name, value in wanted.items():
            assert scores[name][row] == pytest.approx(value, rel=1e-12), name


def test_one_direction_alone_leaves_the_other_undefined():
    table = example(directions=DIRECTIONS[:1])
    scores = weighted_retrieval_scores(RankOutcomes.of(Queries.from_table(table)), np.ones((1, len(table)))).overall
    for name, value in expected(table).items():
        assert scores[name][0] == pytest.approx(value, rel=1e-12, nan_ok=True), name
    assert np.isnan(scores["rsum"][0]) and np.isnan(scores["t2i_median_rank"][0])


@pytest.mark.filterwarnings("error")
def test_features_that_were_not_finite_make_their_direction_nan():
    table = example()
    table.positive_similarity[3] = np.nan
    scores = weighted_retrieval_scores(RankOutcomes.of(Queries.from_table(table)), np.ones((1, len(table)))).overall
    for name, value in expected(table).items():
        assert scores[name][0] == pytest.approx(value, rel=1e-12, nan_ok=True), name
    assert np.isnan(scores["i2t_r1"][0]) and np.isfinite(scores["t2i_r1"][0])


@pytest.mark.filterwarnings("error")
def test_an_empty_table_is_nan():
    table = example().take(np.zeros(0, dtype=int))
    scores = weighted_retrieval_scores(RankOutcomes.of(Queries.from_table(table)), np.ones((1, 0))).overall
    assert all(np.isnan(values).all() for values in scores.values())
