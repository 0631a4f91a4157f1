"""Folds of several labels per case: no patient is split, every case is tested once, and every finding is spread evenly."""

import numpy as np
import pytest

from clipzoo.datasets.splitters import FromFile, Holdout, KFold, StratifiedGroupKFold, StratifiedKFold
from clipzoo.errors import DataError, LeakError
from clipzoo.records.folds import Case, Folds

CLASSES = ("a", "b", "c", "d", "e")
SHARES = (0.45, 0.3, 0.15, 0.08, 0.05)


def cases_of(seed: int, num_groups: int = 90, unknown: float = 0.05, single: bool = False) -> list[Case]:
    """Patients with 1 to 4 images; findings recur within a patient, and the second one mostly occurs with the first."""
    rng = np.random.default_rng(seed)
    cases = []
    for group in range(num_groups):
        own = rng.random(len(CLASSES)) < SHARES
        own[1] = own[1] and (own[0] or rng.random() < 0.3)
        for image in range(1 if single else int(rng.integers(1, 5))):
            seen = own & (rng.random(len(CLASSES)) < 0.8)
            values = np.where(rng.random(len(CLASSES)) < unknown, -1, seen)
            cases.append(Case(f"{group:03d}_{image}", None, f"p{group:03d}", findings=tuple(map(int, values))))
    return cases


def deviation(cases, parts) -> float:
    """Mean over parts and findings of how far the share of a finding in a part is from that in all cases: LD of Sechidis et al., as
    absolute instead of relative deviation of odds, plus the deviation of the part's size."""
    truth = {case.id: np.array(case.findings) == 1 for case in cases}
    overall = np.mean(list(truth.values()), axis=0)
    within = [np.abs(np.mean([truth[i] for i in part], axis=0) - overall).mean() for part in parts]
    return float(np.mean(within))


def sizes_off(cases, parts) -> float:
    return max(abs(len(part) - len(cases) / len(parts)) for part in parts)


def iterative_stratification(cases, num_folds: int, seed: int) -> list[list[str]]:
    """Sechidis, Tsoumakas and Vlahavas 2011, Algorithm 1, with groups as examples: the rarest remaining finding first, each of its
    groups to the fold that lacks that finding most, then to the one that lacks cases most, then at random."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    counts = {name: np.sum([np.array(case.findings) == 1 for case in own], axis=0) for name, own in groups.items()}
    wanted = np.tile(np.sum(list(counts.values()), axis=0) / num_folds, (num_folds, 1)).astype(float)
    room = np.full(num_folds, len(cases) / num_folds)
    left, folds = set(groups), [[] for _ in range(num_folds)]
    while left:
        remaining = np.sum([counts[name] for name in left], axis=0)
        label = int(np.where(remaining > 0, remaining, np.inf).argmin()) if remaining.any() else None
        members = sorted(name for name in left if label is None or counts[name][label])
        for name in members:
            keys = [(-(wanted[k][label] if label is not None else 0), -room[k], rng.random()) for k in range(num_folds)]
            k = min(range(num_folds), key=keys.__getitem__)
            folds[k] += [case.id for case in groups[name]]
            wanted[k] -= counts[name]
            room[k] -= len(groups[name])
            left.discard(name)
    return folds


def random_folds(cases, num_folds: int, seed: int) -> list[list[str]]:
    names = sorted({case.group for case in cases})
    fold_of = dict(zip(np.random.default_rng(seed).permutation(names), np.arange(len(names)) % num_folds, strict=True))
    return [[case.id for case in cases if fold_of[case.group] == k] for k in range(num_folds)]


@pytest.mark.parametrize("seed", range(3))
def test_findings_are_spread_at_least_as_evenly_as_by_iterative_stratification(seed):
    cases = cases_of(seed)
    folds = StratifiedGroupKFold(num_folds=5, seed=seed, min_groups_per_class=1).split(cases, CLASSES)
    parts = [split.test for split in folds.splits]
    greedy, drawn = iterative_stratification(cases, 5, seed), random_folds(cases, 5, seed)
    assert sorted(i for part in greedy for i in part) == sorted(case.id for case in cases)
    assert deviation(cases, parts) <= deviation(cases, greedy) and deviation(cases, parts) < 0.35 * deviation(cases, drawn)
    assert sizes_off(cases, parts) <= max(sizes_off(cases, greedy), 2)


def test_no_patient_is_split_and_every_case_is_tested_once(tmp_path):
    cases = cases_of(1)
    folds = StratifiedGroupKFold(num_folds=5, val_fraction=0.2).split(cases, CLASSES)
    group_of = {case.id: case.group for case in cases}
    assert sorted(i for split in folds.splits for i in split.test) == sorted(group_of)
    for split in folds.splits:
        parts = [{group_of[i] for i in part} for part in (split.train, split.val, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]) and all(parts)
        assert len(split.val) == pytest.approx(0.2 * (len(cases) - len(split.test)), abs=6)
    folds.write(tmp_path / "folds.json")
    assert Folds.read(tmp_path / "folds.json") == folds and isinstance(folds.cases[0].findings, tuple)
    counts = folds.counts(folds.splits[0])
    assert sum(counts[part][0] for part in counts) == sum(case.findings[0] == 1 for case in cases)
    again = FromFile(path=str(tmp_path / "folds.json")).split(cases, CLASSES)
    assert again.splits == folds.splits
    flipped = [Case(c.id, None, c.group, findings=tuple(1 - abs(v) for v in c.findings)) if c is cases[3] else c for c in cases]
    with pytest.raises(DataError, match=f"changed findings \\(1\\): '{cases[3].id}'"):
        FromFile(path=str(tmp_path / "folds.json")).split(flipped, CLASSES)


def test_a_finding_that_is_missing_from_a_part_is_noted():
    cases = [Case(f"{i:02d}", None, f"{i:02d}", findings=(int(i % 2), int(i in (3, 8)))) for i in range(20)]
    folds = StratifiedGroupKFold(num_folds=4, val_fraction=0.2).split(cases, ("a", "b"))
    assert any(note.startswith("Missing from the test part: 'b' (2 cases) from fold_") for note in folds.notes)
    alone = [Case(case.id, None, case.group, findings=(case.findings[0], int(case.id == "03"))) for case in cases]
    with pytest.raises(DataError, match="at least 2 cases, but 'b' has 1.*remove the finding from the dataset, or set"):
        StratifiedGroupKFold(num_folds=4).split(alone, ("a", "b"))


def test_other_splitters_take_findings_too():
    cases, singles = cases_of(2), cases_of(2, single=True)
    assert len(Holdout(test_fraction=0.25, min_groups_per_class=1).split(cases, CLASSES).splits) == 1
    even = StratifiedKFold(num_folds=4, min_groups_per_class=1).split(singles, CLASSES)
    plain = KFold(num_folds=4, min_groups_per_class=1).split(singles, CLASSES)
    assert deviation(singles, [s.test for s in even.splits]) < deviation(singles, [s.test for s in plain.splits])
    with pytest.raises(LeakError, match="StratifiedKFold would split groups"):
        StratifiedKFold(num_folds=4).split(cases, CLASSES)


@pytest.mark.parametrize("wrong", [(1, 0), (1, 0, 2, 0, 0)])
def test_findings_that_do_not_fit_the_classes_are_refused(wrong):
    with pytest.raises(DataError, match=r"case 'x' must have 1, 0 or -1 \(unknown\) for each of 5 findings"):
        StratifiedGroupKFold().split([*cases_of(0), Case("x", None, "x", findings=wrong)], CLASSES)
