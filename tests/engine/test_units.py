"""A run that is scored per patient: selection, folds, summary, scoring again, baselines and comparison use the same unit."""

from __future__ import annotations

import logging

import pytest

from clipzoo.baselines.run import Baselines, Options
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import ConfigError
from clipzoo.inference.rescoring import score_again
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.scoring.runs import FinishedRun, compare
from clipzoo.scoring.units import per_group


@pytest.fixture
def grouped(tmp_path, config_of):
    """Class folders with four patients of three images each, and the tiny config on them."""
    from tiny import write_class_folders

    root = write_class_folders(tmp_path / "images")
    for path in sorted(root.rglob("*.png")):
        number = int(path.stem)
        path.rename(path.with_name(f"{path.parent.name}{number // 3}_{number % 3}.png"))
    dataset = {"type": "ImageFolderDataset", "root": str(root), "group_pattern": r"^(.+)_\d"}
    return lambda **evaluation: config_of(
        data={"dataset": dataset}, train={"epochs": 2}, splits={"num_folds": 2, "val_fraction": 0.3}, evaluation=evaluation
    )


def test_every_number_is_per_patient(grouped, tmp_path, quiet):
    config = grouped(unit="group", join="max")
    CrossValidation(config, tmp_path / "run", console=quiet).train()
    Baselines(config, tmp_path / "run", Options(only=["knn"]), console=quiet).compute()
    for folder in (tmp_path / "run", tmp_path / "run/baselines/knn"):
        table, summary = PredictionTable.read(folder / "oof_predictions.csv"), Summary.read(folder)
        joined = per_group(table, "max")
        assert len(table.case_ids) == 36 and len(joined.case_ids) == 12 == sum(map(sum, summary.confusion))
        assert summary.pooled["accuracy"] == pytest.approx((joined.probabilities.argmax(axis=1) == joined.labels).mean())
        for fold in summary.folds:
            mine = [row for row, name in enumerate(joined.folds) if name == fold["fold"]]
            expected = (joined.probabilities[mine].argmax(axis=1) == joined.labels[mine]).mean()
            assert fold["metrics"]["accuracy"] == pytest.approx(expected)
    runs = [FinishedRun.read(tmp_path / name, name) for name in ("run", "run/baselines/knn")]
    found = compare(runs, [(0, 1)], "accuracy")
    assert found.num_cases == 12 and found.runs[0]["values"]["accuracy"][0] == pytest.approx(runs[0].summary.pooled["accuracy"])
    again = Summary.read(tmp_path / "run")
    assert score_again(CrossValidation(config, tmp_path / "run", console=quiet), logging.getLogger("x")).rows == 36
    assert Summary.read(tmp_path / "run") == again
    assert FoldResult.read(tmp_path / "run/fold_1").counts["test"] == 18


def test_a_patient_of_two_classes_is_refused(grouped, tmp_path, quiet, config_of, class_folders):
    dataset = {"type": "ImageFolderDataset", "root": str(class_folders), "group_pattern": r"^(\d\d)"}
    config = config_of(data={"dataset": dataset}, evaluation={"unit": "group"}, splits={"num_folds": 2})
    with pytest.raises(ConfigError, match="evaluation.unit: the cases of group '00' are of two classes, .* Use evaluation.unit='case'"):
        CrossValidation(config, tmp_path / "run", console=quiet)
    assert not (tmp_path / "run").exists()
