"""Which of two evaluations is chosen, in principle and in a run."""

import math

import pytest

from clipzoo.engine import checkpoint, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.epochs.best import replaces
from clipzoo.engine.evaluation import Evaluation
from clipzoo.records.results import FoldResult

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "best", "greater_is_better", "expected"),
    [
        (0.6, 0.5, True, True),
        (0.4, 0.5, True, False),
        (0.4, 0.5, False, True),
        (0.6, 0.5, False, False),
        (0.5, 0.5, True, True),  # the later one
        (0.5, 0.5, False, True),
        (0.5, NAN, True, True),
        (NAN, 0.5, True, False),
        (NAN, NAN, True, False),  # never a checkpoint without a score
    ],
)
def test_the_later_of_equally_good_evaluations_is_chosen(value, best, greater_is_better, expected):
    assert replaces(value, best, greater_is_better) is expected


@pytest.fixture
def scored_as(monkeypatch):
    """``scored_as(values)``: the evaluations of a run have these values of the selecting metric, one after the other."""

    original = loop.evaluate

    def patch(values):
        remaining = iter(values)

        def evaluate(run, part):
            found = original(run, part)
            if part != "val" or not run.state.evaluating:
                return found
            return Evaluation(part, found.table, {**found.metrics, run.selector.name: next(remaining)})

        monkeypatch.setattr(loop, "evaluate", evaluate)

    return patch


@pytest.mark.slow
def test_the_last_of_equally_good_epochs_is_scored_also_after_a_restart(config_of, tmp_path, quiet, scored_as, stopped_at):
    """Epochs of balanced accuracy 0 no longer choose the first of them."""
    config = config_of(train={"epochs": 5})
    scored_as([0.0, 0.2])
    with stopped_at(8):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    scored_as([0.2, 0.2, 0.1])
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    result = FoldResult.read(tmp_path / "run" / "fold_1")
    assert result.epoch == 4 and not result.notes
    state = checkpoint.read(tmp_path / "run" / "fold_1" / checkpoint.LATEST)["state"]
    assert state["curve"] == [[1.0, 0.0], [2.0, 0.2], [3.0, 0.2], [4.0, 0.2], [5.0, 0.1]]


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_goes_on_with_a_note(config_of, tmp_path, quiet, scored_as, stopped_at):
    """Until there, the first of equally good epochs was kept, and the result says so."""
    config = config_of(train={"epochs": 4})
    scored_as([0.2, 0.2])
    with stopped_at(8):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    path = tmp_path / "run" / "fold_1" / checkpoint.LATEST
    content = checkpoint.read(path)
    del content["state"]["curve"]
    checkpoint.write(path, content)
    scored_as([0.2, 0.1])
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    result = FoldResult.read(tmp_path / "run" / "fold_1")
    assert result.epoch == 3 and any("earlier version, which kept the first of equally good epochs" in note for note in result.notes)
