"""The search sees val parts only, goes on where it was stopped, and its choice is trained and tested like any other config."""

from __future__ import annotations

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.engine import loop, runner
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import BuildError, CheckpointError, ConfigError, DataError, TrainingError
from clipzoo.grid import tuning
from clipzoo.grid.space import parse_space
from clipzoo.records.results import Summary
from clipzoo.records.tuning import Tuned, ValResult

SPACE = ["optimizer.lr=1e-4..1e-2:log", "data.batch_size=4,6"]
MODEL = {"type": "ImageClassifier", "image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}}


def tiny(root: Path, **sections) -> dict:
    """Two folds of one epoch, with two val cases of each class."""
    content = tiny_config(root, splits={"num_folds": 2, "val_fraction": 0.34}, train={"epochs": 1}, **sections)
    return {**content, "model": MODEL}


def tuner_of(root: Path, folder: Path, space=SPACE, config: dict | None = None, **settings) -> tuning.Tuner:
    path = folder.parent / "tiny.py"
    path.write_text(Config.from_dict(config or tiny(root)).dump(), encoding="utf-8")
    settings = {"say": lambda line: None, "console": Console(quiet=True), **settings}
    return tuning.Tuner(str(path), [], parse_space(space, str(path)), folder, **settings)


@contextmanager
def parts_scored():
    """The parts that are scored inside."""
    parts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, runner):
            patch.setattr(module, "evaluate", lambda run, part, original=module.evaluate: (parts.append(part), original(run, part))[1])
        yield parts


@pytest.fixture(scope="module")
def search(tmp_path_factory, class_folders) -> SimpleNamespace:
    """A search of two trials that was never stopped, and the parts scored in it; read only."""
    folder = tmp_path_factory.mktemp("search") / "w"
    tuner = tuner_of(class_folders, folder)
    with parts_scored() as during_trials:
        trials = tuner.run(2)
    return SimpleNamespace(tuner=tuner, folder=folder, trials=trials, parts=during_trials)


@pytest.fixture(scope="module")
def best(search) -> Summary:
    """The summary of the chosen trial."""
    return search.tuner.best(search.trials).train()


def table(folder: Path) -> list[list[str]]:
    return list(csv.reader((folder / tuning.TABLE).read_text(encoding="utf-8").splitlines()))


def test_a_trial_never_scores_a_test_part(search):
    assert set(search.parts) == {"val"} and len(search.parts) == 4
    names = {path.name for path in (search.folder / "trials").rglob("*")}
    assert "val_result.json" in names and not names & {"result.json", "predictions.csv", "oof_predictions.csv", "cv_summary.json"}
    for log in search.folder.glob("trials/*/train.log"):
        assert ": test " not in log.read_text(encoding="utf-8")


def test_the_value_of_a_trial_is_the_mean_over_the_val_parts(search):
    for trial in search.trials:
        folds = sorted((search.folder / "trials" / f"{trial.number + 1:03d}").glob("fold_*"))
        values = [json.loads((fold / "history.json").read_text())[0]["val_balanced_accuracy"] for fold in folds]
        assert len(values) == 2 and trial.value == pytest.approx(statistics.fmean(values))
        assert [ValResult.read(fold).value for fold in folds] == values


def test_checkpoints_of_trials_are_deleted(search):
    assert not list(search.folder.glob("trials/**/*.pth"))


def test_the_choice_is_trained_and_tested_by_the_ordinary_path(search, best, class_folders, tmp_path):
    chosen = search.tuner.study.best_trial
    config = search.tuner.config_of(chosen.params)
    ordinary = CrossValidation(config, tmp_path / "ordinary", console=Console(quiet=True)).train()
    assert ordinary.pooled == best.pooled
    assert [{**fold, "seconds": 0} for fold in ordinary.folds] == [{**fold, "seconds": 0} for fold in best.folds]
    assert best.notes[: len(ordinary.notes)] == ordinary.notes and len(best.notes) == len(ordinary.notes) + 2
    trial = search.folder / "trials" / f"{chosen.number + 1:03d}"
    for fold in ("fold_1", "fold_2"):
        assert (search.folder / "best" / fold / "history.json").read_bytes() == (trial / fold / "history.json").read_bytes()
    assert not (tmp_path / "ordinary" / "tuned.json").exists()


