"""Which of two evaluations is chosen, in principle and in a run."""

import math

import pytest

from clipzoo.engine import checkpoint, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.epochs.best import Score, is_better
from clipzoo.engine.evaluation import Evaluation
from clipzoo.records.results import FoldResult

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "best", "up", "expected"),
    [(0.5, NAN, True, True), (0.6, 0.5, True, True), (0.5, 0.5, True, False), (0.4, 0.5, False, True), (NAN, NAN, True, False)],
)
def test_only_strictly_better_values_are_better(value, best, up, expected):
    assert is_better(value, best, up) is expected


@pytest.mark.parametrize(
    ("score", "best", "expected"),
    [
        ((0.5, 0.9), (0.5, 1.0), True),
        ((0.5, 1.1), (0.5, 1.0), False),
        ((0.5, 1.0), (0.5, 1.0), True),  # the later one
        ((0.5, NAN), (0.5, NAN), True),  # retrieval
        ((0.5, 1.0), (0.5, NAN), True),  # the best is of an earlier version
        ((0.6, 9.0), (0.5, 0.1), True),  # the metric comes first
        ((0.4, 0.1), (0.5, 9.0), False),
        ((NAN, NAN), (NAN, NAN), False),  # never a checkpoint without a score
        ((NAN, 0.1), (0.5, 9.0), False),
    ],
)
def test_ties_go_to_the_lower_log_loss_then_to_the_later(score, best, expected):
    assert Score(*score).replaces(Score(*best), greater_is_better=True) is expected


@pytest.fixture
def scored_as(monkeypatch):
    """``scored_as(scores)``: the evaluations of a run have these values and log losses, one after the other."""

    def patch(scores):
        remaining = iter(scores)
        original = loop.evaluate

        def evaluate(run, part):
            found = original(run, part)
            if part != "val" or run.state.evaluating is False:
                return found
            value, log_loss = next(remaining)
            return Evaluation(part, found.table, {**found.metrics, run.selector.name: value}, log_loss=log_loss)

        monkeypatch.setattr(loop, "evaluate", evaluate)

    return patch


SCORES = [(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.0, 1.5), (0.0, 1.9)]


def test_an_epoch_of_equal_metric_and_lower_log_loss_is_scored(config_of, tmp_path, quiet, scored_as):
    """Four epochs of balanced accuracy 0 no longer choose the first."""
    scored_as(SCORES)
    CrossValidation(config_of(train={"epochs": 5}), tmp_path / "run", console=quiet).train(fold=1)
    assert FoldResult.read(tmp_path / "run" / "fold_1").epoch == 4


def test_the_log_loss_of_a_tie_survives_a_restart(config_of, tmp_path, quiet, scored_as, stopped_at):
    """Stopped in epoch 4, before the lowest log loss; the best so far is compared by what the checkpoint remembers."""
    scored_as(SCORES)
    config = config_of(train={"epochs": 5})
    with stopped_at(8):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    content = checkpoint.read(tmp_path / "run" / "fold_1" / checkpoint.LATEST)
    before = content["state"]
    assert before["best_epoch"] == 2 and before["best_log_loss"] == 2.0 and before["epoch"] == 2
    scored_as([(0.0, 2.1), (0.0, 2.2), (0.0, 2.3)])
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    assert FoldResult.read(tmp_path / "run" / "fold_1").epoch == 2


def test_a_checkpoint_of_an_earlier_version_goes_on_with_a_note(config_of, tmp_path, quiet, scored_as, stopped_at):
    """It knows the best metric, not its log loss: the next tie is newer knowledge, and the result says so."""
    scored_as(SCORES)
    config = config_of(train={"epochs": 5})
    with stopped_at(8):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    path = tmp_path / "run" / "fold_1" / checkpoint.LATEST
    content = checkpoint.read(path)
    del content["state"]["best_log_loss"]
    checkpoint.write(path, content)
    scored_as([(0.0, 2.1), (0.0, 2.2), (0.0, 2.3)])
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    result = FoldResult.read(tmp_path / "run" / "fold_1")
    assert result.epoch == 3 and any("earlier version, which kept the first of equally good epochs" in note for note in result.notes)


def test_log_loss_need_not_be_among_the_metrics(config_of, tmp_path, quiet):
    config = config_of(evaluation={"metrics": ["BalancedAccuracy"]}, train={"epochs": 1})
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    state = checkpoint.read(tmp_path / "run" / "fold_1" / checkpoint.BEST)["state"]
    assert state["metrics"].keys() == {"balanced_accuracy"} and 0 < state["best_log_loss"] < 10
