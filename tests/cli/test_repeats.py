"""``train`` and ``summary`` of several cross-validations of one experiment."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from run_files import table_of, write_run

from clipzoo.errors import CheckpointError, DataError
from clipzoo.records.json_records import write_record
from clipzoo.records.results import Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.scoring.repeats import Repeats, combine, combine_repeats
from clipzoo.scoring.runs import FinishedRun


@pytest.mark.slow
def test_repeats_are_trained_combined_and_shown(command, write_config):
    config = write_config(train={"epochs": 1}, splits={"num_folds": 2, "num_repeats": 2})
    second = command("train", config, "--work-dir", "run", "--repeat", 2)
    assert second.status == 0 and "repeat 2 of 2 -> run/repeat_2" in second.err and "not all repeats are done yet" in second.err
    both = command("train", config, "--work-dir", "run")
    assert both.status == 0 and "2 runs of one experiment" in both.out and both.out.endswith("results: run\n")
    found = Repeats.read("run")
    for name, folder in (("repeat_1", "run"), ("repeat_2", "run/repeat_2")):
        run = next(run for run in found.runs if run["name"] == name)
        assert run["values"] == pytest.approx(Summary.read(folder).pooled)
    assert found.metrics["accuracy"]["mean"] == pytest.approx(np.mean([run["values"]["accuracy"] for run in found.runs]))
    assert command("summary", "run").out.endswith(found.text() + "\n")
    wrong = command("train", config, "--work-dir", "run", "--repeat", 3)
    assert wrong.status == 2 and wrong.err == "error: --repeat: there is no repeat 3; splits.num_repeats is 2\n"


def test_work_dirs_are_combined_as_repeats(command, tmp_path):
    for seed, name in enumerate("abc"):
        write_run(tmp_path / name, table_of(right=0.7, seed=seed))
    done = command("summary", *(tmp_path / name for name in "abc"), "--as-repeats")
    assert done.status == 0 and "3 runs of one experiment" in done.out and "  seeds" in done.out
    alone = command("summary", tmp_path / "a", "--as-repeats")
    assert alone.status == 2 and alone.err == "error: --as-repeats: one work dir. Pass two or more runs of one experiment\n"


def test_what_is_no_repeat_is_refused(command, tmp_path):
    tables = [table_of(right=0.7, seed=seed) for seed in range(2)]
    runs = [FinishedRun("ab"[i], write_run(tmp_path / "ab"[i], table), table) for i, table in enumerate(tables)]
    with pytest.raises(DataError, match="a and b made the same predictions. Pass runs with other seeds or folds"):
        combine([runs[0], replace(runs[0], name="b")], "accuracy")
    with pytest.raises(DataError, match="no metric in common"):
        combine([runs[0], replace(runs[1], summary=replace(runs[1].summary, pooled={"x": 1.0}))], "accuracy")
    for name, epochs, seed in (("a", 1, 1), ("b", 2, 2)):
        config = {"train": {"epochs": epochs}, "runtime": {"seed": seed}, "splits": {"type": "StratifiedGroupKFold", "seed": seed}}
        write_record(tmp_path / name / "config.json", {"config": config})
    done = command("summary", tmp_path / "a", tmp_path / "b", "--as-repeats")
    assert (
        done.status == 2
        and "repeats: a and b differ in train.epochs: 1 -> 2. Runs of one experiment differ in their seeds only" in done.err
    )


def test_an_undefined_metric_has_no_mean(tmp_path):
    tables = [table_of(right=0.7, seed=seed) for seed in range(3)]
    runs = [FinishedRun("abc"[i], write_run(tmp_path / str(i), table), table) for i, table in enumerate(tables)]
    runs[1] = replace(runs[1], summary=replace(runs[1].summary, pooled={**runs[1].summary.pooled, "auroc": np.nan}))
    found = combine(runs, "accuracy")
    assert np.isnan(found.metrics["auroc"]["mean"]) and not np.isnan(found.metrics["accuracy"]["mean"])
    assert "3 runs say little about folds and seeds" in found.text()


@pytest.mark.slow
def test_a_later_repeat_alone_or_a_kill_while_it_starts_is_no_obstacle(command, write_config, tmp_path):
    config = write_config(train={"epochs": 1}, splits={"num_folds": 2, "num_repeats": 2})
    (tmp_path / "here/run/repeat_2").mkdir(parents=True)
    (tmp_path / "here/run/repeat_2/.lock").touch()
    assert command("train", config, "--work-dir", "run", "--repeat", 1).status == 0
    (tmp_path / "here/other/repeat_2").mkdir(parents=True)
    shutil.copy("run/config.json", "other/repeat_2/config.json")
    alone = command("summary", "other")
    assert alone.status == 2 and "other: only repeat_2 was trained so far. Run" in alone.err
    second = write_config(name="second.py", train={"epochs": 2}, splits={"num_folds": 2, "num_repeats": 2})
    refused = command("train", second, "--work-dir", "other")
    assert refused.status == 2 and "repeat_2: made with another config" in refused.err and not (tmp_path / "here/other/fold_1").exists()


def test_equal_folds_are_seeds_and_other_folds_are_splits(tmp_path):
    tables = [table_of(right=0.7, seed=seed) for seed in range(4)]
    runs = [FinishedRun("abcd"[i], write_run(tmp_path / str(i), table), table) for i, table in enumerate(tables)]
    seeds = combine(runs, "accuracy").metrics["accuracy"]
    assert list(combine(runs, "accuracy").components) == ["groups", "seeds"]
    assert "other seeds with these folds" in combine(runs, "accuracy").text()
    assert np.isnan(seeds["splits"]) and seeds["seeds"] == pytest.approx(np.var([r.summary.pooled["accuracy"] for r in runs], ddof=1))
    other = [*runs[:2], *(replace(run, summary=replace(run.summary, folds_digest="other")) for run in runs[2:])]
    both = combine(other, "accuracy").metrics["accuracy"]
    assert list(combine(other, "accuracy").components) == ["groups", "folds", "seeds"]
    apart = [replace(run, summary=replace(run.summary, folds_digest=run.name)) for run in runs]
    assert list(combine(apart, "accuracy").components) == ["groups", "folds and seeds"]
    assert not np.isnan(both["splits"]) and not np.isnan(both["seeds"]) and both["low"] < both["mean"] < both["high"]


def test_runs_of_other_cases_and_results_that_changed_are_refused(tmp_path):
    for name, table in (("x", table_of()), ("x/repeat_2", table_of(seed=1))):
        write_run(tmp_path / name, table)
    assert combine_repeats(tmp_path / "x", 3, "accuracy") is None and combine_repeats(tmp_path / "x", 1, "accuracy") is None
    combine_repeats(tmp_path / "x", 2, "accuracy")
    assert Repeats.read(tmp_path / "x").text() and Repeats.read(tmp_path) is None
    shutil.rmtree(tmp_path / "x/repeat_2")
    write_run(tmp_path / "x/repeat_2", table_of(seed=2))
    with pytest.raises(CheckpointError, match="repeats.json: repeat_2 has other results now"):
        Repeats.read(tmp_path / "x")
    content = json.loads((tmp_path / "x/repeats.json").read_text(encoding="utf-8"))
    (tmp_path / "x/repeats.json").write_text(json.dumps({**content, "metric": "auroc"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="repeats.json: damaged or edited"):
        Repeats.read(tmp_path / "x")

    table = table_of()
    swapped = PredictionTable(table.classes, table.case_ids, table.groups, table.folds, 1 - table.labels, table.probabilities)
    runs = [FinishedRun(name, write_run(tmp_path / name, t), t) for name, t in (("a", table), ("b", swapped))]
    with pytest.raises(DataError, match="labels differ: case .* in a, .* in b"):
        combine(runs, "accuracy")