def test_the_summary_says_how_many_trials_there_were(search, best):
    note = next(note for note in best.notes if note.startswith("hyper-parameters"))
    assert note.startswith("hyper-parameters chosen among 2 trials by balanced_accuracy, on val parts only: optimizer.lr=")
    shared = {case for split in search.tuner.folds.splits for case in split.val}
    assert f"the search saw {len(shared)} cases in val parts that are test cases of another fold" in best.notes[-1]
    again = CrossValidation(Config.load(search.folder / "best" / "config.py"), search.folder / "best", console=Console(quiet=True))
    assert again.train().notes == best.notes, "also without the search"


def test_the_note_counts_pruned_and_failed_trials():
    tuned = Tuned(3, 20, 6, 1, "auroc", 0.9, {"optimizer.lr": 0.001})
    assert tuned.notes == ["hyper-parameters chosen among 20 trials (6 pruned, 1 failed) by auroc, on val parts only: optimizer.lr=0.001"]


def test_the_same_command_again_changes_nothing(search, best, class_folders):
    before = table(search.folder)
    again = tuner_of(class_folders, search.folder)
    with parts_scored() as parts:
        trials = again.run(2)
        assert again.best(trials).train().pooled == best.pooled
    assert not parts and table(search.folder) == before
    with pytest.raises(ConfigError, match="--trials: .*best was already chosen among 2 trials and tested"):
        again.run(3)


@pytest.mark.slow
@pytest.mark.parametrize("fold", [1, 4])
def test_a_search_that_is_stopped_ends_like_one_that_is_not(search, class_folders, tmp_path, monkeypatch, fold):
    """In the first step of the first fold, and of the last fold of the second trial."""
    made = []

    def step_then_signal(run, group, original=loop.step):
        original(run, group)
        made.append(run.folder)
        if len({*made}) == fold and made.count(run.folder) == 1:
            run.interrupt.signal = 15

    monkeypatch.setattr(loop, "step", step_then_signal)
    folder = tmp_path / "w"
    with pytest.raises(loop.Interrupted):
        tuner_of(class_folders, folder).run(2)
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("val_result.json")}
    stopped = len(made)
    tuner_of(class_folders, folder).run(2)
    assert table(folder) == table(search.folder)
    assert all(path.stat().st_mtime_ns == written for path, written in done.items()) and stopped < len(made)
    total = sum(len(json.loads(path.read_text())) for path in folder.rglob("history.json"))
    assert total == 4, "one epoch for each fold of each trial"


