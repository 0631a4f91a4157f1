"""The real packages get what the base class sends: Weights & Biases offline, MLflow with a database in a file."""

from __future__ import annotations

import csv
import io
import json
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from logging import getLogger
from pathlib import Path

import pytest

from clipzoo.cli import train as train_command
from clipzoo.engine import loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.evaluation import Evaluation
from clipzoo.hooks import MLflowHook, WandbHook
from clipzoo.hooks.tracker import Start
from clipzoo.records.results import FoldResult

pytestmark = pytest.mark.slow

SECTIONS = {"train": {"epochs": 2}, "splits": {"num_folds": 2, "val_fraction": 0.3}}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No account, no server, no message to a maker of a package."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """A database of MLflow, which takes seconds to be made; every test has experiments of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def history_of(fold: Path) -> list[dict]:
    return json.loads((fold / "history.json").read_text(encoding="utf-8"))


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file of Weights & Biases: a header of 7 bytes, then LevelDB's log format (blocks of 32 KiB)."""
    parts, at = [], 7
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # the rest of a block is padding
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def values_of(items: Iterable) -> dict:
    """Values by name."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


class Offline:
    """What Weights & Biases wrote to a folder of an offline run.

    Attributes:
        id: Id of the run.
        name: Its shown name.
        group: Its group.
        host: Name of the machine.
        config: Values of the config.
        rows: One dict per row of the history.
        final: Values of its summary.
        exit_code: Exit code; ``None`` for a run that did not end.
    """

    def __init__(self, folder: Path):
        (path,) = folder.glob("*.wandb")
        end = time.monotonic() + 20
        self.read(path.read_bytes())
        while self.exit_code is None and time.monotonic() < end:  # another process of the package writes the file, a little later
            time.sleep(0.05)
            self.read(path.read_bytes())

    def read(self, content: bytes) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.id = self.name = self.group = self.host = ""
        self.config, self.rows, self.final, self.exit_code = {}, [], {}, None
        for data in records(content):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                self.id, self.name, self.group = record.run.run_id, record.run.display_name, record.run.run_group
                self.host = record.run.host
                self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif record.HasField("history"):
                self.rows.append(values_of(record.history.item))
            elif record.HasField("summary"):
                self.final |= values_of(record.summary.update)
            elif record.HasField("exit"):
                self.exit_code = record.exit.exit_code

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Position and value of a number."""
        return [(row["_step"], row[name]) for row in self.rows if name in row]


def test_wandb_offline(trained, class_folders):
    work, summary = trained({"type": "WandbHook"})
    folders = sorted((work / "wandb").glob("offline-run-*"))
    runs = {run.name: run for run in map(Offline, folders)}
    assert set(runs) == {"run/fold_1", "run/fold_2", "run/summary"} and {run.group for run in runs.values()} == {"run"}
    assert {run.host for run in runs.values()} == {""}
    for name in ("fold_1", "fold_2"):
        run, history, result = runs[f"run/{name}"], history_of(work / name), FoldResult.read(work / name)
        assert run.config["model.image_encoder.name"] == "test_resnet" and run.exit_code == 0
        assert run.curve("train/loss") == [(row["epoch"], row["loss"]) for row in history]
        assert run.curve("val/log_loss") == [(row["epoch"], row["val_log_loss"]) for row in history]
        assert run.final["test/accuracy"] == result.metrics["accuracy"] and run.final["epoch"] == result.epoch
    final = runs["run/summary"].final
    assert final["pooled/accuracy"] == summary.pooled["accuracy"]
    assert (final["low/accuracy"], final["high/accuracy"]) == tuple(summary.intervals["accuracy"][side] for side in ("low", "high"))
    content = b"".join(path.read_bytes() for path in (work / "wandb").rglob("*") if path.is_file())
    names = [path.name for path in class_folders.rglob("*.png")]
    assert not any(name.encode() in content for name in names), "no case is named"


def test_mlflow_in_a_database(trained, tmp_path, database):
    from mlflow import MlflowClient

    work, summary = trained({"type": "MLflowHook", "tracking_uri": database}, "plain")
    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("plain")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"fold_1", "fold_2", "summary"} and {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in ("fold_1", "fold_2"):
        run, history, result = runs[name], history_of(work / name), FoldResult.read(work / name)
        assert run.data.params["train.epochs"] == "2" and run.data.params["model.type"] == "CLIP"
        curve = client.get_metric_history(run.info.run_id, "val/log_loss")
        assert [(point.step, point.value) for point in curve] == [(row["epoch"], row["val_log_loss"]) for row in history]
        assert run.data.metrics["test/accuracy"] == result.metrics["accuracy"]
    final = runs["summary"]
    assert final.data.metrics["high/accuracy"] == summary.intervals["accuracy"]["high"]
    text = Path(client.download_artifacts(final.info.run_id, "results.csv", str(tmp_path))).read_text(encoding="utf-8-sig")
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(text))}
    assert float(rows["accuracy"]["pooled"]) == summary.pooled["accuracy"] and set(rows) == set(summary.pooled)


