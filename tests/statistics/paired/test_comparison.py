"""Paired comparison of two runs: identity, antisymmetry, intervals, messages."""

import math
from dataclasses import replace

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.records.tables import PredictionTable, RetrievalTable
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.paired.comparison import adjusted, compare_cases, compare_queries
from clipzoo.statistics.paired.paired_tests import corrected_t
from clipzoo.statistics.scores import OVERALL, PER_CLASS
from clipzoo.statistics.uncertainty.intervals import classification_intervals


def pair_of_tables(seed=0, num_groups=60, images=2, signals=(2.5, 1.0), folds=5):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), images)
    labels = rng.choice(3, num_groups, p=[0.4, 0.3, 0.3])[groups]
    shared = rng.normal(size=(num_groups, 3))[groups]
    tables = []
    for signal in signals:
        logits = signal * np.eye(3)[labels] + shared + 0.7 * rng.normal(size=(len(groups), 3))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        tables.append(
            PredictionTable(
                classes=("a", "b", "c"),
                case_ids=tuple(f"case {i}" for i in range(len(groups))),
                groups=tuple(f"patient {g}" for g in groups),
                folds=tuple(f"fold_{g % folds + 1}" for g in groups),
                labels=labels,
                probabilities=probabilities.astype(np.float32),
            )
        )
    return tables


def pair(**changes):
    return [Cases.from_table(table) for table in pair_of_tables(**changes)]


def everything(found):
    return [(n, None, d) for n, d in found.overall.items()] + [(n, c, d) for n, v in found.per_class.items() for c, d in enumerate(v)]


def test_a_run_compared_with_itself_differs_by_exactly_nothing():
    cases = pair()[0]
    found = compare_cases(cases, cases, num_permutations=50)
    assert found.identical and found.mcnemar.p_value == 1
    assert tuple(found.overall) == OVERALL and tuple(found.per_class) == PER_CLASS
    for name, c, difference in everything(found):
        assert (difference.interval.value, difference.interval.low, difference.interval.high) == (0, 0, 0), (name, c)
        assert difference.p_value == 1 and difference.folds.p_value == 1 and difference.folds.mean == 0


def test_a_better_run_is_better_in_everything_and_the_signs_turn():
    first, second = pair()
    found, turned = compare_cases(first, second, num_permutations=400), compare_cases(second, first, num_permutations=400)
    for (name, c, a), (_, _, b) in zip(everything(found), everything(turned), strict=True):
        assert a.interval.value == -b.interval.value == pytest.approx(a.first - a.second), (name, c)
        assert (a.interval.low, a.interval.high) == pytest.approx((-b.interval.high, -b.interval.low)), (name, c)
        assert a.interval.low < a.interval.value < a.interval.high
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier"):
        assert found.overall[name].p_value == 1 / 802, name
        assert found.overall[name].interval.low * found.overall[name].interval.high > 0, name
    assert found.overall["log_loss"].interval.value < 0 < found.overall["auroc"].interval.value
    assert found.mcnemar.only_first > found.mcnemar.only_second and "permutation" in found.mcnemar.note


def test_the_interval_uses_the_pairing():
    """Half of the error is common to both runs: the difference is known better than two separate intervals would say."""
    first, second = pair(signals=(2.0, 1.8), num_groups=150)
    found = compare_cases(first, second, num_permutations=10).overall
    alone = [classification_intervals(cases).overall for cases in (first, second)]
    for name in ("accuracy", "balanced_accuracy", "auroc", "log_loss"):
        unpaired = math.hypot(*(a[name].high - a[name].low for a in alone))
        assert found[name].interval.high - found[name].interval.low < 0.9 * unpaired, name


def test_the_detectable_difference_is_that_of_the_width():
    found = compare_cases(*pair(images=1, num_groups=400), num_permutations=10).overall["accuracy"]
    assert found.detectable == pytest.approx((found.interval.high - found.interval.low) / 2 * (1.96 + 0.8416) / 1.96, rel=0.01)


def test_both_perfect_is_no_proof_of_equality():
    labels = np.arange(20) % 2
    first, second = (Cases.from_arrays(labels, np.eye(2)[labels] * (2 * s - 1) + 1 - s) for s in (0.9, 0.8))
    found = compare_cases(first, second, num_permutations=100)
    accuracy = found.overall["accuracy"]
    assert not found.identical and accuracy.interval.value == 0 and accuracy.p_value == 1
    assert accuracy.interval.low < -0.1 and accuracy.interval.high > 0.1


@pytest.mark.filterwarnings("error")
def test_odd_pairs_never_crash():
    rng = np.random.default_rng(0)
    for num_groups, images, shares in ((1, 3, (0.5, 0.5)), (2, 1, (0.5, 0.5)), (4, 2, (1, 0)), (20, 2, (0.95, 0.05))):
        groups = np.repeat(np.arange(num_groups), images)
        labels = rng.choice(2, num_groups, p=shares)[groups]
        runs = [Cases.from_arrays(labels, rng.dirichlet((1, 1), len(groups)).round(2), groups) for _ in range(2)]
        for name, c, difference in everything(compare_cases(*runs, num_permutations=20)):
            interval = difference.interval
            assert interval.low <= interval.value <= interval.high or (math.isnan(interval.low) and interval.note), (name, c)
            assert math.isnan(difference.p_value) == math.isnan(interval.value)
    nan = replace(runs[0], probabilities=np.full((40, 2), np.nan))
    assert all(math.isnan(d.p_value) for _, _, d in everything(compare_cases(runs[0], nan, num_permutations=20)))


