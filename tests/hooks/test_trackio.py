"""What Trackio has in its local database after a run."""

from __future__ import annotations

import json
from logging import getLogger
from pathlib import Path

import pytest

from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.hooks import TrackioHook
from clipzoo.hooks.tracker import Start
from clipzoo.records.results import FoldResult

pytestmark = pytest.mark.slow

SECTIONS = {"splits": {"num_folds": 2, "val_fraction": 0.3}}


@pytest.fixture(scope="module")
def trackio(tmp_path_factory):
    """The package, with a database of its own: Trackio reads the variable once, when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_STORAGE_MODE"):
            patch.delenv(name, raising=False)
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("trackio")


def rows_of(run) -> list[dict]:
    """The rows of a run of the database: step and values."""
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_logs(run.project, run.name, run_id=run.id)


def runs_of(trackio, project: str) -> dict:
    """Runs by the name that the hook gave them, without the characters of the id."""
    return {run.name.rpartition(" ")[0]: run for run in trackio.Api().runs(project)}


def curve(rows: list[dict], name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if name in row]


def test_a_cross_validation_is_in_the_database(trackio, trained, class_folders, capsys):
    work, summary = trained({"type": "TrackioHook", "project": "whole"})
    runs = runs_of(trackio, "whole")
    assert set(runs) == {"run/fold_1", "run/fold_2", "run/summary"} and len(list(trackio.Api().runs("whole"))) == 3
    for name in ("fold_1", "fold_2"):
        run, result = runs[f"run/{name}"], FoldResult.read(work / name)
        history = json.loads((work / name / "history.json").read_text(encoding="utf-8"))
        rows = rows_of(run)
        assert run.config["model.image_encoder.name"] == "test_resnet" and run.config["_Group"] == "run" and run.config["_Username"] is None
        assert curve(rows, "train/loss") == [(row["epoch"], row["loss"]) for row in history]
        assert curve(rows, "val/log_loss") == [(row["epoch"], row["val_log_loss"]) for row in history]
        assert [value for _, value in curve(rows, "test/accuracy")] == [result.metrics["accuracy"]]
    (final,) = rows_of(runs["run/summary"])
    assert final["pooled/accuracy"] == summary.pooled["accuracy"] and final["high/accuracy"] == summary.intervals["accuracy"]["high"]
    table = {row["metric"]: row for row in final["results"]["_value"]}
    assert set(table) == set(summary.pooled) and table["accuracy"]["pooled"] == summary.pooled["accuracy"]
    content = b"".join(path.read_bytes() for path in Path(trackio.utils.TRACKIO_DIR).rglob("*") if path.is_file())
    assert not any(path.name.encode() in content for path in class_folders.rglob("*.png")), "no case is named"
    assert "rackio" not in capsys.readouterr().out
    assert "trackio show --project whole" in (work / "train.log").read_text(encoding="utf-8")


def test_a_stopped_fold_goes_on_in_the_same_run(trackio, config_of, tmp_path, quiet, stopped_at):
    config = config_of(hooks=["HistoryHook", {"type": "TrackioHook", "project": "stopped"}], **SECTIONS, train={"epochs": 3})
    with stopped_at(4):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    history = json.loads((tmp_path / "run" / "fold_1" / "history.json").read_text(encoding="utf-8"))
    (run,) = trackio.Api().runs("stopped")
    assert curve(rows_of(run), "train/loss") == [(row["epoch"], row["loss"]) for row in history] and len(history) == 3


def test_two_open_runs_do_not_mix_and_files_are_an_artifact(trackio, tmp_path):
    (tmp_path / "confusion.png").write_bytes(b"png")
    own = trackio.init(project="own", name="own", embed=False, auto_log_gpu=False, auto_log_cpu=False)  # of the user's program
    hooks = [TrackioHook(project="two") for _ in range(2)]
    for hook, name in zip(hooks, "ab", strict=True):  # two work dirs of the same name
        hook.open(Start(name * 12, True, "fold_1", "same", tmp_path, {"is": name}, getLogger("test")))
    for at in (1, 2):
        for number, hook in enumerate(hooks):
            hook.send({"value": number + at / 10}, at)
    hooks[0].send_files([tmp_path / "confusion.png"])
    trackio.log({"value": 5.0}, step=1)
    trackio.finish()
    for hook in hooks:
        hook.close("finished")
    hooks[0].open(Start("c" * 12, True, "fold_1", "same", tmp_path, {"is": "c"}, getLogger("test")))
    hooks[0].send({"value": 2.0}, 1)
    hooks[0].close("finished")
    assert curve(rows_of(own), "value") == [(1, 5.0)]
    runs = {run.config["is"]: run for run in trackio.Api().runs("two")}
    assert [curve(rows_of(runs[name]), "value") for name in "abc"] == [[(1, 0.1), (2, 0.2)], [(1, 1.1), (2, 1.2)], [(1, 2.0)]]
    stored = [path.read_bytes() for path in (Path(trackio.utils.TRACKIO_DIR) / "artifacts" / "two").rglob("*") if path.is_file()]
    assert b"png" in stored
