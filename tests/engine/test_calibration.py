"""Temperatures fitted on val: in the checkpoint, in every prediction that follows from it, and equal after any restart."""

import numpy as np
import pytest

import clipzoo
from clipzoo.engine import checkpoint
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import CheckpointError, ConfigError
from clipzoo.inference import rescoring
from clipzoo.records.results import FoldResult
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.log import make_log

FILES = ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv", "val_predictions.csv")
PLAIN = {"train": {"epochs": 2}}
CALIBRATED = {**PLAIN, "evaluation": {"calibrate": True}}


def content_of(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def true_log_loss(table):
    return -np.log(table.probabilities[np.arange(len(table.labels)), table.labels].astype(float)).mean()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, class_folders):
    """The validation and the first fold of a plain run, and of a calibrated one."""
    from rich.console import Console
    from tiny import tiny_config

    from clipzoo.config import Config

    found = {}
    for name, sections in (("plain", PLAIN), ("calibrated", CALIBRATED)):
        config = Config.from_dict(tiny_config(class_folders, **sections), "tiny")
        folder = tmp_path_factory.mktemp("calibration") / name
        validation = CrossValidation(config, folder, console=Console(quiet=True))
        validation.train(fold=1)
        found[name] = (validation, folder / "fold_1")
    return found


def test_the_temperature_is_fitted_on_val_and_only_divides_the_logits(runs):
    (_, plain), (_, calibrated) = runs["plain"], runs["calibrated"]
    result = FoldResult.read(calibrated)
    found = result.calibration
    assert found["temperature"] != 1 and found["log_loss_after"] < found["log_loss_before"]
    assert found["num_cases"] == result.counts["val"]
    assert (plain / "history.json").read_bytes() == (calibrated / "history.json").read_bytes()
    for name, prefix in (("val_predictions.csv", ""), ("predictions.csv", "test_")):
        before, after = PredictionTable.read(plain / name), PredictionTable.read(calibrated / name)
        powers = before.probabilities.astype(float) ** (1 / found["temperature"])
        np.testing.assert_allclose(after.probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)
        assert true_log_loss(before) == pytest.approx(found[f"{prefix}log_loss_before"], rel=1e-4)
        assert true_log_loss(after) == pytest.approx(found[f"{prefix}log_loss_after"], rel=1e-4)