def test_pictures_and_report_are_artifacts(trained, tmp_path, database):
    from mlflow import MlflowClient

    work, summary = trained({"type": "MLflowHook", "tracking_uri": database, "report": True}, "reported", train={"epochs": 1})
    client = MlflowClient(tracking_uri=database)
    (work / "results").mkdir()
    (work / "results" / "confusion.png").write_bytes(b"png")
    (work / "report.html").write_text("<p>骨", encoding="utf-8")
    hook = MLflowHook(tracking_uri=database, report=True)
    hook.after_cross_validation(replace(summary, predictions_digest="new"), work, getLogger("test"))
    runs = client.search_runs([client.get_experiment_by_name("reported").experiment_id])
    assert len(runs) == 3, "the summary's run goes on"
    (final,) = [run for run in runs if run.info.run_name == "summary"]
    assert {item.path for item in client.list_artifacts(final.info.run_id)} == {"confusion.png", "report.html", "results.csv"}


def test_the_scored_value_is_the_latest_of_mlflow(trained, database, monkeypatch):
    """Also where the same metric has a curve: with ``select_on_test``, and the best epoch in the middle."""
    from mlflow import MlflowClient

    original = loop.evaluate

    def evaluate(run, part):
        found = original(run, part)
        metrics = {**found.metrics, "balanced_accuracy": 0.9 if run.state.epoch == 2 else 0.1, "accuracy": 0.01 * run.state.epoch}
        return Evaluation(part, found.table, metrics)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    sections = {"train": {"epochs": 3}, "splits": {"num_folds": 2, "val_fraction": 0.0, "select_on_test": True}}
    work, _ = trained({"type": "MLflowHook", "tracking_uri": database}, "optimistic", **sections)
    client = MlflowClient(tracking_uri=database)
    runs = client.search_runs([client.get_experiment_by_name("optimistic").experiment_id])
    for run in (run for run in runs if run.info.run_name != "summary"):
        result = FoldResult.read(work / run.info.run_name)
        curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "test/accuracy")]
        assert result.epoch == 2 and curve[:3] == [(1, 0.01), (2, 0.02), (3, 0.03)]
        assert run.data.metrics["test/accuracy"] == result.metrics["accuracy"] == curve[3][1] and len(curve) == 4


def test_disabled_weights_and_biases_leave_no_trace(trained, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    work, _ = trained({"type": "WandbHook"}, train={"epochs": 1})
    assert not list(work.rglob("tracking")) and "WandbHook:" not in (work / "train.log").read_text(encoding="utf-8")
    monkeypatch.setenv("WANDB_MODE", "offline")
    trained({"type": "WandbHook"}, train={"epochs": 1})
    assert len(list((work / "wandb").glob("offline-run-*"))) == 3, "a later start sends all"


def opened(database: str, config: dict, name: str = "fold_1") -> MLflowHook:
    """A hook with an open run in the experiment ``keys``."""
    hook = MLflowHook(tracking_uri=database)
    hook.open(Start("", True, name, "keys", Path(), config, getLogger("test")))
    return hook


def test_keys_that_mlflow_refuses(database, caplog):
    from mlflow import MlflowClient

    long = "k" * 300
    config = {f"{long}.a": 1, f"{long}.b": 2, "a*b": 3, "a?b": 4, "up//there": 5, "plain": 6}
    hook = opened(database, config)
    params = MlflowClient(tracking_uri=database).get_run(hook._id).data.params
    assert sorted(params.values()) == ["1", "2", "3", "4", "6"] and params["plain"] == "6" and {"a_b", "a_b_2"} <= set(params)
    assert all(len(key) <= 250 for key in params) and "up//there is refused and not sent" in caplog.text


def test_an_experiment_that_another_fold_has_just_made(database, monkeypatch):
    from mlflow import MlflowClient

    first, original, asked = opened(database, {}), MlflowClient.get_experiment_by_name, []
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *given: original(*given) if asked else asked.append(1))
    second = opened(database, {}, "fold_2")
    found = [MlflowClient(tracking_uri=database).get_run(hook._id).info.experiment_id for hook in (first, second)]
    assert found[0] == found[1] and asked


