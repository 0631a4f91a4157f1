"""What the hooks leave: history, timing, TensorBoard events, console lines."""

import csv
import io
import json
import logging
import os
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from clipzoo.engine import build, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.runner import Runner
from clipzoo.hooks import HistoryHook
from clipzoo.records.folds import Split


@pytest.fixture
def run_with(config_of, tmp_path):
    """Train two epochs on 24 cases with the given hooks; the run, and what was logged."""

    def make(hooks: list, console: Console | None = None):
        config = config_of(hooks=hooks, train={"epochs": 2})
        data = build.dataset(config)
        ids = [case.id for case in data.cases]
        split = Split("fold_1", train=tuple(ids[::2]), val=tuple(ids[1::4]), test=tuple(ids[3::4]))
        stream = io.StringIO()
        log = logging.Logger("test")
        log.addHandler(logging.StreamHandler(stream))
        console = console or Console(file=io.StringIO())
        runner = Runner(config, data, split, tmp_path / "run", log=log, console=console)
        runner.run.folder.mkdir()
        loop.fit(runner.run)
        return runner.run, stream

    return make


def test_history_holds_results_and_timing_holds_clocks(run_with):
    run, _ = run_with(["HistoryHook"])
    history, timing = (json.loads((run.folder / name).read_text(encoding="utf-8")) for name in ("history.json", "timing.json"))
    assert [row["epoch"] for row in history] == [1, 2] == [row["epoch"] for row in timing]
    assert set(history[0]) == {
        "epoch",
        "step",
        "lr",
        "loss",
        "val_accuracy",
        "val_balanced_accuracy",
        "val_macro_f1",
        "val_auroc",
        "val_log_loss",
    }
    assert timing[0]["seconds"] > 0 and timing[0]["images_per_second"] > 0
    assert history[1]["val_accuracy"] == run.epoch_metrics["accuracy"] and history[1]["loss"] == run.epoch_losses["loss"]


def test_tensorboard_gets_scalars_and_the_confusion_matrix(run_with):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = run_with([{"type": "TensorBoardHook", "confusion_every": 1}])
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/lr", "train/temperature", "val/accuracy"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2]
    assert events.Tags()["images"] == ["confusion/val"]


