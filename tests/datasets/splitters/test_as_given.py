"""Parts as the data's own files give them, and what other splitters say about them."""

import json

import numpy as np
import pytest
from PIL import Image

from clipzoo.datasets import PairsDataset
from clipzoo.datasets.splitters import AsGiven, FromFile, Holdout, KFold, StratifiedGroupKFold, StratifiedKFold
from clipzoo.errors import ConfigError, DataError, LeakError
from clipzoo.records.folds import Case, Folds
from clipzoo.registries import SPLITTERS


def given(train=20, val=0, test=0, size=1, label=None):
    """Cases in groups of ``size``, numbered on from part to part."""
    cases = []
    for part, number in (("train", train), ("val", val), ("test", test)):
        cases += [Case(f"{part}/{i:03d}", label, f"{part} {i // size}", part) for i in range(number)]
    return cases


def parts_of(folds):
    (split,) = folds.splits
    return [len(part) for part in (split.train, split.val, split.test)]


def test_three_parts_are_as_given():
    folds = AsGiven().split(given(20, 6, 4, size=2)[::-1], ())
    (split,) = folds.splits
    assert parts_of(folds) == [20, 6, 4] and folds.notes == () and not folds.exhaustive and split.name == "fold_1"
    for part in ("train", "val", "test"):
        assert all(case_id.startswith(part) for case_id in getattr(split, part))


def test_train_and_test_without_a_val_part():
    folds = AsGiven().split(given(20, 0, 4), ())
    assert parts_of(folds) == [20, 0, 4] and folds.notes == ()


def test_a_val_part_is_carved_out_of_train_by_group():
    cases = given(40, 0, 8, size=4)
    folds = AsGiven(val_fraction=0.2).split(cases, ())
    (split,) = folds.splits
    assert parts_of(folds) == [32, 8, 8]
    group_of = {case.id: case.group for case in cases}
    assert not {group_of[i] for i in split.train} & {group_of[i] for i in split.val}
    assert {AsGiven(val_fraction=0.2, seed=s).split(cases, ()).splits[0].val for s in range(5)} != {split.val}
    assert AsGiven(val_fraction=0.2).split(cases[::-1], ()) == folds


def test_a_carved_val_part_has_the_classes_in_proportion():
    cases = [Case(f"{i:03d}", int(i % 4 == 0), f"{i:03d}", "train" if i < 80 else "test") for i in range(100)]
    folds = AsGiven(val_fraction=0.25).split(cases, ("a", "b"))
    assert folds.counts(folds.splits[0]) == {"train": [45, 15], "val": [15, 5], "test": [15, 5]}


def test_the_only_held_out_part_is_tested():
    """Nothing may choose on what is scored, unless it is said, and then the notes call it optimistic."""
    folds = AsGiven().split(given(20, 5), ())
    assert parts_of(folds) == [20, 0, 5]
    assert folds.notes == ("The data give no test part; their val part is tested instead, once, after training; the last epoch is scored.",)
    assert parts_of(AsGiven(val_fraction=0.25).split(given(20, 5), ())) == [15, 5, 5]
    folds = AsGiven(select_on_test=True, val_fraction=0.25).split(given(20, 5), ())
    assert parts_of(folds) == [20, 0, 5] and "chooses the epoch, which is optimistic" in folds.notes[0]


def test_a_val_part_that_cannot_be_carved_is_noted():
    folds = AsGiven(val_fraction=0.2).split(given(20, 0, 5, size=20), ())
    assert parts_of(folds) == [20, 0, 5] and "No val part in fold_1" in folds.notes[0]


def test_missing_classes_are_noted():
    cases = [*given(8, 0, 4, label=0), Case("x", 1, "x", "train"), Case("y", 1, "y", "train")]
    assert "Missing from the test part: '乙'" in AsGiven().split(cases, ("甲", "乙")).notes[0]


@pytest.mark.parametrize(
    "cases, words",
    [
        (
            [Case("a", None, "a"), Case("b", None, "b")],
            "these data assign none. Give their files, such as data.dataset.val_path .*'Holdout'",
        ),
        ([*given(3, 2), Case("x", None, "x")], "1 have none: 'x'"),
        (given(3), "requires a train part, and a val or a test part. The data have: train 3"),
        (given(0, 3, 2), "The data have: val 3, test 2"),
        ([*given(3, 2), Case("x", None, "x", "dev")], "case 'x' is of part 'dev'. Parts are train, val, test"),
        ([], "no cases"),
    ],
)
def test_data_that_give_no_parts_to_follow(cases, words):
    with pytest.raises(DataError, match=words):
        AsGiven().split(cases, ())


