"""When checkpoints are written, and what training in the meantime does to them."""

import threading
from pathlib import Path

import pytest
import torch

from clipzoo.engine import checkpoint, loop
from clipzoo.engine import saver as saver_module
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.saver import NEXT, Saver, snapshot
from clipzoo.errors import DataError, TrainingError
from clipzoo.files import file_sha256
from clipzoo.hooks import Hook
from clipzoo.signals import Stopped


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """Records what is written; a write takes ``seconds`` and waits for ``free``."""

    def __init__(self, clock: Clock, seconds: float = 0.0):
        self.clock, self.seconds, self.written, self.free = clock, seconds, [], threading.Event()
        self.free.set()
        self.error = None

    def __call__(self, path: Path, content: dict) -> None:
        assert self.free.wait(10)
        if self.error is not None:
            raise self.error
        self.clock.now += self.seconds
        self.written.append((path.name, content["w"].tolist()))
        path.touch()


@pytest.fixture
def disk():
    return Disk(Clock())


@pytest.fixture
def saver(disk, tmp_path):
    return Saver(disk, tmp_path / "best", tmp_path / "latest", disk.clock)


def weights(*values: float) -> dict:
    return {"w": torch.tensor(values)}


def test_a_twentieth_of_the_time_or_a_minute(saver, disk):
    assert saver.is_due(), "the first one is written at once: what it takes is not known yet"
    disk.seconds = 0.5
    saver.save_latest(weights(1), background=False)
    disk.clock.now = 9.9
    assert not saver.is_due()
    disk.clock.now = 10.0
    assert saver.is_due(), "20 x 0.5 s since it began"
    disk.seconds = 30.0
    saver.save_latest(weights(2), background=False)
    disk.clock.now = 69.0
    assert not saver.is_due()
    disk.clock.now = 70.0
    assert saver.is_due(), "a minute"


def test_training_goes_on_and_the_snapshot_is_what_was(saver, disk):
    disk.free.clear()
    best, now = weights(1.0), weights(2.0)
    saver.keep_best(best)
    best["w"].fill_(-1)
    saver.save_latest(now, background=True)
    now["w"].fill_(-2)
    disk.clock.now = 1000.0
    assert not saver.is_due() and not disk.written, "it is still being written"
    saver.keep_best(weights(3.0))  # belongs to the next one
    disk.free.set()
    saver.wait()
    assert disk.written == [("best.next", [1.0]), ("latest", [2.0])], "the best first"
    saver.save_latest(weights(4.0), background=False)
    saver.save_latest(weights(5.0), background=False)
    assert disk.written[2:] == [("best.next", [3.0]), ("latest", [4.0]), ("latest", [5.0])], "best weights are written once"


def test_what_cannot_be_written_in_the_background_is_told_at_the_next_occasion(saver, disk):
    for ask in (saver.is_due, saver.wait, saver.close, lambda: saver.save_latest(weights(2), background=True)):
        disk.error = DataError("there: cannot be written (No space left on device)")
        saver.save_latest(weights(1), background=True)
        while not saver._job.done():
            pass
        with pytest.raises(DataError, match="No space left"):
            ask()
        disk.error = None
    saver.save_latest(weights(3), background=True)
    saver.close()
    assert disk.written == [("latest", [3.0])]


def test_a_failed_run_leaves_no_best_weights_that_its_latest_checkpoint_does_not_know(saver, disk):
    saver.keep_best(weights(1))
    saver.close()
    saver.save_latest(weights(2), background=False)
    assert disk.written == [("latest", [2.0])]


def test_a_snapshot_copies_every_tensor_and_nothing_else():
    value = {"a": [torch.zeros(2), {"b": torch.ones(1, requires_grad=True)}], "c": "x", "d": 3}
    value["tied"] = value["a"][0]
    copy = snapshot(value)
    assert copy["tied"] is copy["a"][0], "so that the file has it once"
    assert copy["c"] == "x" and copy["d"] == 3 and not copy["a"][1]["b"].requires_grad
    value["a"][0].add_(1)
    assert copy["a"][0].tolist() == [0.0, 0.0]


