"""What every tracker gets: the numbers of a run once each, also after restarts, no name of a case, and no way to end a training."""

from __future__ import annotations

import json
import math
import sys
from logging import getLogger
from pathlib import Path

import pytest

from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.epochs.inner import hooks_without, inner_config
from clipzoo.errors import BuildError, ConfigError
from clipzoo.hooks import SwanLabHook
from clipzoo.hooks.flat_config import flat
from clipzoo.hooks.row_file import numbers_of_history
from clipzoo.hooks.tracker import COLUMNS, Tracker, group_of, summary_rows
from clipzoo.records.results import Summary
from clipzoo.registries import HOOKS


class KeptTracker(Tracker):
    """A tracker that keeps what it gets, in a list that several instances share."""

    package = "json"

    def __init__(self, kept: list, fails: str = "", report: bool = False):
        super().__init__(report)
        self.kept, self.fails = kept, fails

    def keep(self, kind: str, *what: object) -> None:
        if kind == self.fails:
            raise ConnectionError("no network\nsecond line")
        self.kept.append((kind, *what))

    def open(self, start):
        self.keep("open", start)
        return start.id

    def send(self, values, at):
        self.keep("send", dict(values), at)

    def send_final(self, values, table=()):
        self.keep("final", dict(values), list(table))

    def send_files(self, paths):
        self.keep("files", [path.name for path in paths])

    def close(self, ending):
        self.keep("close", ending)


@pytest.fixture
def tracked(runner_of, tmp_path):
    """``tracked(kept, hooks, …)``: a runner that is watched by a ``KeptTracker`` too."""

    def make(kept: list, hooks: list | None = None, *, fails: str = "", folder: Path = tmp_path, **sections):
        runner = runner_of(folder, ["HistoryHook"] if hooks is None else hooks, **{"train": {"epochs": 2}, **sections})
        runner.run.hooks = [*runner.run.hooks, KeptTracker(kept, fails)]
        (runner.run.folder / "results").mkdir(exist_ok=True)
        (runner.run.folder / "results" / "model_metrics.png").touch()
        return runner

    return make


def numbers(kept: list) -> list[tuple[str, int]]:
    """Name and position of every number, in order."""
    return [(name, at) for kind, *what in kept if kind == "send" for values, at in [what] for name in values]


def test_a_fold_is_sent_once_under_the_names_of_tensorboard(tracked, tmp_path):
    kept: list = []
    runner = tracked(kept)
    runner.run.config["data"]["dataset"]["salt"] = "a secret salt"
    runner.run.config["hooks"] = [{"type": "MLflowHook", "tracking_uri": "https://me:password@host"}]
    result = runner.train_and_test()
    assert [kind for kind, *_ in kept] == ["open", "send", "send", "send", "send", "final", "files", "close"]
    start = kept[0][1]
    assert (start.name, start.group, start.is_new, start.folder) == ("fold_1", tmp_path.name, True, tmp_path)
    assert start.config["model.image_encoder.name"] == "test_resnet" and start.config["train.epochs"] == 2
    history = json.loads((tmp_path / "fold_1" / "history.json").read_text(encoding="utf-8"))
    for epoch, (evaluated, trained) in zip(history, (kept[1:3], kept[3:5]), strict=True):
        assert evaluated[2] == trained[2] == epoch["epoch"]
        assert evaluated[1] == {name.replace("val_", "val/"): v for name, v in epoch.items() if name.startswith("val_") and v is not None}
        assert trained[1].keys() == {"train/loss", "train/lr", "train/temperature"} and trained[1]["train/loss"] == epoch["loss"]
    assert kept[5][1] == {**{f"test/{name}": v for name, v in result.metrics.items()}, "epoch": result.epoch} and kept[5][2] == []
    assert kept[6][1] == ["model_metrics.png"] and kept[7] == ("close", "finished")
    sent = repr(kept)
    assert not any(secret in sent for secret in ("a secret salt", "password"))
    assert not any(case.id in sent or Path(case.id).name in sent for case in runner.run.dataset.cases)


def test_evaluations_between_epochs_have_their_steps(tracked):
    kept: list = []
    tracked(kept, [], data={"batch_size": 4}, evaluation={"every_steps": 4}).fit()
    assert [at for name, at in numbers(kept) if name == "val/accuracy"] == [4, 8, 12]
    assert [at for name, at in numbers(kept) if name == "train/loss"] == [6, 12]


