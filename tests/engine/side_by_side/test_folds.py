"""Folds side by side leave the files of folds one after the other, and nothing is lost when one of them fails or all are stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.side_by_side import folds
from clipzoo.engine.side_by_side.folds import FoldsSideBySide, fitting, tasks_of, train_side_by_side
from clipzoo.engine.side_by_side.view import FoldView
from clipzoo.errors import BuildError, ClipzooError, ProcessError
from clipzoo.runtime import device
from clipzoo.runtime.jobs import memory
from clipzoo.runtime.jobs.scheduler import End, Task

FILES = ("checkpoint_best.pth", "checkpoint_latest.pth", "history.json", "metrics.csv", "predictions.csv", "val_predictions.csv")
EVERYTHING = {
    "data": {"num_workers": 3, "augmentation": "standard"},
    "train": {"ema_decay": 0.9},
    "evaluation": {"calibrate": True},
    "hooks": ["ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook"],
}
# Seconds, and versions of the code between two commits.
CLOCKS = re.compile(r'"seconds": [\d.]+')


def digests(folder: Path, names: tuple[str, ...] = FILES) -> dict[str, str]:
    """The digest of every file that must be equal."""
    paths = [path for name in names for path in sorted(folder.rglob(name))] + [folder / "oof_predictions.csv"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def record(path: Path) -> dict:
    """A JSON record without clocks, and without the digest of its content, which knows them."""
    content = json.loads(CLOCKS.sub('"seconds": 0', path.read_text(encoding="utf-8")))
    return {name: value for name, value in content.items() if name != "sha256"}


def test_tasks_are_what_is_not_done_and_a_fold_comes_after_its_inner_runs(config_of, tmp_path, quiet):
    validation = CrossValidation(config_of(splits={"inner_folds": 2, "val_fraction": 0}), tmp_path, console=quiet)
    first, second, third = validation.folds.splits
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "fold_1" / "result.json").touch()
    (tmp_path / "fold_2" / "inner_1").mkdir(parents=True)
    (tmp_path / "fold_2" / "inner_1" / "inner_result.json").touch()
    found = [(task.name, task.after) for task in tasks_of(validation, [first, second, third])]
    inner = ("fold_3-inner_1", "fold_3-inner_2")
    assert found == [("fold_2-inner_2", ()), ("fold_2", ("fold_2-inner_2",)), (inner[0], ()), (inner[1], ()), ("fold_3", inner)]


@pytest.mark.parametrize(
    ("need", "free", "ready", "fit"),
    [
        (10, None, [], 4),
        (10, 34, [], 4),
        (10, 33, [], 3),
        (10, 5, [], 1),
        (10, 22, [4, 4, 4], 4),
        (10, 19, [4, 4, 4], 3),
        (10, 2, [9, 9, 9], 2),
    ],
)
def test_how_many_processes_fit_into_the_memory(need, free, ready, fit):
    assert fitting(4, need, free, ready) == fit


def test_one_run_needs_no_second_process(config_of, tmp_path, quiet, monkeypatch):
    monkeypatch.setattr(folds, "FoldsSideBySide", None)
    validation = CrossValidation(config_of(train={"epochs": 1}), tmp_path / "run", console=quiet)
    assert train_side_by_side(validation, 4, fold=2) is None and (tmp_path / "run" / "fold_2" / "result.json").exists()


@pytest.mark.slow
def test_folds_side_by_side_leave_the_files_of_folds_in_sequence(config_of, tmp_path, quiet):
    config = config_of(**EVERYTHING)
    CrossValidation(config, tmp_path / "sequence", console=quiet).train()
    summary = train_side_by_side(CrossValidation(config, tmp_path / "jobs", console=quiet), 2)
    ours, theirs = digests(tmp_path / "jobs"), digests(tmp_path / "sequence")
    assert ours == theirs and len(ours) == 3 * len(FILES) + 1 and len(summary.folds) == 3
    for name in ("cv_summary.json", *(f"fold_{k}/result.json" for k in (1, 2, 3))):
        assert record(tmp_path / "jobs" / name) == record(tmp_path / "sequence" / name), name
    lines = (tmp_path / "jobs" / "train.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [IWE] ", line) for line in lines), "whole lines only"
    for fold in ("fold_1", "fold_2", "fold_3"):
        assert sum(f"I {fold} epoch " in line for line in lines) == 2 and sum(f"I {fold}: test accuracy" in line for line in lines) == 1
    assert sum("model CLIP: " in line for line in lines) == 1, "the model is introduced once"


@pytest.mark.slow
def test_inner_runs_side_by_side_choose_the_same_epochs(config_of, tmp_path, quiet):
    config = config_of(splits={"num_folds": 2, "inner_folds": 2, "val_fraction": 0})
    CrossValidation(config, tmp_path / "sequence", console=quiet).train()
    train_side_by_side(CrossValidation(config, tmp_path / "jobs", console=quiet), 2)
    names = ("checkpoint_latest.pth", "history.json", "predictions.csv")
    ours, theirs = digests(tmp_path / "jobs", names), digests(tmp_path / "sequence", names)
    assert ours == theirs and len(ours) == 2 + (2 + 4) + 2 + 1
    for name in ("cv_summary.json", "fold_1/inner_2/inner_result.json"):
        assert record(tmp_path / "jobs" / name) == record(tmp_path / "sequence" / name)


@pytest.mark.slow
def test_a_fold_that_fails_stops_no_other_and_is_named(config_of, tmp_path, quiet):
    """The second fold finds a file in the place of its folder."""
    config = config_of(train={"epochs": 1})
    run = tmp_path / "run"
    CrossValidation(config, run, console=quiet).train(3)
    (run / "fold_2").write_text("in the way")
    with pytest.raises(ClipzooError, match="fold_2") as caught:
        train_side_by_side(CrossValidation(config, run, console=quiet), 2)
    assert "Traceback" not in str(caught.value) and (run / "fold_1" / "result.json").exists() and not (run / "cv_summary.json").exists()
    (run / "fold_2").unlink()
    assert train_side_by_side(CrossValidation(config, run, console=quiet), 2) is not None


class FakeChild:
    """A child that is ready, of which the first has begun."""

    def __init__(self, index: int):
        self.task, self.memory, self.has_begun, self.is_done, self.calls = f"fold_{index}", 2**20, index == 1, False, []

    def begin(self):
        self.has_begun = True

    def dismiss(self):
        self.calls.append("dismiss")


@pytest.fixture
def three(config_of, tmp_path, quiet, monkeypatch):
    """``three(is_asked_for)``: three processes, the first of which is about to tell its memory, on a machine with 32 MiB left."""
    monkeypatch.setattr(memory, "available", lambda: 2**25)

    def make(is_asked_for: bool) -> tuple[FoldsSideBySide, list[str]]:
        validation = CrossValidation(config_of(), tmp_path, console=quiet)
        log, said = logging.Logger("test"), []
        log.handle = lambda record: said.append(record.getMessage())
        made = FoldsSideBySide(validation, log, 3, is_asked_for)
        made.view = FoldView.on(quiet, 3, 3)
        made.children = [FakeChild(1), FakeChild(2), FakeChild(3)]
        made.let_begin()
        assert [child.has_begun for child in made.children] == [True, False, False], "the others wait for the first"
        return made, said

    return make


def test_more_processes_than_the_memory_holds_are_refused(three):
    made, _ = three(True)
    message = (
        "--jobs 3: a run takes 20 MiB of memory, and 32 MiB are free beside the first. Use --jobs 2 or --jobs auto, or lower data.batch"
    )
    with pytest.raises(BuildError, match=message):
        made.hear(made.children[0], "memory", {"used": 20 * 2**20, "gpu_used": 0, "gpu_free": 0})


def test_auto_takes_as_many_as_the_memory_holds(three):
    made, said = three(False)
    made.hear(made.children[0], "memory", {"used": 20 * 2**20, "gpu_used": 0, "gpu_free": 0})
    assert said == ["a run takes 20 MiB of memory, and 32 MiB are free beside the first: 2 at a time"]
    assert [child.has_begun for child in made.children] == [True, True, False] and made.children[2].calls == ["dismiss"]
    assert made.ended(Task("fold_3"), 0, 1.0) is End.NOT_BEGUN


def test_runs_on_one_gpu_share_its_memory(three):
    made, said = three(False)
    made.hear(made.children[0], "memory", {"used": 2**20, "gpu_used": 20 * 2**30, "gpu_free": 10 * 2**30})
    assert said == ["a run takes 20.0 GiB of GPU memory, and 10.0 GiB are free beside the first: 1 at a time"] or device.num_gpus() > 1


def test_whatever_ends_a_process_is_one_line(three):
    made, said = three(False)
    made.hear(made.children[1], "stopped", 15)
    for index, status in ((1, -9), (2, 143), (3, 1)):
        assert made.ended(Task(f"fold_{index}"), status, 1.0) is End.BADLY
    with pytest.raises(ProcessError) as caught:
        made.raise_failures([])
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("fold_1: its process was killed by signal 9 (Killed), as the system does when memory runs out. Start again")
    assert second.startswith("fold_2: its process was asked to end by signal 15 (Terminated), and has written its checkpoint. Start again")
    assert third.startswith("fold_3: its process ended with status 1; the lines above say why") and "(the other runs go on)" in said[0]


# --- signals and kills ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(config_of, tmp_path):
    """``command(folder, *more)``: a training of two folds that takes a while, as a process with two children."""
    config = tmp_path / "tiny.py"
    sections = {"train": {"epochs": 60}, "splits": {"num_folds": 2}, "data": {"batch_size": 2}, "hooks": ["HistoryHook", "MetricsCSVHook"]}
    config.write_text(config_of(**sections).dump(), encoding="utf-8")
    started: list[subprocess.Popen] = []
    train = str(Path(__file__).resolve().parents[3] / "tools" / "train.py")

    def start(folder: Path, *more: str) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(train).parents[1])}
        arguments = [sys.executable, train, str(config), "--work-dir", str(folder), *more]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def both_train(folder: Path, process: subprocess.Popen, starts: int, seconds: float = 120) -> None:
    """Wait until this start, the so many-th, trains both folds, and both have finished an epoch at some time."""
    end, log = time.monotonic() + seconds, folder / "train.log"
    while True:
        said = log.read_text(encoding="utf-8").split("2 side by side")[starts:] if log.exists() else []
        if said and all(f"fold_{k}: train " in said[0] and (folder / f"fold_{k}" / "history.json").exists() for k in (1, 2)):
            return
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.02)


def children_of(folder: Path) -> list[int]:
    """The processes that train in this work dir, without their parent; the first is that of the first fold."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line and b"side_by_side.process" in line:
            found.append(int(path.parent.name))
    return sorted(found)


