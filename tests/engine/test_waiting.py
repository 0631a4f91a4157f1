"""Signals while a run waits, evaluates or scores: it ends before the next batch, and goes on as if nothing had been."""

import hashlib
import logging
import multiprocessing
import signal
from contextlib import closing

import pytest

from clipzoo.engine import checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.engine.waiting import Interrupted, Waiting
from clipzoo.signals import Interrupt

EQUAL = ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "metrics.csv", "predictions.csv")


def digests(folder):
    return {name: hashlib.sha256((folder / "fold_1" / name).read_bytes()).hexdigest() for name in EQUAL}


def read_of(validation, at):
    """Let a signal come with the read of the case that is the ``at``-th to be evaluated."""
    seen, read = [], type(validation.dataset).read_image

    def reading(row):
        seen.append(row)
        if len(seen) == at:
            validation.interrupt.signal = signal.SIGTERM
        return read(validation.dataset, row)

    validation.dataset.read_image = reading
    return seen


@pytest.mark.parametrize(
    ("every_steps", "epochs", "reads_before"),
    [
        pytest.param(None, 1, (22,), id="at the end of an epoch", marks=pytest.mark.slow),
        pytest.param(2, 1, (18,), id="within an epoch"),
        pytest.param(None, 2, range(1, 60, 4), id="anywhere", marks=pytest.mark.slow),
        pytest.param(2, 2, range(1, 60, 4), id="anywhere with evaluations in steps", marks=pytest.mark.slow),
    ],
)
def test_a_signal_in_any_wait_ends_the_run_and_it_goes_on_bit_for_bit(config_of, tmp_path, quiet, every_steps, epochs, reads_before):
    """18 or 19 cases are trained on in an epoch of three steps, 5 or 6 are evaluated, 12 are scored; each is one read."""
    sections = {"hooks": ["HistoryHook", {"type": "MetricsCSVHook", "every_steps": 1}], "evaluation": {"every_steps": every_steps}}
    sections["runtime"] = {"image_cache": None}  # every case is read every time
    config = config_of(train={"epochs": epochs}, data={"eval_batch_size": 2}, **sections)
    whole = CrossValidation(config, tmp_path / "whole", console=quiet)
    reads = read_of(whole, at=0)
    whole.train(fold=1)
    expected, total = digests(tmp_path / "whole"), len(reads)
    interrupted_in = set()
    for at in [*(at for at in reads_before if at < total - 3), total - 3]:
        folder = tmp_path / f"stopped-{at}"
        stopped = CrossValidation(config, folder, console=quiet)
        reads = read_of(stopped, at)
        with pytest.raises(Interrupted) as end:
            stopped.train(fold=1)
        assert end.value.signal == signal.SIGTERM and len(reads) <= at + 8, "the batch that was begun is the last"
        state = checkpoint.read(folder / "fold_1" / checkpoint.LATEST)["state"]
        interrupted_in.add((state["evaluating"], state["batch"] > 0))
        CrossValidation(config, folder, console=quiet).train(fold=1)
        assert digests(folder) == expected, at
    assert interrupted_in >= {(True, every_steps is not None), (False, False)}


def test_several_processes_agree_after_a_step_and_one_leaves_only_where_no_batch_comes(runner):
    run = runner.run
    run.interrupt, run.world_size = Interrupt(), 2
    waiting = Waiting(run)
    waiting.waits(1000.0)
    run.interrupt.signal = signal.SIGHUP
    waiting.waits(0.0)
    with pytest.raises(Interrupted) as end:
        waiting.waits(11.0)
    assert end.value.signal == signal.SIGHUP and not end.value.agreed
    assert not (run.folder / checkpoint.LATEST).exists(), "what only one process knows is no checkpoint"


def test_a_note_is_logged_once(runner):
    waiting, lines = Waiting(runner.run), []
    runner.run.log.addFilter(lambda record: lines.append(record.getMessage()))
    for line in ("one", "two", "one"):
        waiting.note(line)
    assert lines == ["one", "two"]


@pytest.mark.slow
def test_a_run_with_workers_ends_them(config_of, tmp_path, quiet):
    validation = CrossValidation(config_of(data={"num_workers": 1}, train={"epochs": 1}), tmp_path / "run", console=quiet)
    validation.train(fold=1)
    assert not multiprocessing.active_children()
    dry_run(validation)
    assert not multiprocessing.active_children()


@pytest.fixture
def runner(config_of, tmp_path, quiet):
    """A runner of the first fold of the tiny config."""
    validation = CrossValidation(config_of(), tmp_path / "run", console=quiet)
    with closing(validation.runner(validation.folds.splits[0], logging.Logger("test"))) as made:
        yield made
