"""What the hooks leave: history, timing, TensorBoard events, console lines."""

import io
import json
import logging

import pytest
from rich.console import Console

from clipzoo.engine import build, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.runner import Runner
from clipzoo.folds import Split


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


def test_console_says_one_line_per_epoch(run_with):
    _, stream = run_with(["ConsoleHook"])
    lines = [line for line in stream.getvalue().splitlines() if "epoch" in line]
    assert len(lines) == 2 and "loss" in lines[0] and "val balanced_accuracy" in lines[0] and "left" in lines[0] and "images/s" in lines[0]


def test_console_moves_a_bar_on_a_terminal(run_with):
    screen = io.StringIO()
    run_with(["ConsoleHook"], Console(file=screen, force_terminal=True, width=100))
    assert "fold_1 epoch" in screen.getvalue()


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