@pytest.mark.slow
def test_a_search_that_is_killed_ends_like_one_that_is_not(search, class_folders, tmp_path, repo):
    tuner_of(class_folders, tmp_path / "w")  # writes tiny.py
    command = [sys.executable, "-m", "clipzoo.cli", "tune", tmp_path / "tiny.py", "--space", *SPACE, "--trials", "2", "--only-trials"]
    command += ["--work-dir", tmp_path / "w"]
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (tmp_path / "w" / "trials" / "001" / "fold_1" / "val_result.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and "best of 2, and therefore optimistic" in done.stdout
    assert table(tmp_path / "w") == table(search.folder)


# --- with val scores that are given instead of trained ---------------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch):
    """``given(scores, digest)``: trials get these val scores, one list for each trial, or raise the error in it."""

    def install(scores: list[list], digest: str | None = None) -> None:
        class Given:
            def __init__(self, config, folder, *, console):
                self.values = scores[int(folder.name) - 1]
                folds = CrossValidation(config, folder, console=console).folds
                self.folds = SimpleNamespace(splits=self.values, digest=digest or folds.digest)

            def validate(self):
                for value in self.values:
                    if isinstance(value, Exception):
                        raise value
                    yield SimpleNamespace(value=value)

        monkeypatch.setattr(tuning, "CrossValidation", Given)

    return install


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("prunes", [True, False])
def test_a_trial_below_the_median_is_stopped(given, class_folders, tmp_path, prunes):
    scores = [
        [0.5, 0.5, 0.8],
        [0.6, 0.6, 0.6],
        [0.7, 0.7, 0.7],
        [0.1, 0.9, 0.9],
        [0.4, 0.5, 0.6],
        [0.4, 1, 1],
        [0.5, 0.4, 1],
        [0.9, 0.9, 0.9],
    ]
    given(scores)
    trials = tuner_of(class_folders, tmp_path / "w", prunes=prunes).run(len(scores))
    expected, finished = [], []
    for number, values in enumerate(scores):
        means = [statistics.fmean(values[: n + 1]) for n in range(len(values))]
        stopped = next((n for n in range(2) if number >= 5 and prunes and means[n] < statistics.median(m[n] for m in finished)), None)
        expected.append((means[-1], 3) if stopped is None else (means[stopped], stopped + 1))
        finished += [means] if stopped is None else []
    assert [(trial.value, len(trial.intermediate_values)) for trial in trials] == [(pytest.approx(mean), n) for mean, n in expected]
    assert [n for _, n in expected] == ([3, 3, 3, 3, 3, 1, 2, 3] if prunes else [3] * 8)


@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_search(given, class_folders, tmp_path):
    given([[TrainingError("fold_1: the loss is not finite\nmore")], [0.5, 0.7], [0.5, BuildError("no memory")]])
    lines = []
    tuner = tuner_of(class_folders, tmp_path / "w", say=lines.append)
    trials = tuner.run(3)
    assert [row[:4] for row in tuner.rows(trials)[1]] == [
        ["2", "done", "2", "0.6000"],
        ["1", "failed", "0", "–"],
        ["3", "failed", "1", "0.5000"],
    ]
    assert "trial 1: failed: fold_1: the loss is not finite" in lines
    given([[TrainingError("no")]])
    with pytest.raises(BuildError, match="^tune: every trial failed. Trial 1: no$"):
        tuner_of(class_folders, tmp_path / "v").run(1)


@pytest.mark.slow
def test_the_lowest_log_loss_is_best(given, class_folders, tmp_path):
    given([[0.5, 0.7], [0.2, 0.4], [0.9, 0.9]])
    config = {**tiny(class_folders), "evaluation": {"select": "log_loss"}}
    tuner = tuner_of(class_folders, tmp_path / "w", config=config)
    assert [row[0] for row in tuner.rows(tuner.run(3))[1]] == ["2", "1", "3"] and tuner.study.best_trial.number == 1


@pytest.mark.slow
def test_more_trials_can_follow_until_the_best_is_tested(given, class_folders, tmp_path):
    given([[0.5, 0.7]] * 9)
    parameters = [trial.params for trial in tuner_of(class_folders, tmp_path / "w").run(2)]
    more = [trial.params for trial in tuner_of(class_folders, tmp_path / "w").run(3)]
    at_once = [trial.params for trial in tuner_of(class_folders, tmp_path / "v").run(3)]
    assert parameters == more[:2] and more == at_once and len({trial["optimizer.lr"] for trial in more}) == 3
    assert [trial.params for trial in tuner_of(class_folders, tmp_path / "u", seed=1).run(1)] != parameters[:1]


# --- what is refused -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"val_fraction": 0}, "splits.val_fraction: fold_1, fold_2 has no val part to choose a trial on. Set it above 0, such as 0.2"),
        ({"val_fraction": 0, "select_on_test": True}, "splits.select_on_test: must be False for tune"),
        ({"inner_folds": 2}, "splits.inner_folds: must be 0 for tune"),
        ({"num_repeats": 2}, "splits.num_repeats: must be 1 for tune"),
    ],
)
def test_folds_that_cannot_choose_are_refused(class_folders, tmp_path, splits, message):
    config = tiny(class_folders)
    config["splits"] = {**config["splits"], **splits}
    with pytest.raises(ConfigError) as caught:
        tuner_of(class_folders, tmp_path / "w", config=config)
    assert str(caught.value).startswith(message) and not (tmp_path / "w").exists()


def test_another_search_or_foreign_files_are_refused(given, class_folders, tmp_path):
    given([[0.5, 0.5]] * 4)
    tuner_of(class_folders, tmp_path / "w").run(1)
    for change, message in (
        ({"space": ["optimizer.lr=1e-4..1e-1:log", SPACE[1]]}, "space: "),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"prunes": False}, "prunes: True -> False"),
        ({"config": {**tiny(class_folders), "train": {"epochs": 2}}}, "config.train.epochs: 1 -> 2"),
    ):
        with pytest.raises(CheckpointError, match=f"w: holds another search. Use another --work-dir, or revert: {message}"):
            tuner_of(class_folders, tmp_path / "w", **change).run(1)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "论文.txt").touch()
    with pytest.raises(CheckpointError, match="v: not empty, and not made by tune .it holds 论文.txt.. Use another --work-dir"):
        tuner_of(class_folders, tmp_path / "v").run(1)


def test_a_trial_with_other_folds_ends_the_search(given, class_folders, tmp_path):
    given([[0.5, 0.5]], digest="other")
    with pytest.raises(DataError, match="^trial 1: its folds differ from those of the config. Remove from --space what changes the cases$"):
        tuner_of(class_folders, tmp_path / "w").run(1)


def test_a_missing_package_is_one_line(class_folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BuildError, match="^tune: requires the package optuna. Run pip install optuna$"):
        tuner_of(class_folders, tmp_path / "w")
