"""Folds: every leak is refused, the file is the folds, and the digest is about content."""

import json
from dataclasses import replace

import pytest

from clipzoo.errors import DataError, LeakError
from clipzoo.records.folds import Case, Folds, Split
from clipzoo.records.json_records import write_record

IDS = ("a1", "a2", "b1", "b2", "c1", "c2")
CASES = tuple(Case(i, "ab".find(i[0]) % 2, f"patient {i[0]}") for i in IDS)


def folds(*splits: Split, cases: tuple[Case, ...] = CASES, exhaustive: bool = True) -> Folds:
    return Folds(cases, ("正常", "异常"), splits or GOOD, {"type": "StratifiedGroupKFold", "num_folds": 3}, exhaustive, ("a note",))


GOOD = (
    Split("fold_1", ("b1", "b2"), ("c1", "c2"), ("a1", "a2")),
    Split("fold_2", ("a1", "a2", "c1", "c2"), (), ("b1", "b2")),
    Split("fold_3", ("a1", "a2"), ("b1", "b2"), ("c1", "c2")),
)


def test_good_folds_pass():
    assert folds().verify() is None


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"train": ("a1", "b1", "b2")}, LeakError, "fold_1: case 'a1' is in train and in test"),
        ({"train": ("b1", "b2", "c1")}, LeakError, "fold_1: case 'c1' is in train and in val"),
        ({"val": ("c1", "c2", "a1")}, LeakError, "fold_1: case 'a1' is in val and in test"),
        ({"train": ("b1", "b1", "b2")}, LeakError, "fold_1: case 'b1' is in train and in train"),
        ({"val": ("c1",), "train": ("b1", "b2", "c2")}, LeakError, "fold_1: group 'patient c' is in train and val.*StratifiedGroupKFold"),
        ({"test": ("a1",), "train": ("a2", "b1", "b2")}, LeakError, "fold_1: group 'patient a' is in test and train"),
        ({"test": ("a1",), "val": ("a2", "c1", "c2")}, LeakError, "fold_1: group 'patient a' is in test and val"),
        ({"test": ("a1", "a2", "b1", "b2"), "train": ("c1", "c2"), "val": ()}, LeakError, "2 cases are tested more than once.*'b1'"),
        ({"test": ("a1",), "train": ("b1", "b2")}, LeakError, "1 cases are never tested, the first is 'a2'"),
        ({"test": ()}, DataError, "fold_1: the test part is empty"),
        ({"train": ()}, DataError, "fold_1: the train part is empty"),
        ({"train": ("b1", "zz")}, DataError, "fold_1: the train part contains 'zz', which is not a case"),
    ],
)
def test_every_leak_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        folds(replace(GOOD[0], **change), *GOOD[1:]).verify()


def test_one_id_for_two_cases_is_refused():
    with pytest.raises(DataError, match="case ids are not unique: a1"):
        folds(cases=(*CASES, Case("a1", 0, "patient a"))).verify()


def test_a_holdout_need_not_test_everything_but_nothing_twice():
    folds(GOOD[0], exhaustive=False).verify()
    with pytest.raises(LeakError, match="more than once"):
        folds(GOOD[0], replace(GOOD[0], name="fold_2"), exhaustive=False).verify()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/abs", "../up", "a/b", "a\\b", "-rf", "a b", "fold 1\n", "a\0", "\x1b[2J", "x" * 65, "fold_1.tmp", None, 3]
)
def test_a_fold_whose_name_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="is not a valid fold name.*letters, digits"):
        replace(GOOD[0], name=name)
    folds().write(tmp_path / "folds.json")
    content = json.loads((tmp_path / "folds.json").read_text(encoding="utf-8"))
    content["folds"][0]["name"] = name
    content.pop("sha256")
    write_record(tmp_path / "folds.json", content)
    with pytest.raises(DataError, match="is not a valid fold name|a fold must have a name"):
        Folds.read(tmp_path / "folds.json")