def test_notes_name_rare_classes():
    first, second = pair(num_groups=40)
    found = compare_cases(first, second, num_permutations=10)
    assert "groups" in found.overall["balanced_accuracy"].interval.note and found.overall["accuracy"].interval.note == ""


def test_fold_tests_are_those_of_the_folds():
    first, second = pair()
    found = compare_cases(first, second, num_permutations=10).overall["accuracy"].folds
    right = [(c.probabilities.argmax(axis=1) == c.labels) for c in (first, second)]
    differences = np.array([right[0][first.folds == f].mean() - right[1][first.folds == f].mean() for f in range(5)])
    assert found == corrected_t(differences, test_share=0.25)


def test_holm_over_several_comparisons():
    runs = pair(signals=(2.0, 1.9, 1.2, 2.1))
    comparisons = adjusted([compare_cases(runs[0], other, num_permutations=200) for other in runs[1:]])
    p = [c.overall["accuracy"].p_value for c in comparisons]
    a = [c.overall["accuracy"].adjusted_p_value for c in comparisons]
    assert min(a) == pytest.approx(min(1, 3 * min(p))) and all(x >= y for x, y in zip(a, p, strict=True))
    assert adjusted([]) == []


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: replace(t, classes=("a", "b", "x")), "comparison: classes differ: class 3 is 'c' in old, 'x' in new"),
        (lambda t: replace(t, case_ids=("other", *t.case_ids[1:])), "cases differ: case 1 is 'case 0' in old, 'other' in new"),
        (lambda t: replace(t, labels=np.where(np.arange(120) == 4, (t.labels + 1) % 3, t.labels)), "labels differ: case 'case 4' is"),
        (lambda t: replace(t, labels=np.where(np.arange(120) == 4, -1, t.labels)), "old has 120 cases, new has 119"),
        (lambda t: replace(t, groups=("", *t.groups[1:])), "groups differ: case 'case"),
        (lambda t: replace(t, folds=("fold_5", *t.folds[1:])), "folds differ: case 'case 0' is 'fold_1' in old, 'fold_5' in new"),
    ],
)
def test_other_cases_are_refused_by_their_first_difference(change, message):
    first, second = pair_of_tables()
    with pytest.raises(DataError, match=message):
        compare_cases(Cases.from_table(first), Cases.from_table(change(second)), names=("old", "new"))


def test_no_cases_is_one_clear_line():
    none = Cases.from_arrays(np.array([-1]), np.array([[0.5, 0.5]]))
    with pytest.raises(DataError, match="have no cases"):
        compare_cases(none, none)


def ranks_of(ahead, gallery=50):
    n = len(ahead)
    return RetrievalTable.from_columns(
        ["image_to_text"] * n + ["text_to_image"] * n, [f"q{i}" for i in range(2 * n)], [f"p{i // 2}" for i in range(n)] + [""] * n,
        [f"fold_{i % 2}" for i in range(2 * n)], [gallery] * 2 * n, [*ahead, *ahead], [0] * 2 * n, [1] * 2 * n,
        0.9 - np.tile(ahead, 2) / 100, np.linspace(0, 0.1, 2 * n), [""] * 2 * n,
    )  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_retrieval_runs_are_compared_in_every_metric():
    rng = np.random.default_rng(0)
    good = rng.integers(0, 3, 80)
    first, second = (Queries.from_table(ranks_of(ahead)) for ahead in (good, good + rng.integers(0, 4, 80)))
    found = compare_queries(first, second, num_permutations=200)
    assert found.mcnemar is None and found.per_class == {} and len(found.overall) == 16
    for name in ("i2t_r1", "t2i_mrr", "rsum", "similarity_gap"):
        assert found.overall[name].interval.low > 0 and found.overall[name].p_value == 1 / 402, name
    assert found.overall["i2t_mean_rank"].interval.high < 0
    assert "medians" in found.overall["i2t_median_rank"].interval.note and found.overall["i2t_median_rank"].p_value < 0.1
    assert math.isnan(found.overall["negative_similarity"].interval.low)  # equal in both runs
    same = compare_queries(first, first, num_permutations=20)
    assert same.identical and all(d.p_value == 1 and d.interval.value == 0 for d in same.overall.values())


def test_other_queries_are_refused():
    first, second = ranks_of([0, 1, 2, 3]), ranks_of([0, 1, 2, 3], gallery=40)
    with pytest.raises(DataError, match="gallery sizes differ: query 'q0' is 50 in first, 40 in second"):
        compare_queries(Queries.from_table(first), Queries.from_table(second))
    with pytest.raises(DataError, match="first has 8 queries, second has 6"):
        compare_queries(Queries.from_table(first), Queries.from_table(ranks_of([0, 1, 2])))