def test_without_calibration_the_val_part_is_scored_and_nothing_else_is_added(runs):
    validation, folder = runs["plain"]
    result, table = FoldResult.read(folder), PredictionTable.read(folder / "val_predictions.csv")
    assert set(table.case_ids) == set(validation.folds.splits[0].val) and result.calibration == {}
    assert "calibration" not in checkpoint.read(folder / "checkpoint_best.pth")
    read = validation.read_fold(validation.folds.splits[0])
    assert read.val.case_ids == table.case_ids


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before_result", "before_checkpoint", "in_training"])
def test_a_restart_ends_in_equal_files(runs, config_of, tmp_path, quiet, monkeypatch, stopped_at, moment):
    whole = content_of(runs["calibrated"][1])
    validation = CrossValidation(config_of(**CALIBRATED), tmp_path / "run", console=quiet)
    target = {"before_result": (FoldResult, "write"), "before_checkpoint": (checkpoint, "save_calibration")}.get(moment)
    if target is None:
        with stopped_at(4):
            validation.train(fold=1)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(*target, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                validation.train(fold=1)
    assert not (tmp_path / "run" / "fold_1" / "result.json").exists()
    CrossValidation(config_of(**CALIBRATED), tmp_path / "run", console=quiet).train(fold=1)
    assert content_of(tmp_path / "run" / "fold_1") == whole


def test_a_loaded_model_and_a_second_scoring_give_the_probabilities_of_the_run(runs, class_folders):
    validation, folder = runs["calibrated"]
    table = PredictionTable.read(folder / "predictions.csv")
    model = clipzoo.load(folder, device="cpu")
    images = [validation.dataset.source_of(validation.dataset.rows[case_id]) for case_id in table.case_ids]
    images = [getattr(image, "path", image) for image in images]
    np.testing.assert_allclose(model.classify(images).probabilities.numpy(), table.probabilities, atol=1e-6)
    texts = {name: list(found) for name, found in zip(model.classes, model.class_captions, strict=True)}
    plain = PredictionTable.read(runs["plain"][1] / "predictions.csv")
    np.testing.assert_allclose(model.classify(images, texts).probabilities.numpy(), plain.probabilities, atol=1e-6)
    external = rescoring.score_with(validation.config, validation.provenance(validation.folds.splits[0]), folder, validation.dataset, [])
    rows = [validation.dataset.rows[case_id] for case_id in table.case_ids]
    np.testing.assert_allclose(external.table.probabilities[rows], table.probabilities, atol=1e-6)


@pytest.mark.slow
def test_scoring_again_agrees_with_a_calibrated_run(config_of, tmp_path, quiet):
    validation = CrossValidation(config_of(train={"epochs": 1}, evaluation={"calibrate": True}), tmp_path / "run", console=quiet)
    validation.train()
    before = content_of(tmp_path / "run" / "fold_2")
    agreement = rescoring.score_again(validation, make_log(quiet, None))
    assert agreement.holds and agreement.largest == 0 and content_of(tmp_path / "run" / "fold_2") == before


def test_what_cannot_be_calibrated_is_refused_before_training(config_of, tmp_path, quiet):
    for splits, message in (
        ({"val_fraction": 0}, "val part of fold_1.*has no labelled cases"),
        ({"select_on_test": True, "val_fraction": 0}, "select_on_test"),
    ):
        with pytest.raises(ConfigError, match=f"evaluation.calibrate: .*{message}"):
            CrossValidation(config_of(**CALIBRATED, splits=splits), tmp_path / "run", console=quiet)
    assert not (tmp_path / "run").exists()


def test_edited_val_predictions_and_bad_temperatures_are_refused(runs):
    validation, folder = runs["calibrated"]
    path = folder / "val_predictions.csv"
    original = path.read_bytes()
    path.write_bytes(original + b"\n")
    with pytest.raises(CheckpointError, match="val_predictions.csv: damaged or edited"):
        validation.read_fold(validation.folds.splits[0])
    path.write_bytes(original)
    content = checkpoint.read(folder / "checkpoint_best.pth")
    del content["digest"]
    for bad in (0.0, float("nan"), "1"):
        with pytest.raises(CheckpointError, match="temperature must be a number above 0"):
            checkpoint.check_content({**content, "calibration": {"temperature": bad}}, "file", "Advice")


@pytest.mark.slow
def test_operating_points_change_no_training_and_follow_from_the_files(config_of, tmp_path, quiet):
    plain = {"train": {"epochs": 1}}
    CrossValidation(config_of(**plain), tmp_path / "run", console=quiet).train()
    chosen = config_of(**plain, evaluation={"operating_point": {"sensitivity": 0.5}, "positive_class": "圆"})
    summary = CrossValidation(chosen, tmp_path / "run", console=quiet).train()
    (point,) = summary.operating_points
    assert point["class"] == "圆" and point["criterion"] == "sensitivity 0.5" and set(point["thresholds"]) == {"fold_1", "fold_2", "fold_3"}
    assert set(summary.conformal["thresholds"]) == {"fold_1", "fold_2", "fold_3"}


def test_a_class_that_does_not_exist_is_refused_before_training(config_of, tmp_path, quiet):
    config = config_of(evaluation={"operating_point": "youden", "positive_class": "圆形"})
    with pytest.raises(ConfigError, match="evaluation.positive_class: there is no class '圆形'.*圆"):
        CrossValidation(config, tmp_path / "run", console=quiet)