def gone(folder: Path, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while children_of(folder) and time.monotonic() < end:
        time.sleep(0.05)
    return not children_of(folder)


@pytest.fixture
def whole(command, tmp_path) -> dict[str, str]:
    """The digests of the training that nobody disturbs."""
    process = command(tmp_path / "whole")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return digests(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_signals_and_kills_cost_nothing(command, tmp_path, whole):
    """Ctrl-C, a killed child, and a killed parent, one after the other on the same training."""
    run = tmp_path / "run"
    process = command(run, "--jobs", "2")
    both_train(run, process, 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("stopped by signal 2; ") and "Traceback" not in err and gone(run)
    assert all((run / f"fold_{k}" / "checkpoint_latest.pth").exists() for k in (1, 2))
    process = command(run, "--jobs", "2")
    both_train(run, process, 2)
    os.kill(children_of(run)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    failed = re.findall(r"error: (fold_.): its process was killed by signal 9 \(Killed\), as the system.*Start again to resume it", err)
    assert failed and len(set(failed)) == 1 and "Traceback" not in err, err
    for path in run.glob("fold_?/result.json"):
        path.unlink()  # the other one went on to its end: score it again
    process = command(run, "--jobs", "2")
    both_train(run, process, 3)
    process.kill()
    process.communicate()
    assert gone(run), "children whose parent was killed end by themselves"
    process = command(run, "--jobs", "2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and digests(run) == whole, err