def test_a_start_that_fails_half_way_leaves_no_orphan(trained, database, monkeypatch):
    from mlflow import MlflowClient

    def fails(*given, **named):
        raise ConnectionError("gone")

    sections = {"train": {"epochs": 1}, "splits": {"num_folds": 2, "val_fraction": 0.3}}
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fails)
        trained({"type": "MLflowHook", "tracking_uri": database}, "orphans", **sections)
    client = MlflowClient(tracking_uri=database)
    number = client.get_experiment_by_name("orphans").experiment_id
    assert [run.info.status for run in client.search_runs([number])] == ["FAILED"] * 2
    trained({"type": "MLflowHook", "tracking_uri": database}, "orphans", **sections)
    runs = client.search_runs([number])
    assert sorted(run.info.run_name for run in runs) == ["fold_1", "fold_2", "summary"]
    assert {run.info.status for run in runs} == {"FINISHED"} and {run.data.params["train.epochs"] for run in runs} == {"1"}


@pytest.mark.parametrize("kind", ["WandbHook", "MLflowHook"])
def test_a_stopped_fold_goes_on_in_the_same_run(kind, config_of, tmp_path, quiet, stopped_at, database):
    hook = {"type": kind, **({"tracking_uri": database} if kind == "MLflowHook" else {})}
    config = config_of(hooks=["HistoryHook", hook], **{**SECTIONS, "train": {"epochs": 3}})
    with stopped_at(4):
        CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    losses = [(row["epoch"], row["loss"]) for row in history_of(tmp_path / "stopped" / "fold_1")]
    if kind == "MLflowHook":
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=database)
        (run,) = client.search_runs([client.get_experiment_by_name("stopped").experiment_id])
        curve = client.get_metric_history(run.info.run_id, "train/loss")
        assert [(point.step, point.value) for point in curve] == losses and run.info.status == "FINISHED"
    else:
        parts = [Offline(folder) for folder in sorted((tmp_path / "stopped" / "wandb").glob("offline-run-*"))]
        assert len(parts) == 2 and len({part.id for part in parts}) == 1 and [part.exit_code for part in parts] == [1, 0]
        assert [point for part in parts for point in part.curve("train/loss")] == losses


def test_two_runs_in_one_process_share_nothing(trained):
    one, _ = trained({"type": "WandbHook", "project": "one"}, "one", train={"epochs": 1})
    two, _ = trained({"type": "WandbHook", "project": "two"}, "two", train={"epochs": 1}, optimizer={"lr": 1e-4})
    for work, rate in ((one, 3e-3), (two, 1e-4)):
        runs = [Offline(folder) for folder in sorted((work / "wandb").glob("offline-run-*"))]
        assert {run.group for run in runs} == {work.name} and {run.config["optimizer.lr"] for run in runs} == {rate} and len(runs) == 3


def test_two_open_runs_of_wandb_do_not_mix(tmp_path):
    hooks = {name: WandbHook(mode="offline") for name in ("a", "b")}
    for name, hook in hooks.items():
        hook.open(Start(name * 8, True, "fold_1", name, tmp_path, {"is": name}, getLogger("test")))
    for at in (1, 2):
        for number, hook in enumerate(hooks.values()):
            hook.send({"value": number + at / 10}, at)
    for hook in hooks.values():
        hook.close("finished")
    runs = {run.group: run for run in map(Offline, (tmp_path / "wandb").glob("offline-run-*"))}
    assert runs["a"].curve("value") == [(1, 0.1), (2, 0.2)] and runs["b"].curve("value") == [(1, 1.1), (2, 1.2)]
    assert runs["a"].config["is"] == "a" and runs["b"].config["is"] == "b"


def test_a_server_that_is_not_there_is_a_warning(config_of, tmp_path, quiet, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = config_of(hooks=["HistoryHook", {"type": "MLflowHook", "tracking_uri": "http://127.0.0.1:9"}], **SECTIONS)
    assert CrossValidation(config, tmp_path / "run", console=quiet).train() is not None
    text = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert text.count("MLflowHook: start of the run failed") == 2 and "Traceback" not in text


def test_the_train_command_calls_the_hooks_once(config_of, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(config_of(hooks=["HistoryHook", {"type": "WandbHook", "mode": "offline"}], **SECTIONS).dump())
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            train_command.main([str(tmp_path / "tiny.py"), "--work-dir", str(tmp_path / "run")])
        assert end.value.code == 0
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 3, "finished folds and summaries are not sent again"
    assert "wandb sync" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