def test_tensorboard_gets_test_numbers_and_hyper_parameters(runner_of, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_end_info_plugin_data, parse_session_start_info_plugin_data

    runner = runner_of(tmp_path, [{"type": "TensorBoardHook", "confusion_every": 0}], train={"epochs": 1})
    runner.run.config["data"]["dataset"]["salt"] = "a secret salt"
    result = runner.train_and_test()
    folder = tmp_path / "fold_1" / "tensorboard"
    assert all(path.is_file() for path in folder.iterdir()), "no further run"
    events = EventAccumulator(str(folder))
    events.Reload()
    for name, value in result.metrics.items():
        (event,) = events.Scalars(f"test/{name}")
        assert event.step == result.epoch and event.value == pytest.approx(value)
    found = events.summary_metadata
    start = parse_session_start_info_plugin_data(found["_hparams_/session_start_info"].plugin_data.content)
    assert start.hparams["model.image_encoder.name"].string_value == "test_resnet" and start.hparams["train.epochs"].number_value == 1
    assert parse_session_end_info_plugin_data(found["_hparams_/session_end_info"].plugin_data.content).status == 1  # success
    assert not any(b"a secret salt" in path.read_bytes() for path in folder.iterdir())


def test_console_says_one_line_per_epoch(run_with):
    _, stream = run_with(["ConsoleHook"])
    lines = [line for line in stream.getvalue().splitlines() if "epoch" in line]
    assert len(lines) == 2 and "loss" in lines[0] and "val balanced_accuracy" in lines[0] and "left" in lines[0] and "images/s" in lines[0]


def test_console_moves_a_bar_on_a_terminal(run_with):
    screen = io.StringIO()
    run_with(["ConsoleHook"], Console(file=screen, force_terminal=True, width=100))
    assert "fold_1 epoch" in screen.getvalue()


@pytest.mark.slow
def test_without_a_val_part_nothing_is_chosen_and_the_last_epoch_is_scored(config_of, tmp_path, quiet):
    config = config_of(splits={"val_fraction": 0.0}, train={"epochs": 1})
    validation = CrossValidation(config, tmp_path / "run", console=quiet)
    summary = validation.train()
    assert summary.selection == "last epoch" and not list((tmp_path / "run").rglob("checkpoint_best.pth"))


def test_choosing_on_test_is_labelled_optimistic(config_of, tmp_path, quiet):
    config = config_of(splits={"select_on_test": True}, train={"epochs": 1})
    summary = CrossValidation(config, tmp_path / "run", console=quiet).train()
    assert summary.optimistic and "optimistic" in summary.selection and "OPTIMISTIC" in summary.tables()


def test_select_on_test_wins_over_a_val_part_that_a_file_brings(config_of):
    split = Split("fold_1", train=("a",), val=("b",), test=("c",))
    assert build.watched_part(config_of(), split) == "val"
    assert build.watched_part(config_of(splits={"select_on_test": True}), split) == "test"
    assert build.watched_part(config_of(), Split("fold_1", train=("a",), val=(), test=("c",))) is None


STEPS = {"train": {"epochs": 2}, "data": {"batch_size": 4}, "evaluation": {"every_steps": 4}}  # six steps per epoch: after 4, 8 and 12


def test_history_holds_the_last_evaluation_of_each_epoch(runner_of, tmp_path):
    runner = runner_of(tmp_path, ["HistoryHook", "MetricsCSVHook"], model={"in_batch_measures": True}, **STEPS)
    runner.fit()
    first, second = json.loads((tmp_path / "fold_1" / "history.json").read_text(encoding="utf-8"))
    with open(tmp_path / "fold_1" / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    assert (first["step"], second["step"]) == (6, 12)
    assert first["val_log_loss"] == float(rows[4]["val_log_loss"]) and second["val_log_loss"] == float(rows[12]["val_log_loss"])
    assert second["val_log_loss"] != float(rows[8]["val_log_loss"]) and 0 <= first["in_batch_accuracy"] <= 1


def test_history_names_the_part_that_chooses(runner_of, tmp_path):
    runner_of(tmp_path, ["HistoryHook"], train={"epochs": 1}, splits={"select_on_test": True}).fit()
    (epoch,) = json.loads((tmp_path / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert "test_accuracy" in epoch and "val_accuracy" not in epoch


def test_console_says_a_line_per_evaluation_between_epochs(runner_of, tmp_path):
    runner_of(tmp_path, ["ConsoleHook"], kind="pairs", model={"in_batch_measures": True}, **STEPS).fit()
    lines = [line for line in (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines() if " loss " in line]
    assert [re.search(r"epoch 1/2 step 4/12|epoch 2/2 step 8/12|epoch ./2 ", line)[0] for line in lines] == [
        "epoch 1/2 step 4/12",
        "epoch 1/2 ",
        "epoch 2/2 step 8/12",
        "epoch 2/2 ",
    ]
    assert ["val rsum" in line for line in lines] == [True, False, True, True], "the first epoch's end was not evaluated"
    assert "*best" in lines[0] and all("in-batch accuracy" in line and "similarity" not in line for line in lines)


@pytest.mark.slow
def test_the_mark_of_the_best_stands_at_its_own_evaluation(runner_of, tmp_path, scored_as):
    """The best is in the middle of the last epoch, and the end of that epoch is worse."""
    scores = iter([0.1, 0.9, 0.5])
    scored_as(lambda _: next(scores))
    runner_of(tmp_path, ["ConsoleHook"], **STEPS).fit()
    lines = [line for line in (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines() if "val balanced_accuracy" in line]
    assert [line.count("*best") for line in lines] == [1, 1, 0] and "0.9000" in lines[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "pairs"])
def test_tensorboard_counts_steps_where_evaluation_does(runner_of, tmp_path, kind):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runner_of(tmp_path, [{"type": "TensorBoardHook", "confusion_every": 2}], kind=kind, **STEPS).fit()
    events = EventAccumulator(str(tmp_path / "fold_1" / "tensorboard"))
    events.Reload()
    name = "log_loss" if kind == "classes" else "rsum"
    assert [e.step for e in events.Scalars(f"val/{name}")] == [4, 8, 12]
    assert [e.step for e in events.Scalars("train/loss")] == [6, 12]
    assert ("confusion/val" in events.Tags()["images"]) == (kind == "classes")
    if kind == "classes":
        assert [e.step for e in events.Images("confusion/val")] == [8, 12], "every second evaluation, and the last"


@pytest.mark.slow
def test_early_stopping_counts_evaluations_also_between_epochs(runner_of, killed_at, tmp_path, scored_as):
    """Evaluated after steps 2, 4, 6 (the end of the first epoch) and 8; the best is the first; two later, training ends."""
    scores = {2: 0.5, 4: 0.4, 6: 0.45, 8: 0.9}
    scored_as(scores.get)
    sections = {**STEPS, "evaluation": {"every_steps": 2}, "runtime": {"save_every_steps": 1}}
    hooks = [{"type": "EarlyStoppingHook", "patience": 2}, "HistoryHook", "MetricsCSVHook"]
    whole = runner_of(tmp_path / "whole", hooks, **sections)
    whole.fit()
    state = whole.run.state
    assert (state.step, state.epoch, state.best_step) == (6, 1, 2) and "no better balanced_accuracy in 2" in whole.run.stop_reason
    killed_at(runner_of(tmp_path / "killed", hooks, **sections), 5)
    again = runner_of(tmp_path / "killed", hooks, **sections)
    again.fit()
    assert again.run.state == state, "the count survives a restart"
    for name in ("history.json", "metrics.csv"):
        assert (tmp_path / "whole" / "fold_1" / name).read_bytes() == (tmp_path / "killed" / "fold_1" / name).read_bytes()


def test_early_stopping_in_the_middle_of_an_epoch_ends_it_there(runner_of, tmp_path):
    hooks = [{"type": "EarlyStoppingHook", "patience": 1, "min_delta": 10.0}, "HistoryHook", "MetricsCSVHook"]
    runner = runner_of(tmp_path, hooks, **{**STEPS, "evaluation": {"every_steps": 2}})
    runner.fit()
    assert runner.run.state.step == 4 and runner.run.state.epoch == 1
    (epoch,) = json.loads((tmp_path / "fold_1" / "history.json").read_text(encoding="utf-8"))
    lines = (tmp_path / "fold_1" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert epoch["step"] == 4 and [line.split(",")[0] for line in lines] == ["step", "2", "4"], "one row for the step that ended it"


@pytest.mark.parametrize("damage", [b"", b"\0\0", b"{}", b'[{"epoch": 1}]', b"[1, 2]", b"\xff\xfe[", None])
def test_a_damaged_timing_json_begins_anew_and_blocks_no_restart(tmp_path, caplog, damage):
    """The history is in the checkpoint, and written again whatever became of it."""
    hook, epochs = HistoryHook(), [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    hook.load_state_dict({"epochs": epochs})
    (tmp_path / "history.json").write_bytes(b"[{")
    path = tmp_path / "timing.json"
    os.mkfifo(path) if damage is None else path.write_bytes(damage)
    hook.before_fit(SimpleNamespace(is_main=True, folder=tmp_path, log=logging.getLogger("test")))
    assert json.loads((tmp_path / "history.json").read_text(encoding="utf-8")) == epochs
    assert hook.timings == [] and json.loads(path.read_text(encoding="utf-8")) == []
    assert str(path) in caplog.text and "It starts again: the timings of the previous 2 epochs are lost" in caplog.text


@pytest.mark.slow
def test_a_run_goes_on_with_a_damaged_timing_json_and_history(runner_of, stopped_at, tmp_path):
    with stopped_at(5):
        runner_of(tmp_path, ["HistoryHook"], train={"epochs": 3}).fit()
    folder = tmp_path / "fold_1"
    (folder / "timing.json").write_bytes(b"[")
    (folder / "history.json").write_bytes(b"[")
    runner_of(tmp_path, ["HistoryHook"], train={"epochs": 3}).fit()
    assert [row["epoch"] for row in json.loads((folder / "history.json").read_text(encoding="utf-8"))] == [1, 2, 3]
    assert [row["epoch"] for row in json.loads((folder / "timing.json").read_text(encoding="utf-8"))] == [2, 3]
