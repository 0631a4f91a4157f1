"""metrics.csv: what its rows say, and that killing and restarting leaves no trace in it."""

import csv
import json
import logging
import math
import os
from types import SimpleNamespace

import pytest

from clipzoo.engine import loop
from clipzoo.errors import ConfigError
from clipzoo.hooks import MetricsCSVHook, metrics_csv

EVERY_STEP = [{"type": "MetricsCSVHook", "every_steps": 1}]
EVERY_SECOND = [{"type": "MetricsCSVHook", "every_steps": 2}]


def rows_of(folder) -> list[dict]:
    with open(folder / "fold_1" / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_is_the_mean_over_exactly_the_cases_since_the_row_above(runner_of, tmp_path):
    """Three steps per epoch; rows every second step, at evaluations after 4 and 8, and at ends of epochs."""
    runner = runner_of(
        tmp_path, [*EVERY_SECOND, "HistoryHook"], model={"in_batch_measures": True}, train={"epochs": 3}, evaluation={"every_steps": 4}
    )
    run, seen = runner.run, {}

    def add(losses, cases, step):
        seen[step] = (run.state.epoch + 1, cases, {name: float(value.detach()) for name, value in losses.items()})
        original(losses, cases, step)

    original, run.meter.add = run.meter.add, add
    runner.fit()
    rows = rows_of(tmp_path)
    assert [int(row["step"]) for row in rows] == [2, 3, 4, 6, 8, 9] and [int(row["epoch"]) for row in rows] == [1, 1, 2, 2, 3, 3]
    before = 0
    for row in rows:
        steps = [seen[s] for s in range(before + 1, int(row["step"]) + 1) if seen[s][0] == int(row["epoch"])]
        for column, name in (("train_loss", "image_text"), ("in_batch_accuracy",) * 2, ("in_batch_similarity",) * 2):
            expected = sum(cases * losses[name] for _, cases, losses in steps) / sum(cases for _, cases, _ in steps)
            assert float(row[column]) == pytest.approx(expected, rel=1e-9), (row["step"], column)
        before = int(row["step"])
    assert [row["step"] for row in rows if row["val_accuracy"]] == ["4", "8", "9"]
    epochs = json.loads((tmp_path / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert float(rows[-1]["val_accuracy"]) == epochs[-1]["val_accuracy"] and float(rows[-1]["lr"]) == epochs[-1]["lr"]
    assert float(rows[-1]["temperature"]) == pytest.approx(math.exp(-float(run.model.logit_scale.detach())))


def test_without_steps_the_rows_are_the_epochs_of_the_history(runner_of, tmp_path):
    runner_of(tmp_path, ["HistoryHook", "MetricsCSVHook"], train={"epochs": 2}).fit()
    epochs = json.loads((tmp_path / "fold_1" / "history.json").read_text(encoding="utf-8"))
    for row, epoch in zip(rows_of(tmp_path), epochs, strict=True):
        assert float(row["train_loss"]) == epoch["loss"] and int(row["step"]) == epoch["step"]
        assert all(float(row[name]) == value for name, value in epoch.items() if name.startswith("val_"))
        assert not any(name.startswith("in_batch") for name in row), "the model was not asked for them"


def test_the_header_names_the_metrics_before_the_first_evaluation(runner_of, tmp_path):
    runner_of(tmp_path, ["MetricsCSVHook"], kind="pairs", train={"epochs": 2}, evaluation={"every": 2}).fit()
    first, second = rows_of(tmp_path)
    assert list(first)[:5] == ["step", "epoch", "train_loss", "lr", "temperature"] and list(first)[-1] == "val_similarity_gap"
    assert first["val_rsum"] == "" and 0 <= float(second["val_rsum"]) <= 600


def test_the_test_part_is_named_where_it_chooses_and_no_part_where_none_does(runner_of, tmp_path):
    runner_of(tmp_path / "test", ["MetricsCSVHook"], train={"epochs": 1}, splits={"select_on_test": True}).fit()
    assert rows_of(tmp_path / "test")[0]["test_accuracy"] and "val_accuracy" not in rows_of(tmp_path / "test")[0]
    runner_of(tmp_path / "none", ["MetricsCSVHook"], train={"epochs": 1}, val=False).fit()
    assert list(rows_of(tmp_path / "none")[0]) == ["step", "epoch", "train_loss", "lr", "temperature"]


STEPS = {"train": {"epochs": 3}, "evaluation": {"every_steps": 4}, "model": {"in_batch_measures": True}}


@pytest.fixture(scope="module")
def whole(runner_of, tmp_path_factory):
    """Rows of steps 2, 3, 4, 6, 8 and 9, with checkpoints after 3, 6 and 9, the ends of epochs; not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    runner_of(folder, EVERY_SECOND, **STEPS).fit()
    return (folder / "fold_1" / "metrics.csv").read_bytes()


KILLS = [(5, b"1"), *(pytest.param(*other, marks=pytest.mark.slow) for other in ((2, b"3,1,1.9"), (5, b""), (8, b"\x00\x00\n")))]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "half"), KILLS)
def test_a_killed_run_leaves_the_file_of_one_that_was_not(runner_of, killed_at, whole, tmp_path, step, half):
    """Killed before the first checkpoint, after a row that no checkpoint knows, and while a line was written: the head of 10, say."""
    killed_at(runner_of(tmp_path, EVERY_SECOND, **STEPS), step)
    path = tmp_path / "fold_1" / "metrics.csv"
    if path.exists():
        path.write_bytes(path.read_bytes() + half)
    runner_of(tmp_path, EVERY_SECOND, **STEPS).fit()
    assert path.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.slow), 5])
def test_a_signal_between_two_rows_loses_none_of_their_steps(runner_of, whole, tmp_path, stopped_at, step):
    with stopped_at(step):
        runner_of(tmp_path, EVERY_SECOND, **STEPS).fit()
    runner_of(tmp_path, EVERY_SECOND, **STEPS).fit()
    assert (tmp_path / "fold_1" / "metrics.csv").read_bytes() == whole


def test_a_file_that_cannot_be_written_is_written_later_and_ends_nothing(runner_of, whole, tmp_path, monkeypatch):
    """A spreadsheet holds it open while three rows are made."""
    calls = []

    def append(path, lines, header, *, synced):
        calls.append(len(lines))
        if 2 <= len(calls) <= 4:
            raise PermissionError(13, "Permission denied")
        original(path, lines, header, synced=synced)

    original = metrics_csv.append
    monkeypatch.setattr(metrics_csv, "append", append)
    runner_of(tmp_path, EVERY_SECOND, **STEPS).fit()
    assert calls[:5] == [1, 1, 2, 3, 4] and (tmp_path / "fold_1" / "metrics.csv").read_bytes() == whole
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").count("cannot be written now (Permission denied)") == 1


HELD = "step,epoch,lr\n2,1,0.5\n3,1,0.25\n4,2,nan\n"


def restarted(folder, step=5) -> MetricsCSVHook:
    """A hook after a restart whose checkpoint holds the rows of ``HELD``."""
    hook = MetricsCSVHook()
    columns, rows = ["step", "epoch", "lr"], HELD.partition("\n")[2]
    hook.load_state_dict({"intervals": {"epoch": 1, "totals": None}, "columns": columns, "rows": rows, "last_step": 4})
    hook.before_fit(SimpleNamespace(is_main=True, folder=folder, state=SimpleNamespace(step=step), log=logging.getLogger("test")))
    return hook


@pytest.mark.parametrize(
    ("content", "is_damaged"),
    [
        (HELD, False),
        (HELD + "5,2,0.5\n6,", False),
        (HELD[:-3], False),
        (HELD[:-8], False),
        (HELD.replace("3,1,0.25\n", ""), True),
        (HELD.replace("3,1,", "3,7,"), True),
        (HELD.replace("epoch", "round"), True),
        (HELD.replace("0.25", "\udcff\udcfe"), True),
        ("\0" * len(HELD), True),
        ("", True),
        (None, True),
        ("a,b\n1,2\n", True),
    ],
)
def test_a_damaged_metrics_csv_loses_no_row(tmp_path, caplog, content, is_damaged):
    """Rows of a killed run that no checkpoint knows, and a last line that is cut off, are no damage."""
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    restarted(tmp_path)
    assert path.read_text(encoding="utf-8") == HELD
    said = f"{path}: was damaged or deleted. It is restored from the checkpoint, with all 3 rows"
    assert caplog.text.count(said) == is_damaged and caplog.text.count("warning:") == is_damaged


def test_what_lies_in_the_place_of_metrics_csv_blocks_no_restart(tmp_path, caplog):
    """A FIFO would never be read to its end, and a folder cannot be written over."""
    os.mkfifo(tmp_path / "metrics.csv")
    restarted(tmp_path)
    assert (tmp_path / "metrics.csv").read_text(encoding="utf-8") == HELD and "metrics.csv: a FIFO" in caplog.text
    (tmp_path / "other" / "metrics.csv" / "x").mkdir(parents=True)
    hook = restarted(tmp_path / "other")
    assert "cannot be written now" in caplog.text and hook.must_rewrite


def test_a_metrics_csv_that_is_damaged_between_two_starts_ends_as_it_should(runner_of, stopped_at, whole, tmp_path):
    with stopped_at(5):
        runner_of(tmp_path, EVERY_SECOND, **STEPS).fit()
    path = tmp_path / "fold_1" / "metrics.csv"
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if not line.startswith(b"3,")))
    runner_of(tmp_path, EVERY_SECOND, **STEPS).fit()
    assert path.read_bytes() == whole


def test_rows_that_are_nowhere_else_are_counted(tmp_path, caplog):
    """The hook was left out for a while, so the checkpoint has no rows."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,epoch,lr\n1,1,0.5\n2,1,0.5\n3,x,0.5\n\xff\n5,2,0.5\n9,3,0.5\n")
    run = SimpleNamespace(is_main=True, folder=tmp_path, state=SimpleNamespace(step=5), log=logging.getLogger("test"))
    MetricsCSVHook().before_fit(run)
    assert path.read_text(encoding="utf-8") == "step,epoch,lr\n1,1,0.5\n2,1,0.5\n5,2,0.5\n"
    assert f"{path}: 2 of 6 rows are lost: they are damaged" in caplog.text
    path.write_bytes(b"stop,epoch,lr\n1,1,0.5\n")
    MetricsCSVHook().before_fit(run)
    assert not path.exists() and "1 of 1 rows are lost" in caplog.text


def test_other_processes_write_nothing(runner_of, tmp_path):
    runner = runner_of(tmp_path, EVERY_STEP, train={"epochs": 1})
    runner.run.is_main = False
    loop.fit(runner.run)
    assert not (tmp_path / "fold_1" / "metrics.csv").exists()


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    metrics_csv.append(path, ["1,2\n"], "a,b\n", synced=True)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        metrics_csv.append(path, ["3,4\n"], "a,b\n", synced=True)
    assert path.read_text(encoding="utf-8") == "a,b\n1,2\n"
    metrics_csv.append(path, ["5,nan\n"], "a,b\n", synced=False)
    assert path.read_text(encoding="utf-8") == "a,b\n1,2\n5,nan\n"


@pytest.mark.slow
def test_the_device_is_waited_for_at_the_steps_of_rows_only(runner_of, tmp_path):
    runner = runner_of(tmp_path, [{"type": "MetricsCSVHook", "every_steps": 3}], train={"epochs": 2}, data={"batch_size": 4})
    read, run = [], runner.run
    original, run.meter.totals = run.meter.totals, lambda: (read.append(run.state.step), original())[1]
    runner.fit()
    assert sorted(set(read)) == [3, 6, 9, 12] and run.steps_per_epoch == 6


def test_a_row_holds_the_losses_of_all_processes(runner_of, tmp_path, monkeypatch):
    """Another process has three times the losses, as with a local loss it would have others."""

    def gathered(value):
        if not (isinstance(value, dict) and "sums" in value):
            return [value]
        return [value, {**value, "sums": [3 * total for total in value["sums"]]}]

    monkeypatch.setattr("clipzoo.engine.state.distributed.gathered", gathered)
    run = runner_of(tmp_path, EVERY_STEP, train={"epochs": 1}).run
    own = []
    original = run.meter.add
    run.meter.add = lambda losses, cases, step: (own.append(float(losses["image_text"].detach())), original(losses, cases, step))
    run.folder.mkdir(parents=True, exist_ok=True)
    loop.fit(run)
    rows = [line.split(",") for line in (tmp_path / "fold_1" / "metrics.csv").read_text(encoding="utf-8").splitlines()]
    column = rows[0].index("train_loss")
    assert [float(row[column]) for row in rows[1:]] == pytest.approx([2 * loss for loss in own], rel=1e-6)


def test_rows_at_no_steps_are_refused():
    with pytest.raises(ConfigError, match="MetricsCSVHook.every_steps: 0 is not a whole number of 1 or more or None"):
        MetricsCSVHook(every_steps=0)