def test_a_group_on_two_sides_is_a_leak():
    torn = [("val/x", "train 1"), ("test/x", "train 1"), ("test/y", "val 0")]
    cases = [*given(4, 2, 2), *(Case(case_id, None, group, case_id.split("/")[0]) for case_id, group in torn)]
    with pytest.raises(LeakError, match=r"group 'train 1' is in train \('train/001'\) and in val \('val/x'\) and in test .* \(1 more"):
        AsGiven().split(cases, ())


def test_three_parts_leave_nothing_to_choose():
    assert parts_of(AsGiven(val_fraction=0.2).split(given(20, 6, 4), ())) == [20, 6, 4]
    with pytest.raises(ConfigError, match="splits.select_on_test: the data have a val part, which chooses the epoch"):
        AsGiven(select_on_test=True).split(given(8, 2, 2), ())


@pytest.mark.parametrize("arguments", [{"val_fraction": 1.0}, {"val_fraction": "0.1"}, {"seed": -1}, {"seed": 1.5}])
def test_wrong_arguments_name_the_key(arguments):
    with pytest.raises(ConfigError, match=f"AsGiven.{next(iter(arguments))}: "):
        AsGiven(**arguments)


def test_spec_and_file(tmp_path):
    cases = given(20, 4)
    folds = SPLITTERS.build({"type": "AsGiven", "val_fraction": 0.1}).split(cases, ())
    assert folds.spec == {"type": "AsGiven", "seed": 42, "val_fraction": 0.1, "select_on_test": False}
    assert SPLITTERS.build(folds.spec).split(cases, ()) == folds
    folds.write(tmp_path / "folds.json")
    assert Folds.read(tmp_path / "folds.json") == folds
    assert json.loads((tmp_path / "folds.json").read_text(encoding="utf-8"))["cases"][0]["part"] == "train"


def test_other_splitters_say_that_they_do_not_use_the_parts():
    cases = given(20, 5, 5)
    for splitter in (Holdout(), KFold(), StratifiedKFold(), StratifiedGroupKFold()):
        (note,) = splitter.split(cases, ()).notes
        assert "(train 20, val 5, test 5) are not used; splits.type='AsGiven' follows them" in note


def test_changed_parts_are_noticed(tmp_path):
    cases = given(20, 5)
    AsGiven().split(cases, ()).write(tmp_path / "folds.json")
    changed = [Case(c.id, c.label, c.group, "val" if c.id == "train/003" else c.part) for c in cases]
    with pytest.raises(DataError, match=r"changed parts \(1\): 'train/003' \(was train, is val\)"):
        FromFile(str(tmp_path / "folds.json")).split(changed, ())
    with pytest.raises(DataError, match=r"changed parts \(25\): .*\(was train, is none\)"):
        FromFile(str(tmp_path / "folds.json")).split([Case(c.id, None, c.group) for c in cases], ())


def test_files_of_pairs_become_parts(tmp_path):
    """From the files to the split; a copy of a training image under another name is found."""
    for i in range(8):
        Image.fromarray(np.full((2, 2), 30 * i, np.uint8)).save(tmp_path / f"{i}.png")
    for part, numbers in (("train", range(5)), ("val", range(5, 8))):
        (tmp_path / f"{part}.csv").write_text("\n".join(["filepath\ttitle", *(f"{i}.png\tpicture {i}" for i in numbers)]), encoding="utf-8")
    paths = str(tmp_path / "train.csv"), str(tmp_path / "val.csv")
    dataset = PairsDataset(*paths)
    (split,) = AsGiven().split(dataset.cases, dataset.classes).splits
    assert split.train == tuple(f"{i}.png" for i in range(5)) and split.test == ("5.png", "6.png", "7.png")
    (tmp_path / "7.png").write_bytes((tmp_path / "0.png").read_bytes())
    dataset = PairsDataset(*paths)
    with pytest.raises(LeakError, match=r"in train \('0.png'\) and in val \('7.png'\)\. A group is one patient, or byte-identical images"):
        AsGiven().split(dataset.cases, dataset.classes)


@pytest.mark.parametrize("cls", [Holdout, KFold, StratifiedKFold, StratifiedGroupKFold])
def test_cases_without_classes_are_split_evenly(cls):
    cases = [Case(f"{i:03d}", None, f"{i:03d}") for i in range(100)]
    folds = cls(val_fraction=0.25).split(cases, ())
    assert folds.notes == () and folds.counts(folds.splits[0]) == {"train": [], "val": [], "test": []}
    for split in folds.splits:
        assert [len(part) for part in (split.train, split.val, split.test)] == [60, 20, 20]
    if cls is not Holdout:
        assert sorted(i for split in folds.splits for i in split.test) == [case.id for case in cases]
