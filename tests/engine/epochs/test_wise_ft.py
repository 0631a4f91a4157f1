"""WiSE-FT: the mean of starting and trained weights that is best on val is scored, also after a restart."""

import hashlib
import json

import numpy as np
import pytest
import torch
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.engine import checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.epochs import wise_ft
from clipzoo.errors import ConfigError
from clipzoo.grid.tuning import check_validates
from clipzoo.inference import rescoring
from clipzoo.records.results import FoldResult
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.log import make_log

FILES = ("checkpoint_best.pth", "checkpoint_latest.pth", "predictions.csv", "val_predictions.csv", "history.json")


def config_with(root, **sections) -> Config:
    """Chosen by log loss, at a learning rate so large that a mean of the weights is better than the trained ones."""
    evaluation = {"wise_ft": True, "select": "log_loss"}
    sections = {"evaluation": evaluation, "optimizer": {"type": "AdamW", "lr": 3e-2}, "train": {"epochs": 2}, **sections}
    return Config.from_dict(tiny_config(root, **sections), "w")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, class_folders):
    """A fold of a run with WiSE-FT, and the same fold without."""
    from rich.console import Console

    folder, quiet = tmp_path_factory.mktemp("runs"), Console(quiet=True)
    for name, config in (("wise", config_with(class_folders)), ("plain", config_with(class_folders, evaluation={"select": "log_loss"}))):
        CrossValidation(config, folder / name, console=quiet).train(fold=1)
    return folder


def test_the_scored_weights_are_the_mean_that_is_best_on_val(finished):
    result = FoldResult.read(finished / "wise" / "fold_1")
    found, scores = result.interpolation, dict(zip(result.interpolation["alphas"], result.interpolation["scores"], strict=True))
    assert found["alphas"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert scores[found["alpha"]] == min(scores.values()) < scores[1.0] and found["alpha"] > 0
    wise, plain = (checkpoint.read(finished / name / "fold_1" / "checkpoint_best.pth") for name in ("wise", "plain"))
    assert scores[1.0] == plain["state"]["best_score"] == wise["state"]["best_score"]
    differs = any(not torch.equal(wise["model"][key], plain["model"][key]) for key in plain["model"])
    assert differs and wise["interpolation"] == found
    assert not (finished / "wise" / "fold_1" / "checkpoint_start.pth").exists() and "WiSE-FT" in result.selection


def test_the_val_table_is_that_of_the_scored_weights(finished):
    table = PredictionTable.read(finished / "wise" / "fold_1" / "val_predictions.csv")
    losses = -np.log(table.probabilities[np.arange(len(table.labels)), table.labels])
    assert np.mean(losses) == pytest.approx(min(FoldResult.read(finished / "wise" / "fold_1").interpolation["scores"]), rel=1e-4)


def test_means_are_those_of_the_formula():
    start = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    end = {"w": torch.tensor([2.0, 0.1]), "n": torch.tensor(7)}
    for alpha in wise_ft.ALPHAS:
        found = wise_ft.between(start, end, alpha)
        assert torch.allclose(found["w"], (1 - alpha) * start["w"] + alpha * end["w"]) and found["n"] == 7
    assert torch.equal(wise_ft.between(start, end, 1.0)["w"], end["w"]) and torch.equal(wise_ft.between(start, end, 0.0)["w"], start["w"])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["in_training", "after_interpolation"])
def test_a_restart_ends_in_equal_files(finished, class_folders, tmp_path, quiet, stopped_at, monkeypatch, moment):
    config = config_with(class_folders)
    if moment == "in_training":
        with stopped_at(2):
            CrossValidation(config, tmp_path / "w", console=quiet).train(fold=1)
        assert (tmp_path / "w" / "fold_1" / "checkpoint_start.pth").exists()
    else:
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            patch.setattr("clipzoo.engine.runner.Runner.score_val", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
            CrossValidation(config, tmp_path / "w", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "w", console=quiet).train(fold=1)
    for name in FILES:
        one, other = ((folder / "fold_1" / name).read_bytes() for folder in (finished / "wise", tmp_path / "w"))
        assert hashlib.sha256(one).digest() == hashlib.sha256(other).digest(), name


@pytest.mark.slow
def test_a_whole_run_says_the_shares_and_is_scored_again(class_folders, tmp_path, quiet):
    sections = {"evaluation": {"wise_ft": True, "calibrate": True, "select": "log_loss"}, "hooks": ["HistoryHook", "ResultsHook"]}
    validation = CrossValidation(config_with(class_folders, **sections), tmp_path / "w", console=quiet)
    summary = validation.train()
    assert sum("WiSE-FT: share of the trained weights" in note for note in summary.notes) == 1
    agreement = rescoring.score_again(validation, make_log(quiet, None))
    assert agreement.holds and agreement.largest == 0
    for number in (1, 2, 3):
        fold = tmp_path / "w" / f"fold_{number}"
        found = FoldResult.read(fold).interpolation
        written = json.loads((fold / "results" / "training_results.json").read_text(encoding="utf-8"))
        assert written["metrics"]["val"] == found["metrics"], "of the scored weights"
        assert found["metrics"]["log_loss"] == min(found["scores"])


def test_tune_and_inner_folds_refuse_it(class_folders, tmp_path, quiet):
    config = config_with(class_folders)
    with pytest.raises(ConfigError, match=r"^evaluation.wise_ft: must be False for tune"):
        check_validates(config, CrossValidation(config, tmp_path / "w", console=quiet).folds.splits)
    with pytest.raises(ConfigError, match=r"^evaluation.wise_ft: excludes splits.inner_folds"):
        CrossValidation(config_with(class_folders, splits={"inner_folds": 2}), tmp_path / "w", console=quiet)


def test_without_a_val_part_it_is_one_clear_line(class_folders, tmp_path, quiet):
    for splits in ({"val_fraction": 0.0}, {"select_on_test": True}):
        with pytest.raises(ConfigError, match=r"^evaluation.wise_ft: every fold needs a val part that chooses"):
            CrossValidation(config_with(class_folders, evaluation={"wise_ft": True}, splits=splits), tmp_path / "w", console=quiet)
    assert not (tmp_path / "w").exists()