@pytest.mark.parametrize("names", [("fold_1", "fold_1"), ("fold_1", "FOLD_1"), ("\u00e9", "\u00c9")])
def test_folds_that_would_share_a_folder_are_refused(names):
    with pytest.raises(DataError, match=f"two folds are called '{names[0]}' and '{names[1]}'"):
        folds(replace(GOOD[0], name=names[0]), replace(GOOD[1], name=names[1]), GOOD[2]).verify()


def test_a_fold_may_have_a_chinese_name():
    folds(replace(GOOD[0], name="第1折-a"), *GOOD[1:]).verify()


def test_counts():
    assert folds().counts(GOOD[0]) == {"train": [0, 2], "val": [0, 2], "test": [2, 0]}


def test_written_and_read_again(tmp_path):
    path = tmp_path / "folds.json"
    folds().write(path)
    read = Folds.read(path)
    assert read == folds() and read.notes == ("a note",) and read.digest == folds().digest
    assert "正常" in path.read_text(encoding="utf-8")


def test_a_file_equals_the_folds_that_it_was_written_from_and_no_others(tmp_path):
    several = replace(folds(), cases=(Case("a1", None, "p", None, (1, -1)), *CASES[1:]))
    for one in (folds(), several, replace(folds(), cases=(replace(CASES[0], part="train"), *CASES[1:]))):
        one.write(tmp_path / "folds.json")
        assert one.equals(tmp_path / "folds.json") and not replace(one, notes=()).equals(tmp_path / "folds.json")
        assert not replace(one, splits=GOOD[::-1]).equals(tmp_path / "folds.json")
    content = json.loads((tmp_path / "folds.json").read_text(encoding="utf-8"))
    (tmp_path / "folds.json").write_text(json.dumps({**content, "notes": []}), encoding="utf-8")
    with pytest.raises(DataError, match="damaged or edited.*make_folds"):
        folds().equals(tmp_path / "folds.json")


def test_an_entry_has_what_is_known_of_the_case():
    for case in (CASES[0], replace(CASES[0], part="val"), replace(CASES[0], label=None, findings=(1, 0, -1))):
        assert Case.from_plain(case.plain(), "x", "y") == case
        assert list(case.plain()) == [key for key, value in vars(case).items() if key in ("id", "label", "group") or value is not None]


def test_digest_changes_with_content_and_with_nothing_else():
    digest = folds().digest
    assert replace(folds(), notes=(), spec={"type": "FromFile"}).digest == digest
    relabelled = (Case("a1", 1, "patient a"), *CASES[1:])
    regrouped = (Case("a1", 0, "patient x"), *CASES[1:])
    for other in (
        replace(folds(), cases=relabelled),
        replace(folds(), cases=regrouped),
        replace(folds(), classes=("异常", "正常")),
        folds(GOOD[0], GOOD[2], GOOD[1]),
        folds(replace(GOOD[0], train=("b1",)), *GOOD[1:]),
    ):
        assert other.digest != digest


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["folds"][0]["train"].append("a1"),
        lambda c: c["folds"].pop(),
        lambda c: c["cases"][0].update(group="patient b"),
        lambda c: c["cases"][0].update(label=1),
        lambda c: c.pop("digest"),
        lambda c: c.update(digest="0" * 64),
    ],
)
def test_an_edited_file_is_refused(tmp_path, edit):
    path = tmp_path / "folds.json"
    folds().write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="folds.json: damaged or edited"):
        Folds.read(path)
    content.pop("sha256")
    write_record(path, content)  # by somebody who knows how
    with pytest.raises(DataError, match="folds.json: (the digest does not match|damaged, or from another version: digest is missing)"):
        Folds.read(path)


@pytest.mark.parametrize(
    "text, message", [("{}", "has no digest"), ("[]", "must be a JSON object"), ("null", "must be a JSON object"), ("{", "not valid JSON")]
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "folds.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Folds.read(path)


def test_a_leak_with_a_true_digest_is_refused_on_reading(tmp_path):
    leaky = folds(replace(GOOD[0], train=("a1", "b1", "b2")), *GOOD[1:])
    leaky.write(tmp_path / "folds.json")
    with pytest.raises(LeakError, match="'a1' is in train and in test"):
        Folds.read(tmp_path / "folds.json")