@pytest.mark.slow
def test_after_a_kill_the_run_goes_on_and_nothing_is_sent_twice(tracked, killed_at, stopped_at, tmp_path):
    whole, kept = [], []
    tracked(whole, folder=tmp_path / "whole", train={"epochs": 3}).train_and_test()
    killed_at(tracked(kept, train={"epochs": 3}), 5)  # in the second epoch
    (tmp_path / "fold_1" / "checkpoint_latest.pth").unlink()  # from the beginning
    with stopped_at(8):
        tracked(kept, train={"epochs": 3}).fit()
    assert kept[-1] == ("close", "interrupted")
    tracked(kept, train={"epochs": 3}).train_and_test()
    starts = [what[0] for kind, *what in kept if kind == "open"]
    assert [start.is_new for start in starts] == [True, False, False] and len({start.id for start in starts}) == 1
    assert numbers(kept) == numbers(whole) and len(set(numbers(kept))) == len(numbers(kept)) == 24
    assert [entry for entry in kept if entry[0] in ("send", "final")] == [entry for entry in whole if entry[0] in ("send", "final")]
    count = len(kept)
    tracked(kept, train={"epochs": 3}).train_and_test()  # killed before result.json was written
    assert len(kept) == count, "its results are there already"


def test_a_training_that_fails_is_a_failed_run(tracked, monkeypatch):
    from clipzoo.engine import loop

    kept: list = []
    runner = tracked(kept, [])
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(loop, "step", lambda run, group: 1 / 0)
        runner.fit()
    assert [kind for kind, *_ in kept] == ["open", "close"] and kept[-1] == ("close", "failed")


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("fails", ["send", "close", "open", "final", "files"])
def test_an_error_of_a_tracker_is_a_warning_and_changes_nothing(tracked, tmp_path, fails):
    kept: list = []
    sections = {"train": {"epochs": 1}}
    result = tracked(kept, fails=fails, **sections).train_and_test()
    lines = [line for line in (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines() if "KeptTracker:" in line]
    assert len(lines) == 1 and "failed (no network). Nothing more is sent in this run" in lines[0]
    assert fails not in {kind for kind, *_ in kept} and result.epoch == 1
    assert (("close", "failed") in kept) == (fails not in ("open", "close")), "the tracker's run does not stay open"
    if fails != "open":
        again: list = []
        tracked(again, **sections).train_and_test()
        assert again[0][1].id == kept[0][1].id and again[-1] == ("close", "finished"), "the next start sends the rest"


@pytest.mark.slow
def test_a_damaged_record_begins_a_new_run(tracked, tmp_path):
    kept: list = []
    tracked(kept, train={"epochs": 1}).train_and_test()
    record = tmp_path / "fold_1" / "tracking" / "KeptTracker.json"
    record.write_text(record.read_text(encoding="utf-8").replace("train", "tarin"), encoding="utf-8")
    tracked(kept, train={"epochs": 1}).train_and_test()
    starts = [what[0] for kind, *what in kept if kind == "open"]
    assert [start.is_new for start in starts] == [True, True] and starts[0].id != starts[1].id
    assert "A new run is begun" in (tmp_path / "log.txt").read_text(encoding="utf-8")


class Posted(KeptTracker):
    """A plugin's tracker, which a config names; all instances share ``box``."""

    box: list
    breaks = ""

    def __init__(self):
        super().__init__(self.box, self.breaks)


@pytest.fixture
def posted(monkeypatch) -> type[Posted]:
    """``Posted`` in the registry, with an empty box."""
    monkeypatch.setattr(Posted, "box", [], raising=False)
    monkeypatch.setitem(HOOKS._classes, "Posted", Posted)
    return Posted


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("breaks", ["send", "open", "final"])
def test_the_next_start_sends_what_a_finished_fold_lacks(posted, config_of, quiet, tmp_path, monkeypatch, breaks):
    config = config_of(hooks=["HistoryHook", "Posted"], train={"epochs": 2}, splits={"num_folds": 2})
    monkeypatch.setattr(posted, "breaks", breaks)
    CrossValidation(config, tmp_path / "run", console=quiet).train()
    assert "final" not in {kind for kind, *_ in posted.box}
    begun = {start.name: start.id for kind, start in ((k, w[0]) for k, *w in posted.box) if kind == "open"}
    monkeypatch.setattr(posted, "breaks", "")
    for _ in range(2):
        validation = CrossValidation(config, tmp_path / "run", console=quiet)
        summary = validation.train()
        validation.call_hooks(summary)
    opened = [start for kind, start in ((k, w[0]) for k, *w in posted.box) if kind == "open"][len(begun) :]
    assert [start.name for start in opened] == ["fold_1", "fold_2", "summary"], "once"
    assert all(start.id == begun[start.name] and not start.is_new for start in opened if start.name in begun)
    finals = [values for kind, values, *_ in posted.box if kind == "final"]
    for number, fold in enumerate(summary.folds):
        assert finals[number] == {**{f"test/{name}": value for name, value in fold["metrics"].items()}, "epoch": fold["epoch"]}
        history = json.loads((tmp_path / "run" / fold["fold"] / "history.json").read_text(encoding="utf-8"))
        sent = [(what[0]["train/loss"], what[1]) for kind, *what in posted.box if kind == "send" and "train/loss" in what[0]]
        assert [(row["loss"], row["epoch"]) for row in history] == sent[2 * number : 2 * number + 2]
    watched = [at for name, at in numbers(posted.box) if name == "val/accuracy"]
    assert watched == [1, 2, 1, 2] and [entry for entry in posted.box if entry[0] == "close"][-3:] == [("close", "finished")] * 3


def test_inner_runs_and_draws_have_no_tracker_of_a_plugin_either(posted, config_of):
    config = config_of(hooks=["HistoryHook", "ResultsHook", {"type": "Posted"}, "WandbHook", "MLflowHook", "TrackioHook", "SwanLabHook"])
    assert hooks_without(config) == ["HistoryHook", "ResultsHook"]
    assert list(inner_config(config).hooks) == ["HistoryHook"]


def test_a_tracker_that_is_off_gets_and_notes_nothing(tracked, tmp_path, monkeypatch):
    monkeypatch.setattr(KeptTracker, "is_off", lambda self: True)
    kept: list = []
    tracked(kept, [], train={"epochs": 1}).train_and_test()
    assert kept == [] and not (tmp_path / "fold_1" / "tracking").exists()
    assert "KeptTracker:" not in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_swanlab_may_be_off(monkeypatch):
    monkeypatch.setattr(SwanLabHook, "package", "json")
    monkeypatch.setenv("SWANLAB_MODE", "disabled")
    assert SwanLabHook().is_off() and not SwanLabHook(mode="offline").is_off()
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    assert not SwanLabHook().is_off()


def test_an_error_of_a_hook_after_the_cross_validation_is_a_warning(config_of, quiet, tmp_path, monkeypatch):
    called = []
    for name, work in (("HistoryHook", lambda self, *given: 1 / 0), ("ResultsHook", lambda self, *given: called.append(1))):
        monkeypatch.setattr(HOOKS.get(name), "after_cross_validation", work)
    (tmp_path / "run").mkdir()
    CrossValidation(config_of(hooks=["HistoryHook", "ResultsHook"]), tmp_path / "run", console=quiet).call_hooks(summary_of())
    text = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert "HistoryHook: its work after the cross-validation failed (division by zero)" in text and called == [1]


def test_history_tells_what_was_sent_in_steps(tmp_path):
    rows = [{"epoch": e, "step": 6 * e, "lr": 0.1, "loss": 1.0, "val_auroc": None} for e in (1, 2, 3)]
    (tmp_path / "history.json").write_text(json.dumps(rows), encoding="utf-8")
    found = list(numbers_of_history(tmp_path, every_steps=4))
    assert [(kind, at) for kind, _, at in found] == [("val", 4), ("train", 6), ("val", 12), ("train", 12), ("val", 18), ("train", 18)]
    assert found[0][1] == {"val/auroc": None} and found[1][1] == {"train/lr": 0.1, "train/loss": 1.0}
    assert [at for _, _, at in numbers_of_history(tmp_path, None)] == [1, 1, 2, 2, 3, 3]
    assert list(numbers_of_history(tmp_path / "elsewhere", None)) == []


def summary_of(**more) -> Summary:
    content = {name: [] for name in ("folds", "per_class", "confusion", "classes", "notes")}
    content |= {"name": "tiny", "mean": {"a": 0.5, "b": math.nan}, "sd": {"a": 0.1, "b": math.nan}, "pooled": {"a": 0.6, "b": math.nan}}
    content |= {"selection": "", "optimistic": False, "folds_digest": "", "seconds": 1.0, "predictions_digest": "d1"}
    return Summary(**{**content, "intervals": {"a": {"low": 0.4, "high": 0.8, "note": ""}}, **more})


def test_the_summary_is_a_run_of_its_own_and_sent_once(config_of, quiet, tmp_path):
    CrossValidation(config_of(train={"epochs": 1}), tmp_path / "run", console=quiet).train(fold=1)
    (tmp_path / "run" / "report.html").touch()
    kept: list = []
    summary, log = summary_of(notes=["identical images: 圆/000.png"]), getLogger("test")
    for _ in range(2):
        KeptTracker(kept).after_cross_validation(summary, tmp_path / "run", log)
    assert [kind for kind, *_ in kept] == ["open", "final", "close"]
    assert (kept[0][1].name, kept[0][1].group, kept[0][1].config["train.epochs"]) == ("summary", "run", 1)
    assert kept[1][1] == {"pooled/a": 0.6, "low/a": 0.4, "high/a": 0.8, "mean/a": 0.5, "sd/a": 0.1}
    assert [row[0] for row in kept[1][2]] == ["a", "b"] and all(len(row) == len(COLUMNS) for row in kept[1][2])
    KeptTracker(kept, report=True).after_cross_validation(summary_of(predictions_digest="d2"), tmp_path / "run", log)
    assert kept[3][1].id == kept[0][1].id and not kept[3][1].is_new and kept[5] == ("files", ["report.html"])


def test_hooks_are_called_when_all_folds_are_done(config_of, quiet, tmp_path, monkeypatch):
    called = []
    config = config_of(train={"epochs": 1}, hooks=["HistoryHook", "ResultsHook"])
    for name in ("HistoryHook", "ResultsHook"):
        monkeypatch.setattr(HOOKS.get(name), "after_cross_validation", lambda self, *given: called.append((type(self).__name__, given[:2])))
    validation, summary = CrossValidation(config, tmp_path / "run", console=quiet), summary_of()
    (tmp_path / "run").mkdir()
    validation.call_hooks(summary)
    assert called == [("HistoryHook", (summary, tmp_path / "run")), ("ResultsHook", (summary, tmp_path / "run"))]


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(KeptTracker, "package", "no_such_package")
    with pytest.raises(BuildError, match="hooks: KeptTracker requires the package no_such_package. Run pip install no_such_package"):
        KeptTracker([])


@pytest.mark.parametrize("name", ["WandbHook", "MLflowHook", "TrackioHook", "SwanLabHook"])
def test_a_hook_without_its_package_says_what_to_install(name, monkeypatch):
    package = HOOKS.get(name).package
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])  # nothing is installed
    with pytest.raises(BuildError, match=f"^hooks: {name} requires the package {package}. Run pip install {package}$"):
        HOOKS.build(name)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "SwanLabHook", "mode": "ofline"}, "SwanLabHook.mode: 'ofline' is not one of 'online', 'offline' or None. Did you mean"),
        ({"type": "SwanLabHook", "project": "髋 1"}, "SwanLabHook.project: '髋 1' is not a name of at most 100 letters (a-z), digits and"),
        ({"type": "SwanLabHook", "project": ""}, "SwanLabHook.project: '' is not a name"),
        ({"type": "TrackioHook", "space_id": 3}, "TrackioHook.space_id: 3 is not a string or None"),
        ({"type": "TrackioHook", "report": "yes"}, "TrackioHook.report: 'yes' is not"),
    ],
)
def test_arguments_are_checked_before_the_package(spec, message):
    with pytest.raises(ConfigError) as error:
        HOOKS.build(spec)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_flat_config_and_groups(tmp_path):
    config = {"model": {"type": "CLIP", "sizes": [1, {"a": "骨"}], "loss": None}, "data": {"dataset": {"salt": "x", "root": "r"}}}
    assert flat(config) == {"model.type": "CLIP", "model.sizes": '[1, {"a": "骨"}]', "model.loss": None, "data.dataset.root": "r"}
    assert group_of(Path("a/b")) == "b" and group_of(Path("a/b/repeat_2")) == "b/repeat_2"
    for folder in ("tuned/best", "grid/job/repeat_1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "grid" / "job.log").touch()
    assert group_of(tmp_path / "tuned" / "best") == "best"
    (tmp_path / "tuned" / "tune.json").touch()
    assert group_of(tmp_path / "tuned" / "best") == "tuned/best" and group_of(tmp_path / "grid" / "job") == "grid/job"
    assert group_of(tmp_path / "grid" / "job" / "repeat_1") == "grid/job/repeat_1" and group_of(tmp_path / "grid") == "grid"
    rows = summary_rows(summary_of())
    assert rows[0] == ("a", 0.6, 0.4, 0.8, 0.5, 0.1) and all(math.isnan(value) for value in rows[1][1:])