def test_files_do_not_depend_on_when_they_were_written(make_runner):
    """Those of every epoch in the background, and those of the end only."""
    digests = []
    for due in (True, False):
        runner = make_runner(str(due), train={"epochs": 4})
        runner.run.saver.is_due = lambda due=due: due
        runner.fit()
        digests.append([file_sha256(runner.run.folder / name) for name in (checkpoint.BEST, checkpoint.LATEST)])
    assert digests[0] == digests[1]


def test_the_files_of_a_failed_run_agree_and_a_full_disk_is_one_line(make_runner, monkeypatch):
    class Spoil(Hook):
        def after_epoch(self, run):
            if run.state.epoch == 2:
                run.model.logit_scale.data.fill_(float("nan"))

    runner = make_runner("spoilt", train={"epochs": 5})
    runner.run.hooks = [Spoil()]
    runner.run.saver.is_due = lambda: runner.run.state.epoch == 1
    with pytest.raises(TrainingError, match="not finite"):
        runner.fit()
    best, latest = (checkpoint.read(runner.run.folder / name)["state"] for name in (checkpoint.BEST, checkpoint.LATEST))
    assert best["best_step"] == latest["best_step"] == latest["step"] == runner.run.steps_per_epoch
    assert {path.name for path in runner.run.folder.glob("*.pth*")} == {checkpoint.BEST, checkpoint.LATEST}

    def full(path, content):
        raise DataError(f"{path}: cannot be written (No space left on device). Free some space, or choose another folder")

    monkeypatch.setattr(checkpoint, "write", full)
    runner = make_runner("full", train={"epochs": 5}, runtime={"save_every": 1})
    with pytest.raises(DataError, match="Free some space"):
        runner.fit()
    assert runner.run.state.epoch < 4, "told soon after, not at the end"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_is_killed_beside_its_latest_checkpoint_ends_the_same(config_of, tmp_path, quiet, monkeypatch, moment):
    """In the third epoch: before the latest checkpoint, or before the best weights have their name."""
    config = config_of(train={"epochs": 4}, runtime={"save_every": 1})
    folder, write, replace, saves = tmp_path / "killed" / "fold_1", checkpoint.write, saver_module.os.replace, 0

    def killed(path, content):
        nonlocal saves
        saves += path.name == checkpoint.LATEST
        if saves == 3 and moment == "before":
            raise KeyboardInterrupt
        write(path, content)

    def named(source, target):
        if saves == 3 and str(source).endswith(NEXT):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "write", killed)
        patch.setattr(saver_module.os, "replace", named)
        patch.setattr(loop, "replaces", lambda *_: True)  # every epoch is the best so far
        CrossValidation(config, tmp_path / "killed", console=quiet).train(fold=1)
    assert (folder / (checkpoint.BEST + NEXT)).exists()
    checkpoint.settle_best(folder)
    best, latest = (checkpoint.read(folder / name)["state"] for name in (checkpoint.BEST, checkpoint.LATEST))
    assert best["best_step"] == latest["best_step"] and not (folder / (checkpoint.BEST + NEXT)).exists()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "replaces", lambda *_: True)
        CrossValidation(config, tmp_path / "whole again", console=quiet).train(fold=1)
        CrossValidation(config, tmp_path / "killed", console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv"):
        assert file_sha256(tmp_path / "whole again" / "fold_1" / name) == file_sha256(folder / name), name


def test_a_second_signal_does_not_wait_for_checkpoints(make_runner, monkeypatch, saver, disk):
    """Raised while the first one saves: neither are the best weights written, nor does the process wait for the thread that writes."""

    class Watch(Hook):
        def after_epoch(self, run):
            run.interrupt.signal = 2

        def after_fit(self, run, error):
            ends.append(error)

    def second(run, **options):
        raise Stopped(2)

    ends, runner = [], make_runner(train={"epochs": 5})
    runner.run.hooks = [Watch()]
    monkeypatch.setattr(checkpoint, "save_latest", second)
    with pytest.raises(Stopped):
        runner.fit()
    assert isinstance(ends[0], Stopped) and runner.run.state.best_epoch == 1
    assert not (runner.run.folder / checkpoint.BEST).exists()
    disk.free.clear()
    saver.save_latest(weights(1), background=True)
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "checkpoints"] == [True]
    disk.free.set()
    saver.close()
