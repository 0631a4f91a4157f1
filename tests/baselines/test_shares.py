"""Shares of the training groups: nested, stratified, never a part of a patient, and the val and test parts as they are."""

import numpy as np
import pytest

from clipzoo.baselines.shares import Plan, in_order, reduced
from clipzoo.datasets.splitters.kfold import StratifiedGroupKFold
from clipzoo.errors import ConfigError, DataError
from clipzoo.records.folds import Case, Folds


def folds_of(num_groups: int = 60, common: int = 5) -> Folds:
    """Groups of one to three cases; one class for every ``common`` groups, and another for the rest."""
    cases = []
    for group in range(num_groups):
        for image in range(1 + group % 3):
            cases.append(Case(f"{group:03}_{image}", int(group % common == 0), f"P{group}"))
    return StratifiedGroupKFold(num_folds=3, seed=0, val_fraction=0.2).split(cases, ["常见", "少见"])


def groups_of(folds, ids):
    group = {case.id: case.group for case in folds.cases}
    return {group[i] for i in ids}


def test_a_larger_share_contains_the_smaller_one_and_whole_groups():
    folds = folds_of()
    shares = [reduced(folds, share, 1, 0) for share in (0.1, 0.2, 0.4, 0.7, 1.0)]
    assert shares[-1] is folds
    for small, large in zip(shares, shares[1:], strict=False):
        small.verify()
        for less, more in zip(small.splits, large.splits, strict=True):
            assert set(less.train) < set(more.train)
            assert not groups_of(folds, less.train) & groups_of(folds, set(more.train) - set(less.train))
    for small in shares:
        for split, whole in zip(small.splits, folds.splits, strict=True):
            assert (split.val, split.test, split.name) == (whole.val, whole.test, whole.name)
            assert list(split.train) == sorted(split.train)


def test_the_number_of_groups_and_the_classes_are_in_proportion():
    folds = folds_of()
    label = {case.group: case.label for case in folds.cases}
    rare = []
    for draw in range(20):
        for split, whole in zip(reduced(folds, 0.4, draw, 3).splits, folds.splits, strict=True):
            kept, every = groups_of(folds, split.train), groups_of(folds, whole.train)
            assert len(kept) == int(0.4 * len(every) + 0.5)
            expected = 0.4 * sum(label[group] for group in every)
            rare.append(sum(label[group] for group in kept) - expected)
            assert abs(rare[-1]) <= 1
    assert abs(np.mean(rare)) < 0.25


def test_draws_and_seeds_differ_and_repeat():
    folds = folds_of()
    found = [reduced(folds, 0.4, draw, seed) for draw, seed in ((0, 0), (1, 0), (0, 1))]
    assert len({folds.digest for folds in found}) == 3
    assert reduced(folds, 0.4, 0, 0).digest == found[0].digest
    assert found[1].spec["train_share"] == 0.4 and found[1].spec["draw"] == 2 and found[1].spec["num_folds"] == 3


def test_every_group_has_the_same_chance_to_be_among_the_first():
    strata = np.array([0] * 12 + [1] * 3)
    rng = np.random.default_rng(0)
    times = np.zeros(15)
    for _ in range(3000):
        times[in_order(strata, rng)[:4]] += 1
    np.testing.assert_allclose(times / 3000, 4 / 15, atol=0.035)


def test_notes_say_which_classes_are_gone():
    folds = folds_of(num_groups=40, common=10)
    notes = " ".join(note for draw in range(5) for note in reduced(folds, 0.1, draw, 0).notes)
    assert "Missing from the train part: '少见' (4 groups) from " in notes


def test_too_small_a_share_says_which_would_do():
    with pytest.raises(DataError, match=r"fold_1: a share of 0\.01 of its 31 training groups is 0, and 2 are needed\. Pass --shares of 0"):
        reduced(folds_of(), 0.01, 0, 0)
    least = float(str(pytest.raises(DataError, reduced, folds_of(), 0.01, 0, 0).value).split("--shares of ")[1].split()[0])
    assert all(len(groups_of(folds_of(), split.train)) == 2 for split in reduced(folds_of(), least, 0, 0).splits)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"shares": (0.0, 1.0)}, "--shares: 0 is not a share"),
        ({"shares": (0.5, 1.5)}, "--shares: 1.5 is not a share"),
        ({"shares": (0.5, float("nan"))}, "--shares: nan is not a share"),
        ({"shares": (0.5,)}, "--shares: 0.5. List two or more different shares"),
        ({"shares": (0.5, 0.5)}, "--shares: 0.5 0.5. List two"),
        ({"repeats": 0}, "--repeats 0"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_a_plan_that_cannot_be(values, says):
    with pytest.raises(ConfigError, match=says):
        Plan(**values)


def test_shares_are_sorted_and_the_whole_has_one_draw():
    plan = Plan((1.0, 0.2, 0.5), repeats=3)
    assert plan.shares == (0.2, 0.5, 1.0) and [len(plan.draws(share)) for share in plan.shares] == [3, 3, 1]
