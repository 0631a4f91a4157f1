"""Splits are honest, stratified and grouped: properties over random data sets, and brute force on small ones."""

import inspect
import json
import subprocess
import sys
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipzoo.datasets.splitters import (
    FromFile,
    Holdout,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    assign,
    unevenness,
)
from clipzoo.datasets.splitters.base import carve, carve_val
from clipzoo.datasets.splitters.exact import optimum
from clipzoo.datasets.splitters.learnable import spread_every_class, top_up
from clipzoo.datasets.splitters.problem import make_problem
from clipzoo.errors import ConfigError, DataError, LeakError
from clipzoo.records.folds import Case, Folds
from clipzoo.registries import SPLITTERS

RNG = np.random.RandomState
SPLITTER_CLASSES = [Holdout, KFold, StratifiedKFold, StratifiedGroupKFold]


def singles(*numbers: int) -> list[Case]:
    """``numbers[c]`` cases of class c, each alone."""
    return [Case(f"c{c}/{i:04d}.png", c, f"c{c}/{i:04d}.png") for c, n in enumerate(numbers) for i in range(n)]


def patients(rng: np.random.RandomState, number: int, num_classes: int, most_views: int = 5, mixed: bool = False) -> list[Case]:
    """Patients with one to ``most_views`` images each; one class per patient unless ``mixed``. Every class has at least two patients."""
    cases = []
    for p in range(number):
        label = p % num_classes if p < 2 * num_classes else int(rng.randint(num_classes))
        for v in range(int(rng.randint(1, most_views + 1))):
            cases.append(Case(f"p{p:03d}_v{v}", label, f"patient {p}"))
            label = int(rng.randint(num_classes)) if mixed else label
    return cases


def names(number: int) -> list[str]:
    """Class names."""
    return [f"类{c}" for c in range(number)]


def counts_of(cases: list[Case], num_classes: int) -> np.ndarray:
    """``[G, C]``, groups in order of their first case."""
    groups = list(dict.fromkeys(case.group for case in cases))
    counts = np.zeros((len(groups), num_classes), dtype=int)
    for case in cases:
        counts[groups.index(case.group), case.label] += 1
    return counts


def brute_force(counts: np.ndarray, shares: list[float], size_weight: float) -> float:
    """The least unevenness over all K^G assignments without an empty part."""
    num_parts = len(shares)
    assignments = np.array(list(product(range(num_parts), repeat=len(counts))))
    with_size = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)
    n = np.einsum("sgk,gf->skf", np.eye(num_parts)[assignments], with_size)
    totals = with_size.sum(axis=0)
    weights = np.array([1.0] * counts.shape[1] + [size_weight]) / np.maximum(totals, 1)
    costs = ((n - np.outer(shares, totals)) ** 2 * weights).sum(axis=(1, 2))
    return costs[(n[:, :, -1] > 0).all(axis=1)].min()


# ---------------------------------------------------------------- properties over random data sets

datasets = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 3), st.integers(1, 3)), min_size=6, max_size=40)


def cases_from(rows: list[tuple[int, int, int]]) -> list[Case]:
    return [Case(f"{i}-{v}", label, f"g{group}") for i, (group, label, views) in enumerate(rows) for v in range(views)]


