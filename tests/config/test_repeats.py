"""Repeats of the cross-validation."""

from __future__ import annotations

import pytest

from clipzoo.config.repeats import repeats_of
from clipzoo.engine import build
from clipzoo.engine.cross_validation import CrossValidation


def test_each_repeat_has_seeds_and_a_folder_of_its_own(config_of, tmp_path):
    config = config_of(splits={"num_repeats": 3}, runtime={"device": "cpu", "seed": 7})
    repeats = repeats_of(config, tmp_path)
    assert [repeat.folder for repeat in repeats] == [tmp_path, tmp_path / "repeat_2", tmp_path / "repeat_3"]
    assert [(r.config.splits.seed, r.config.runtime.seed) for r in repeats] == [(0, 7), (1, 8), (2, 9)]
    assert repeats[0].config is config and repeats[1].config.splits.num_repeats == 1 and config.splits.seed == 0
    assert ("splits.seed", 2) in repeats[2].config.overridden()
    data = build.dataset(config)
    divisions = [build.folds(repeat.config, data) for repeat in repeats]
    assert len({tuple(split.test for split in folds.splits) for folds in divisions}) == 3
    assert all("num_repeats" not in folds.spec for folds in divisions)
    assert divisions[0] == build.folds(config_of(), data) and repeats_of(config_of(), tmp_path)[1:] == []
    assert [r.config.runtime.seed for r in repeats_of(config_of(runtime={}, splits={"num_repeats": 2}), tmp_path)[1:]] == [43]


@pytest.mark.slow
def test_a_repeat_is_the_experiment_with_other_seeds(config_of, tmp_path, quiet):
    short = {"train": {"epochs": 1}}
    _, second = repeats_of(config_of(**short, splits={"num_folds": 2, "num_repeats": 2}), tmp_path / "run")
    CrossValidation(second.config, second.folder, console=quiet).train()
    alone = config_of(**short, splits={"num_folds": 2, "seed": 1}, runtime={"device": "cpu", "threads": 1, "seed": 43})
    CrossValidation(alone, tmp_path / "alone", console=quiet).train()
    for name in ("folds.json", "oof_predictions.csv", "fold_1/history.json", "fold_2/predictions.csv"):
        assert (second.folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


@pytest.mark.slow
def test_repeats_are_added_to_a_finished_experiment(config_of, tmp_path, quiet):
    once, twice = (config_of(train={"epochs": 1}, splits={"num_folds": 2, "num_repeats": n}) for n in (1, 2))
    CrossValidation(once, tmp_path, console=quiet).train()
    before = (tmp_path / "oof_predictions.csv").read_bytes()
    CrossValidation(twice, tmp_path, console=quiet).train()
    assert (tmp_path / "oof_predictions.csv").read_bytes() == before
