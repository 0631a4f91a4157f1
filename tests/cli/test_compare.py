"""``compare``: the tables and files, names of runs, baselines as runs, and bad input."""

import json
from pathlib import Path

import pytest
from run_files import table_of, write_run

from clipzoo.scoring.baselines import Record, folder_of
from clipzoo.scoring.work_dirs import names_of


@pytest.fixture
def work_dirs(command, tmp_path):
    """Two trained models, the first with a baseline, in the current folder."""
    tmp_path = tmp_path / "here"
    for name, right, seed in (("甲", 0.9, 0), ("乙_2", 0.7, 1)):
        write_run(tmp_path / "work_dirs" / name, table_of(right=right, seed=seed))
    digest = write_run(folder_of(tmp_path / "work_dirs/甲", "linear"), table_of(right=0.8, seed=2)).folds_digest
    Record(digest, "balanced_accuracy", True, "RN50", "x", {"linear": {}}).write(tmp_path / "work_dirs/甲")
    return tmp_path


def test_the_table_and_the_files(work_dirs, command):
    ended = command("compare", "work_dirs/甲", "work_dirs/乙_2")
    assert ended.status == 0 and "甲 is better than 乙_2 by 0." in ended.out and "results: work_dirs/comparison" in ended.out
    found = json.loads(Path("work_dirs/comparison/comparison.json").read_text(encoding="utf-8"))
    assert [run["name"] for run in found["runs"]] == ["甲", "乙_2"] and found["metric"] == "balanced_accuracy"
    markdown = Path("work_dirs/comparison/comparison.md").read_text(encoding="utf-8")
    assert markdown.startswith("| run | accuracy |") and "| 甲 − 乙_2 | log_loss |" in markdown
    latex = Path("work_dirs/comparison/comparison.tex").read_text(encoding="utf-8")
    assert r"\begin{tabular}{lrrrrr}" in latex and r"乙\_2" in latex and r"balanced\_accuracy" in latex and "95 \\%" in latex


def test_baselines_are_runs_too(work_dirs, command):
    ended = command("compare", "work_dirs/甲", "work_dirs/甲/baselines/linear", "--metric", "log_loss", "--level", "0.9", "--out", "there")
    assert ended.status == 0 and "甲 − 甲/linear" in ended.out and "90 % interval" in ended.out and Path("there/comparison.json").exists()
    with_baselines = command("compare", "work_dirs/甲", "work_dirs/乙_2", "--baselines")
    assert with_baselines.status == 0 and "(Holm, 3 comparisons)" in with_baselines.out


def test_a_run_compared_with_itself(work_dirs, command):
    ended = command("compare", "work_dirs/甲", "work_dirs/甲")
    assert ended.status == 0 and "甲 and 甲 (2) made the same predictions" in ended.out


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["work_dirs/甲"], "compare: there is only one run. Pass two or more, or --baselines"),
        (["work_dirs/甲", "nowhere"], "nowhere: no such folder. Pass a finished work dir"),
        (["work_dirs/甲", "work_dirs"], "work_dirs: its folds are not all finished. Pass a finished work dir"),
        (["work_dirs/甲", "work_dirs/乙_2", "--metric", "acc"], "--metric: 甲 has no 'acc'. Did you mean 'auroc'? Available: accuracy"),
        (["work_dirs/甲", "work_dirs/乙_2", "--level", "95"], "--level: 95 is not a confidence level"),
        (["work_dirs/乙_2", "--baselines"], "work_dirs/乙_2: has no baselines. Compute them with: clipzoo baselines CONFIG"),
        (["work_dirs/甲", "fewer"], "comparison: 甲 has 120 cases, fewer has 100. Both must score the same cases"),
    ],
)
def test_bad_input_is_one_clear_line(work_dirs, command, arguments, says):
    write_run(Path("fewer"), table_of(num_groups=50))
    ended = command("compare", *arguments)
    assert ended.status == 2 and says.partition(" Did you")[0] in ended.err and len(ended.err.splitlines()) == 1, ended.err
    assert not Path("work_dirs/comparison").exists()


def test_an_edited_table_is_refused(work_dirs, command):
    path = Path("work_dirs/乙_2/oof_predictions.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("fold_1", "fold_2", 1), encoding="utf-8")
    ended = command("compare", "work_dirs/甲", "work_dirs/乙_2")
    assert ended.status == 2 and "oof_predictions.csv: damaged or edited" in ended.err


def test_names_are_short_and_distinct():
    folders = ["a/run", "b/run", "b/run/baselines/knn", "a/run/baselines/knn", "c/other"]
    assert names_of([Path(folder) for folder in folders]) == ["a/run", "b/run", "b/run/knn", "a/run/knn", "other"]