@given(rows=datasets, num_folds=st.integers(2, 6), seed=st.integers(0, 5), val=st.sampled_from([0.0, 0.1, 0.4]), shuffle=st.randoms())
@settings(max_examples=30, deadline=None)
def test_grouped_folds_are_honest_whatever_the_data(rows, num_folds, seed, val, shuffle):
    cases = cases_from(rows)
    splitter = StratifiedGroupKFold(num_folds, seed=seed, val_fraction=val, min_groups_per_class=1)
    group_of = {case.id: case.group for case in cases}
    present = sorted({case.label for case in cases})
    cases = [Case(c.id, present.index(c.label), c.group) for c in cases]
    if len(set(group_of.values())) < num_folds:
        with pytest.raises(DataError, match="num_folds"):
            splitter.split(cases, names(len(present)))
        return
    folds = splitter.split(cases, names(len(present)))

    tested = [i for split in folds.splits for i in split.test]
    assert sorted(tested) == sorted(group_of)
    for split in folds.splits:
        parts = [{group_of[i] for i in part} for part in (split.train, split.val, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert len(split.train) + len(split.val) + len(split.test) == len(cases)
        assert parts[0] and parts[2] and (val or not parts[1])
        outside_test = [c for c in cases if c.id not in split.test]
        assert {c.label for c in outside_test} == {c.label for c in cases if c.id in set(split.train)}, "val took the last group of a class"

    shuffle.shuffle(cases)
    again = splitter.split(cases, names(len(present)))
    assert again == folds and again.digest == folds.digest and again.notes == folds.notes


@given(numbers=st.lists(st.integers(2, 40), min_size=1, max_size=6), num_folds=st.integers(2, 7), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_without_groups_every_class_and_every_size_is_as_even_as_possible(numbers, num_folds, seed):
    if sum(numbers) < num_folds:
        return
    for cls in (StratifiedKFold, StratifiedGroupKFold):
        folds = cls(num_folds, seed=seed).split(singles(*numbers), names(len(numbers)))
        table = np.array([folds.counts(split)["test"] for split in folds.splits])
        assert (np.ptp(table, axis=0) <= 1).all()
        assert np.ptp(table.sum(axis=1)) <= 1


@pytest.mark.parametrize("cls", SPLITTER_CLASSES)
def test_same_seed_same_folds_other_seed_other_folds(cls):
    cases = singles(20, 15, 9)
    first = cls(seed=1).split(cases, names(3))
    assert cls(seed=1).split(cases[::-1], names(3)) == first
    digests = {cls(seed=seed).split(cases, names(3)).digest for seed in range(5)}
    assert len(digests) == 5
    assert SPLITTERS.build(first.spec).split(cases, names(3)).digest == first.digest


@pytest.mark.parametrize(
    ("at_least", "expected"),
    [(0, ("8542a1f6ad2098b9", "cdaef578f3ee6da4")), (2, ("88e7155c26d129be", "9f5c1f160b2bfaf9"))],  # 0: as in earlier versions
)
def test_folds_of_a_seed_are_the_same_on_every_machine(at_least, expected):
    grouped = StratifiedGroupKFold(3, seed=7, min_val_per_class=at_least).split(patients(RNG(3), 24, 3, mixed=True), names(3))
    single = StratifiedKFold(3, seed=7, min_val_per_class=at_least).split(singles(10, 7), names(2))
    assert (grouped.digest[:16], single.digest[:16]) == expected


def test_val_part_of_one_fold_does_not_depend_on_the_others():
    cases = patients(RNG(0), 40, 3)
    with_val, without = (StratifiedGroupKFold(seed=3, val_fraction=f).split(cases, names(3)) for f in (0.2, 0.0))
    for a, b in zip(with_val.splits, without.splits, strict=True):
        assert a.test == b.test and set(a.train) | set(a.val) == set(b.train) and a.val and not b.val


# ---------------------------------------------------------------- as even as brute force allows


@pytest.mark.fast_cases(20)
@pytest.mark.parametrize("seed", range(60))
def test_assign_equals_brute_force_on_small_instances(seed):
    rng = RNG(seed)
    num_parts = int(rng.randint(2, 4))
    num_groups = int(rng.randint(num_parts, 8 if num_parts == 3 else 11))
    counts = rng.randint(0, 3 + seed % 5, size=(num_groups, rng.randint(1, 4)))
    counts[counts.sum(axis=1) == 0, 0] = 1
    fraction = [0.1, 0.2, 0.35][seed % 3]
    for shares, weight in (([1 / num_parts] * num_parts, 0.01), ([fraction, 1 - fraction], counts.shape[1])):
        parts = assign(counts, shares, RNG(seed), size_weight=weight)
        assert unevenness(counts, parts, shares, weight) == pytest.approx(brute_force(counts, shares, weight), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_exact_search_finds_the_best_under_the_tightest_bound(seed):
    """Nothing below the least cost, and the least cost itself when it is only just allowed: no state is dropped too early."""
    rng = RNG(seed)
    counts = rng.randint(0, 5, size=(6, 2)) + [1, 0]
    shares = [1 / 3] * 3 if seed % 2 else [0.2, 0.3, 0.5]
    problem, row_of_group = make_problem(counts, shares, 0.5, np.full(6, -1))
    every = np.array(list(product(range(3), repeat=6)))
    costs = []
    for parts in every[[len(set(e)) == 3 for e in every.tolist()]]:
        x_MK = np.zeros((len(problem.rows_MF), 3), dtype=int)
        np.add.at(x_MK, (row_of_group, parts), 1)
        costs.append(int(problem.cost(problem.deviation(x_MK))))
    assert problem.lower_bound() <= min(costs)
    assert optimum(problem, min(costs)) is None
    found = optimum(problem, min(costs) + 1)
    assert found.sum(axis=1).tolist() == problem.many_M.tolist() and problem.cost(problem.deviation(found)) == min(costs)


def test_unevenness_against_a_naive_loop():
    counts = np.array([[3, 0], [1, 2], [0, 4]])
    parts, shares = np.array([0, 1, 1]), [0.25, 0.75]
    expected = 0.0
    for c in range(2):
        for k in range(2):
            n_kc = sum(int(counts[g, c]) for g in range(3) if parts[g] == k)
            expected += (n_kc - counts[:, c].sum() * shares[k]) ** 2 / counts[:, c].sum()
    for k in range(2):
        n_k = sum(int(counts[g].sum()) for g in range(3) if parts[g] == k)
        expected += 0.5 * (n_k - 10 * shares[k]) ** 2 / 10
    assert unevenness(counts, parts, shares, 0.5) == pytest.approx(expected)


def test_pinned_groups_stay_and_the_others_make_up_for_them():
    counts = np.array([[4], [1], [1], [1], [1]])
    parts = assign(counts, [0.5, 0.5], RNG(0), pinned=np.array([1, -1, -1, -1, -1]))
    assert parts.tolist() == [1, 0, 0, 0, 0]


def best_squares(sizes: list[int], num_parts: int) -> int:
    """The least sum of squared part sizes when whole groups are placed; every reachable state, parts in sorted order."""
    states = {(0,) * num_parts}
    for size in sorted(sizes, reverse=True):
        states = {tuple(sorted(s[:k] + (s[k] + size,) + s[k + 1 :])) for s in states for k in range(num_parts)}
    return min(sum(n * n for n in s) for s in states)


@pytest.mark.parametrize("seed", range(4))
def test_sixty_phantom_patients_are_split_as_evenly_as_can_be(seed):
    """Several views per patient, one class per patient: every class, taken alone, cannot be spread more evenly over the folds."""
    cases = patients(RNG(seed), 60, 4, most_views=4)
    folds = StratifiedGroupKFold(5, seed=seed).split(cases, names(4))
    counts = counts_of(cases, 4)
    table = np.array([folds.counts(split)["test"] for split in folds.splits])
    for c in range(4):
        sizes = counts[counts[:, c] > 0, c].tolist()
        assert (table[:, c] ** 2).sum() == best_squares(sizes, 5)
    group_of = {case.id: case.group for case in cases}
    for split in folds.splits:
        sides = [{group_of[i] for i in part} for part in (split.train, split.val, split.test)]
        assert sum(map(len, sides)) == len(set().union(*sides)) == 60


@pytest.mark.slow
def test_never_less_even_than_scikit_learn():
    from sklearn.model_selection import StratifiedGroupKFold as Reference

    shares, better = [0.2] * 5, 0
    for seed in range(50):
        cases = patients(RNG(seed), 12 + seed, 4, most_views=7, mixed=seed % 2 == 0)
        counts = counts_of(cases, 4)
        labels = [case.label for case in cases]
        groups = np.unique([case.group for case in cases], return_inverse=True)[1]
        theirs = np.zeros(len(counts), dtype=int)
        order = list(dict.fromkeys(groups.tolist()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for k, (_, test) in enumerate(Reference(5, shuffle=True, random_state=seed).split(labels, labels, groups)):
                for g in set(groups[test].tolist()):
                    theirs[order.index(g)] = k
        mine = unevenness(counts, assign(counts, shares, RNG(seed)), shares)
        reference = unevenness(counts, theirs, shares)
        assert mine <= reference + 1e-9
        better += mine < reference - 1e-9
    assert better >= 40


@pytest.mark.parametrize("num_groups, num_parts", [(3, 3), (4, 4), (30, 30), (6, 5), (1200, 1200)])
def test_no_fold_is_empty(num_groups, num_parts):
    counts = np.concatenate([[[200, 0]], np.eye(2, dtype=int)[RNG(0).randint(2, size=num_groups - 1)]])
    parts = assign(counts, [1 / num_parts] * num_parts, RNG(0))
    assert len(set(parts.tolist())) == num_parts


# ---------------------------------------------------------------- holdout and val part


def test_carve_keeps_the_share_although_every_class_alone_rounds_to_none():
    taken = carve(np.repeat(np.eye(100, dtype=int), 4, axis=0), 0.1, RNG(0))
    assert 38 <= taken.sum() <= 40


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_carve_leaves_every_class_a_group(fraction):
    for seed in range(20):
        rng = RNG(seed)
        counts = rng.randint(0, 3, size=(6, 4))
        counts[counts.sum(axis=1) == 0, 0] = 1
        taken = carve(counts, fraction, rng)
        assert (counts[~taken].sum(axis=0) > 0).tolist() == (counts.sum(axis=0) > 0).tolist()


@given(datasets, st.integers(0, 1000), st.sampled_from([0.05, 0.1, 0.3]), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_every_class_has_val_cases_where_a_group_can_be_spared(rows, seed, fraction, at_least):
    """Against the definition: no class lacks val cases while a group of it could go; and nothing else is touched."""
    counts = np.zeros((len(rows), 4), dtype=int)
    for group, (_, label, size) in enumerate(rows):
        counts[group, label] += size
        counts[group, (label + seed) % 4] += seed % 2
    before = carve(counts, fraction, RNG(seed))
    taken = carve_val(counts, fraction, RNG(seed), num_classes=3, at_least=at_least)
    assert taken[before].all() and taken.any() == before.any()
    added, val, train = np.flatnonzero(taken & ~before), counts[taken].sum(axis=0)[:3], counts[~taken].sum(axis=0)[:3]
    if taken.any():
        for group in np.flatnonzero(~taken):
            mine = counts[group, :3]
            spared = all(left >= at_least for left, own in zip(train - mine, mine, strict=True) if own)
            assert not (spared and any(own and has < at_least for own, has in zip(mine, val, strict=True)))
    for group in added:
        assert all(train[c] >= at_least for c in range(3) if counts[group, c])
    if (counts[before].sum(axis=0)[:3] >= at_least).all():
        assert not len(added)


def test_two_val_cases_of_a_rare_class_and_no_more_than_needed():
    """Ten classes of ten cases: a tenth of eight each is one, and one is not enough."""
    folds = StratifiedGroupKFold(5, min_val_per_class=2).split(singles(*[10] * 10), names(10))
    assert all(folds.counts(split)["val"] == [2] * 10 for split in folds.splits) and not folds.notes
    few = StratifiedGroupKFold(5).split(singles(*[10] * 10), names(10))
    assert all(sum(few.counts(split)["val"]) == 8 for split in few.splits)
    assert "min_val_per_class" not in few.spec and folds.spec["min_val_per_class"] == 2
    assert any(note.startswith("Fewer than 2 val cases of '类0' in ") for note in few.notes)


def test_the_smallest_group_tops_the_val_part_up():
    counts = np.array([[9, 0], [9, 0], [9, 0], [0, 5], [0, 3], [0, 2], [0, 4]])
    taken = top_up(counts, np.array([True, *[False] * 6]), RNG(0), num_classes=2, at_least=2)
    assert np.flatnonzero(taken).tolist() == [0, 5]


def test_few_val_cases_are_noted():
    """Three cases of a class: one is tested or two are learned, and at most one can be spared."""
    folds = StratifiedGroupKFold(2, seed=1, val_fraction=0.3).split(singles(20, 6), names(2))
    assert all(folds.counts(split)["val"][1] == 1 for split in folds.splits)
    (note,) = folds.notes
    assert note.startswith("Fewer than 2 val cases of '类1' in every fold: the choice of the epoch hardly knows them.")


# ---------------------------------------------------------------- inner folds


@pytest.mark.parametrize("cls", SPLITTER_CLASSES)
def test_inner_splits_share_out_the_training_part_and_nothing_else(cls):
    cases = singles(14, 9, 11) if "Group" not in cls.__name__ else patients(RNG(1), 30, 3)
    splitter = cls(inner_folds=3)
    folds = splitter.split(cases, names(3))
    groups = {case.id: case.group for case in cases}
    assert folds.notes == () and all(not split.val for split in folds.splits)
    assert [split.test for split in folds.splits] == [split.test for split in cls(val_fraction=0.0).split(cases, names(3)).splits]
    found = splitter.inner_splits(folds)
    assert list(found) == [split.name for split in folds.splits]
    for split in folds.splits:
        inner = found[split.name]
        assert [part.name for part in inner] == [f"{split.name}-inner_{k}" for k in (1, 2, 3)]
        assert sorted(i for part in inner for i in part.val) == sorted(split.train)
        for part in inner:
            assert not part.test and sorted(part.train + part.val) == sorted(split.train)
            assert not {groups[i] for i in part.train} & {groups[i] for i in part.val}
    assert splitter.inner_splits(folds) == found and cls(inner_folds=3, seed=1).inner_splits(folds) != found
    assert cls().inner_splits(folds) == {}


def test_inner_splits_are_stratified():
    splitter = StratifiedKFold(5, inner_folds=4)
    cases = singles(20, 10)
    labels = {case.id: case.label for case in cases}
    for inner in splitter.inner_splits(splitter.split(cases, names(2))).values():
        assert all(np.bincount([labels[i] for i in part.val]).tolist() == [4, 2] for part in inner)


def test_more_inner_folds_than_groups_are_refused():
    splitter = Holdout(0.5, inner_folds=4)
    folds = splitter.split(singles(3, 3), names(2))
    with pytest.raises(DataError, match="splits.inner_folds: 4 is more than the training part of fold_1 has: 3 cases"):
        splitter.inner_splits(folds)


@pytest.mark.parametrize("number", [1, -1])
def test_one_inner_fold_is_none(number):
    with pytest.raises(ConfigError, match="inner_folds"):
        StratifiedGroupKFold(inner_folds=number)


def test_the_only_group_of_a_class_stays_and_another_goes():
    """The group of class 1 is exactly a tenth; but then class 1 would not be learned."""
    taken = carve(np.array([[9, 0], [9, 0], [0, 2]]), 0.1, RNG(0))
    assert taken.sum() == 1 and not taken[2]


def test_holdout_is_stratified_and_grouped():
    cases = patients(RNG(1), 80, 3, mixed=True)
    folds = Holdout(0.25, val_fraction=0.2).split(cases, names(3))
    (split,) = folds.splits
    total = np.bincount([case.label for case in cases])
    assert split.name == "fold_1" and not folds.exhaustive
    np.testing.assert_allclose(folds.counts(split)["test"], 0.25 * total, atol=1)
    np.testing.assert_allclose(folds.counts(split)["val"], 0.2 * 0.75 * total, atol=1.5)


def test_choosing_on_the_test_part_carves_no_val_part():
    (split,) = Holdout(select_on_test=True).split(singles(20, 20), names(2)).splits
    assert not split.val and len(split.train) == 32


# ---------------------------------------------------------------- notes


def test_rare_classes_are_split_and_the_notes_say_what_is_missing():
    folds = StratifiedKFold(5).split(singles(30, 3), names(2))
    per_fold = [folds.counts(split)["test"][1] for split in folds.splits]
    assert sorted(per_fold) == [0, 0, 1, 1, 1]
    missing = ", ".join(split.name for split, n in zip(folds.splits, per_fold, strict=True) if not n)
    assert any(f"Missing from the test part: '类1' (3 cases) from {missing}" in note for note in folds.notes)
    assert len(folds.notes) <= 4 and not any("train part" in note for note in folds.notes)


def test_a_class_with_one_case_is_tested_but_never_learned_and_the_notes_say_so():
    folds = StratifiedKFold(3, min_groups_per_class=1).split(singles(9, 1), names(2))
    (tested,) = [split.name for split in folds.splits if folds.counts(split)["test"][1]]
    assert any(f"Missing from the train part: '类1' (1 case) from {tested}" in note and "never learned" in note for note in folds.notes)


def test_a_val_part_that_cannot_be_is_noted():
    folds = Holdout(0.5).split(singles(2, 2), names(2))
    assert folds.splits[0].val == () and "No val part in fold_1" in folds.notes[-1]
    assert Holdout(0.5, val_fraction=0).split(singles(2, 2), names(2)).notes == ()


def test_an_even_split_needs_no_notes():
    assert StratifiedKFold(5).split(singles(50, 50), names(2)).notes == ()


def test_no_class_is_left_in_one_fold_when_a_move_can_help():
    """Two groups of class 1, drawn into one fold by the large numbers of class 0."""
    counts = np.array([[10, 1], [10, 1], [20, 0]])
    assert spread_every_class(counts, np.array([0, 0, 1]), 2).tolist() in ([0, 1, 1], [1, 0, 1])
    two_each = np.array([[1], [1]])
    assert spread_every_class(two_each, np.array([0, 1]), 2).tolist() == [0, 1]


# ---------------------------------------------------------------- cases without classes


def test_cases_without_classes_are_split_too():
    cases = [Case(f"{i:02d}", None, f"g{i // 2}") for i in range(30)]
    folds = StratifiedGroupKFold(5).split(cases, [])
    assert [len(split.test) for split in folds.splits] == [6] * 5 and folds.notes == ()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("cls", [KFold, StratifiedKFold])
def test_splitters_that_ignore_groups_refuse_them(cls):
    cases = [*singles(10, 10), Case("c0/9999.png", 0, "c0/0003.png")]
    with pytest.raises(LeakError, match=r"'c0/0003.png' with 'c0/0003.png' and 'c0/9999.png'.*StratifiedGroupKFold"):
        cls().split(cases, names(2))


@pytest.mark.parametrize("cls", SPLITTER_CLASSES)
def test_a_class_with_too_few_groups_is_refused_with_the_remedy(cls):
    with pytest.raises(DataError, match=r"at least 2 cases, but '类1' has 1, '类2' has 0.*min_groups_per_class=1"):
        cls().split(singles(10, 1, 0), names(3))


@pytest.mark.parametrize("cls", [KFold, StratifiedKFold, StratifiedGroupKFold])
def test_more_folds_than_cases_are_refused(cls):
    with pytest.raises(DataError, match="5 folds need at least as many cases, but there are only 4 cases"):
        cls(5).split(singles(2, 2), names(2))


@pytest.mark.parametrize("cls", SPLITTER_CLASSES)
def test_no_cases_and_labels_out_of_range_are_refused(cls):
    with pytest.raises(DataError, match="no cases"):
        cls().split([], names(2))
    with pytest.raises(DataError, match="'x' has label 2"):
        cls().split([Case("x", 2, "x")], names(2))


def test_holdout_of_one_group_is_refused():
    with pytest.raises(DataError, match="at least 2 groups"):
        Holdout(min_groups_per_class=1).split([Case("a", 0, "g"), Case("b", 0, "g")], names(1))


def test_holdout_with_nothing_to_spare_is_refused():
    with pytest.raises(DataError, match="cannot form a test part"):
        Holdout(min_groups_per_class=1).split(singles(1, 1), names(2))


@pytest.mark.parametrize(
    "cls, arguments",
    [
        (StratifiedGroupKFold, {"num_folds": 1}),
        (StratifiedKFold, {"num_folds": 2.5}),
        (KFold, {"num_folds": True}),
        (KFold, {"val_fraction": 1.0}),
        (Holdout, {"val_fraction": -0.1}),
        (Holdout, {"val_fraction": "0.1"}),
        (Holdout, {"test_fraction": 0}),
        (Holdout, {"test_fraction": 1.0}),
        (Holdout, {"test_fraction": float("nan")}),
        (Holdout, {"min_groups_per_class": 0}),
        (Holdout, {"seed": -1}),
    ],
)
def test_wrong_arguments_name_the_key(cls, arguments):
    with pytest.raises(ConfigError, match=rf"^{cls.__name__}.{next(iter(arguments))}: "):
        cls(**arguments)


@pytest.mark.parametrize("name", list(SPLITTERS))
def test_every_splitter_takes_its_own_arguments_only(name):
    parameters = inspect.signature(SPLITTERS.get(name)).parameters
    assert "select_on_test" in parameters
    assert all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values())


# ---------------------------------------------------------------- from a file


@pytest.fixture
def written(tmp_path):
    cases = patients(RNG(5), 30, 3)
    folds = StratifiedGroupKFold(4).split(cases, names(3))
    folds.write(tmp_path / "folds.json")
    return cases, folds, str(tmp_path / "folds.json")


def test_from_file_gives_the_same_folds(written):
    cases, folds, path = written
    read = FromFile(path).split(cases[::-1], names(3))
    assert (read.splits, read.digest, read.exhaustive) == (folds.splits, folds.digest, True)
    assert read.spec == {"type": "FromFile", "path": path, "select_on_test": False}
    assert "StratifiedGroupKFold(num_folds=4" in read.notes[0]
    json.dumps(read.spec)


def test_from_file_names_every_difference(written):
    cases, folds, path = written
    first, second, third, *rest = sorted(cases, key=lambda case: case.id)
    changed = [Case(second.id, (second.label + 1) % 3, second.group), Case(third.id, third.label, "else"), Case("new", 0, "new"), *rest]
    with pytest.raises(DataError) as caught:
        FromFile(path).split(changed, names(3))
    message = str(caught.value)
    for phrase in (
        f"cases missing from the dataset (1): '{first.id}'",
        "cases new in the dataset (1): 'new'",
        f"changed labels (1): '{second.id}' (was '类{second.label}', is '类{(second.label + 1) % 3}')",
        f"changed groups (1): '{third.id}' (was '{third.group}', is 'else')",
    ):
        assert phrase in message


def test_from_file_compares_classes(written):
    cases, _, path = written
    with pytest.raises(DataError, match=r"classes missing from the dataset \(1\): '类2'; classes new in the dataset \(1\): 'x'"):
        FromFile(path).split(cases, ["类0", "类1", "x"])
    swapped = [Case(c.id, [1, 0, 2][c.label], c.group) for c in cases]
    with pytest.raises(DataError, match="order of classes differs"):
        FromFile(path).split(swapped, ["类1", "类0", "类2"])


def test_from_file_without_a_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        FromFile(str(tmp_path / "none.json")).split(singles(2), names(1))


# ---------------------------------------------------------------- speed and weight


def test_large_instances_are_fast():
    import time

    rng = RNG(0)
    mixed = np.zeros((300, 10), dtype=int)
    np.add.at(mixed, (rng.randint(300, size=1200), rng.randint(10, size=1200)), 1)
    mixed[mixed.sum(axis=1) == 0, 0] = 1
    start = time.process_time()
    assign(np.eye(10, dtype=int)[rng.randint(10, size=50_000)], [0.2] * 5, RNG(0))
    assert time.process_time() - start < 1.0
    start = time.process_time()
    assign(mixed, [0.2] * 5, RNG(0))
    assert time.process_time() - start < 2.0


def test_splitters_import_no_torch():
    code = "import sys, clipzoo.datasets.splitters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_written_folds_are_the_folds(tmp_path):
    folds = Holdout().split(singles(12, 9), names(2))
    folds.write(tmp_path / "folds.json")
    assert Folds.read(tmp_path / "folds.json") == folds
