"""What SwanLab has written to the folders of offline runs."""

from __future__ import annotations

import json
import signal
import sys
from logging import getLogger
from pathlib import Path

import pytest

from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.hooks import SwanLabHook
from clipzoo.hooks.tracker import Start
from clipzoo.records.results import FoldResult

pytestmark = pytest.mark.slow

SECTIONS = {"splits": {"num_folds": 2, "val_fraction": 0.3}}


@pytest.fixture(autouse=True)
def swanlab(monkeypatch, tmp_path):
    """The package, without an account; nothing stays open after a test."""
    swanlab = pytest.importorskip("swanlab")
    for name in ("SWANLAB_MODE", "SWANLAB_API_KEY", "SWANLAB_PROJ_NAME", "SWANLAB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWANLAB_ROOT", str(tmp_path / "account"))
    monkeypatch.chdir(tmp_path)
    yield swanlab
    if swanlab.has_run():
        swanlab.finish()
        pytest.fail("a run stayed open")


class Offline:
    """What SwanLab wrote to a folder of an offline run.

    Attributes:
        start: Record of the start: name, group, id.
        config: Values of the config.
        points: Key, step and number of every value.
        files: Names of the saved files.
        state: State at the end; ``None`` for a run that did not end.
    """

    def __init__(self, folder: Path):
        import yaml
        from swanlab.proto.swanlab.record.v1.record_pb2 import Record
        from swanlab.sdk.internal.core_python.store import DataStoreReader

        config = yaml.safe_load((folder / "files" / "config.yaml").read_text(encoding="utf-8"))
        self.config = {name: entry["value"] for name, entry in config.items()}
        self.points, self.files, self.state = [], [], None
        reader = DataStoreReader()
        reader.open(*folder.glob("*.swanlab"))
        for data in reader:
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            value = getattr(record, kind)
            if kind == "start":
                self.start = value
            elif kind == "scalar":
                self.points.append((value.key, value.step, value.value.number))
            elif kind == "save":
                self.files.append(value.name)
            elif kind == "finish":
                self.state = value.state
        reader.close()

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Step and value of a number."""
        return [(step, value) for key, step, value in self.points if key == name]


def runs_in(work: Path) -> list[Offline]:
    return [Offline(folder) for folder in sorted((work / "swanlab").glob("run-*"), key=lambda folder: folder.stat().st_mtime_ns)]


def test_a_cross_validation_is_in_the_files(trained, class_folders, capsys, monkeypatch):
    handlers = signal.getsignal(signal.SIGINT), sys.excepthook
    monkeypatch.setenv("SWANLAB_MODE", "local")  # taken as offline
    work, summary = trained({"type": "SwanLabHook"})
    runs = {run.start.name: run for run in runs_in(work)}
    assert set(runs) == {"run/fold_1", "run/fold_2", "run/summary"} and {run.start.group for run in runs.values()} == {"run"}
    assert {run.state for run in runs.values()} == {1} and {run.start.project for run in runs.values()} == {"clipzoo"}
    for name in ("fold_1", "fold_2"):
        run, result = runs[f"run/{name}"], FoldResult.read(work / name)
        history = json.loads((work / name / "history.json").read_text(encoding="utf-8"))
        assert run.config["model.image_encoder.name"] == "test_resnet" and run.config["train.epochs"] == 2
        assert [step for step, _ in run.curve("train/loss")] == [1, 2]
        for key, column in (("train/loss", "loss"), ("val/log_loss", "val_log_loss")):
            assert [value for _, value in run.curve(key)] == pytest.approx([row[column] for row in history], rel=1e-6)
        assert [value for _, value in run.curve("test/accuracy")] == pytest.approx([result.metrics["accuracy"]], rel=1e-6)
    final = runs["run/summary"]
    assert final.curve("high/accuracy")[0][1] == pytest.approx(summary.intervals["accuracy"]["high"], rel=1e-6)
    (table,) = (work / "swanlab").rglob("media/text/*.txt")
    assert table.read_text(encoding="utf-8").splitlines()[0] == "metric,pooled,low,high,mean,sd"
    content = b"".join(path.read_bytes() for path in (work / "swanlab").rglob("*") if path.is_file())
    assert not any(path.name.encode() in content for path in class_folders.rglob("*.png")), "no case is named"
    assert sys.executable.encode() not in content and b"torch==" not in content, "nothing about the machine"
    assert "swanlab" not in capsys.readouterr().out and (signal.getsignal(signal.SIGINT), sys.excepthook) == handlers
    ids = [run.start.id for run in runs.values()]
    assert all(f"swanlab sync --id {one} " in (work / "train.log").read_text(encoding="utf-8") for one in ids[:2])


def test_a_stopped_fold_is_two_folders_with_one_id(config_of, tmp_path, quiet, stopped_at):
    config = config_of(hooks=["HistoryHook", {"type": "SwanLabHook", "mode": "offline"}], **SECTIONS, train={"epochs": 3})
    with stopped_at(4):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    parts = runs_in(tmp_path / "run")
    assert len(parts) == 2 and len({part.start.id for part in parts}) == 1 and [part.state for part in parts] == [3, 1]
    assert [step for part in parts for step, _ in part.curve("train/loss")] == [1, 2, 3]


def test_a_second_run_at_the_same_time_is_one_warning(swanlab, runner_of, tmp_path):
    hook = SwanLabHook(mode="offline", project="one")
    (tmp_path / "confusion.png").write_bytes(b"png")
    hook.open(Start("a" * 12, True, "fold_1", "one", tmp_path / "one", {"is": "one", "nothing": None}, getLogger("test")))
    hook.send({"value": 1.0}, 1)
    result = runner_of(tmp_path / "two", [{"type": "SwanLabHook", "mode": "offline"}], train={"epochs": 1}).train_and_test()
    lines = [line for line in (tmp_path / "two" / "log.txt").read_text(encoding="utf-8").splitlines() if "SwanLabHook:" in line]
    assert len(lines) == 1 and "one run per process, and another one is open). Nothing more is sent" in lines[0]
    assert result.epoch == 1 and not (tmp_path / "two" / "swanlab").exists()
    hook.send({"value": 2.0}, 2)
    hook.send_files([tmp_path / "confusion.png"])
    hook.close("failed")
    (run,) = runs_in(tmp_path / "one")
    assert run.curve("value") == [(1, 1.0), (2, 2.0)] and run.config == {"is": "one", "nothing": "None"} and run.state == 2
    assert "confusion.png" in run.files
    runner_of(tmp_path / "three", [{"type": "SwanLabHook", "mode": "offline"}], train={"epochs": 1}).train_and_test()
    assert len(runs_in(tmp_path / "three")) == 1, "the next one is sent again"


def test_closing_does_not_bring_back_the_handler_of_the_start(tmp_path):
    def later(number, frame):
        raise AssertionError

    hook = SwanLabHook(mode="offline")
    before = signal.getsignal(signal.SIGINT)
    hook.open(Start("b" * 12, True, "fold_1", "one", tmp_path, {}, getLogger("test")))
    try:
        assert signal.getsignal(signal.SIGINT) is before
        signal.signal(signal.SIGINT, later)
        hook.close("finished")
        assert signal.getsignal(signal.SIGINT) is later
    finally:
        signal.signal(signal.SIGINT, before)
