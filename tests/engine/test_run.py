"""A whole run on tiny class folders: the contract on disk, independence of folds, restarts, and scoring again."""

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clipzoo.engine import checkpoint, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import CheckpointError, DataError
from clipzoo.inference import rescoring
from clipzoo.metrics import Accuracy, BalancedAccuracy
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.log import make_log
from clipzoo.scoring.summary import make_summary
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.intervals import classification_intervals

EQUAL_FILES = ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, class_folders):
    """The tiny config, trained without interruption."""
    from rich.console import Console
    from tiny import tiny_config

    from clipzoo.config import Config

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = Config.from_dict(tiny_config(class_folders, train={"epochs": 3}), "tiny")
    validation = CrossValidation(config, folder, console=Console(quiet=True))
    return validation, validation.train(), folder


def test_the_contract_is_on_disk(finished):
    validation, summary, folder = finished
    assert {p.name for p in folder.iterdir()} == {
        "config.py", "config.json", "folds.json", "data.json", "train.log", "oof_predictions.csv", "cv_summary.json",
        "fold_1", "fold_2", "fold_3", ".lock",
    }  # fmt: skip
    for split in validation.folds.splits:
        fold = folder / split.name
        assert {"checkpoint_best.pth", "checkpoint_latest.pth", "history.json", "predictions.csv", "result.json"} <= {
            p.name for p in fold.iterdir()
        }
        history = json.loads((fold / "history.json").read_text(encoding="utf-8"))
        assert [row["epoch"] for row in history] == [1, 2, 3] and {"loss", "lr", "val_accuracy"} <= set(history[0])
        assert FoldResult.read(fold).counts == {part: len(getattr(split, part)) for part in ("train", "val", "test")}


def test_every_case_is_predicted_once_and_every_number_follows_from_the_table(finished):
    validation, summary, folder = finished
    table = PredictionTable.read(folder / "oof_predictions.csv")
    assert sorted(table.case_ids) == [case.id for case in validation.dataset.cases]
    np.testing.assert_allclose(table.probabilities.sum(axis=1), 1, atol=1e-6)
    assert summary.pooled["accuracy"] == Accuracy().compute(table.labels, table.probabilities)
    fold = PredictionTable.read(folder / "fold_2" / "predictions.csv")
    assert summary.folds[1]["metrics"]["accuracy"] == Accuracy().compute(fold.labels, fold.probabilities)
    again = Summary.read(folder)
    assert again == summary and "mean ± sd" in again.tables() and "方块" in again.tables()


def test_the_same_command_skips_what_is_done(finished, quiet):
    validation, summary, folder = finished
    free = ("train.log", "data.json")  # images that were written just now are read again, and data.json then says when
    before = {p: digest(p) for p in folder.rglob("*") if p.is_file() and p.name not in free}
    again = CrossValidation(validation.config, folder, console=quiet)
    assert again.train() == summary
    assert {p: digest(p) for p in before} == before


def test_a_fold_alone_equals_the_fold_in_sequence(finished, tmp_path, quiet):
    validation, _, folder = finished
    alone = CrossValidation(validation.config, tmp_path / "alone", console=quiet)
    assert alone.train(fold=3) is None, "no summary before all folds are done"
    for name in EQUAL_FILES:
        assert digest(tmp_path / "alone" / "fold_3" / name) == digest(folder / "fold_3" / name), name


@pytest.mark.parametrize("steps", [4, *(pytest.param(other, marks=pytest.mark.slow) for other in (2, 6))])
def test_a_stopped_run_goes_on_bit_for_bit(finished, config_of, tmp_path, quiet, stopped_at, steps):
    """Ended as by Ctrl-C in the middle of an epoch (3 steps each) or at its end, and started again."""
    _, _, folder = finished

    with stopped_at(steps):
        CrossValidation(config_of(train={"epochs": 3}), tmp_path / "stopped", console=quiet).train(fold=1)
    assert not (tmp_path / "stopped" / "fold_1" / "result.json").exists()
    CrossValidation(config_of(train={"epochs": 3}), tmp_path / "stopped", console=quiet).train(fold=1)
    whole, stopped = (checkpoint.read(f / "fold_1" / "checkpoint_latest.pth") for f in (folder, tmp_path / "stopped"))
    assert all(torch.equal(whole["model"][key], stopped["model"][key]) for key in whole["model"])
    for name in EQUAL_FILES:
        assert digest(tmp_path / "stopped" / "fold_1" / name) == digest(folder / "fold_1" / name), name


@pytest.mark.slow
def test_worker_processes_change_nothing(finished, config_of, tmp_path, quiet):
    _, _, folder = finished
    config = config_of(train={"epochs": 3}, data={"num_workers": 2})
    CrossValidation(config, tmp_path / "workers", console=quiet).train(fold=1)
    assert digest(tmp_path / "workers" / "fold_1" / "history.json") == digest(folder / "fold_1" / "history.json")


def test_dumped_config_repeats_the_run(finished):
    from clipzoo.config import Config

    validation, _, folder = finished
    assert Config.load(folder / "config.py").plain() == validation.config.plain()


def test_scoring_again_agrees_and_notices_a_change(finished, quiet):
    validation, _, folder = finished
    log = make_log(quiet, None)
    agreement = rescoring.score_again(validation, log)
    assert agreement.holds and agreement.largest == 0 and not agreement.changed
    path = folder / "oof_predictions.csv"
    original = path.read_text(encoding="utf-8")
    table = PredictionTable.read(path)
    table.probabilities[0] = np.roll(table.probabilities[0], 1)
    table.write(path)
    assert not rescoring.score_again(validation, log).holds
    path.write_text(original, encoding="utf-8")


def test_external_images_are_scored_by_every_fold_and_by_their_mean(finished, tmp_path, quiet):
    from tiny import write_class_folders

    validation, _, folder = finished
    log = make_log(quiet, None)
    data = write_class_folders(tmp_path / "external", classes=("圆", "条纹"), per_class=4, seed=7)
    external = rescoring.score_external(validation.config, folder, str(data), log)
    ensemble = external.tables["predictions.csv"]
    assert set(external.folds) == {"fold_1", "fold_2", "fold_3"} and len(ensemble.case_ids) == 8
    assert {ensemble.classes[label] for label in ensemble.labels} == {"圆", "条纹"}
    expected = Accuracy().compute(ensemble.labels, ensemble.probabilities)
    assert external.metrics["accuracy"] == expected and "ensemble" in external.table()
    found = classification_intervals(Cases.from_table(ensemble)).overall["accuracy"]
    low, high = external.intervals["accuracy"]["low"], external.intervals["accuracy"]["high"]
    assert (low, high) == (found.low, found.high) and f"[{low:.3f}, {high:.3f}]" in external.table()
    assert "95 % interval: of the ensemble, over 8 groups" in external.table() and "note: interval: " in external.table()
    external.write(tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert stored["intervals"]["accuracy"]["low"] == low
    del stored["intervals"]  # as an earlier version wrote it
    (tmp_path / "out" / "summary.json").write_text(json.dumps(stored), encoding="utf-8")
    external.write(tmp_path / "out")
    stored["ensemble"]["accuracy"] += 0.5
    (tmp_path / "out" / "summary.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(CheckpointError, match="holds results of other images or weights"):
        external.write(tmp_path / "out")


def test_external_images_that_were_trained_on_are_refused(finished, class_folders, quiet):
    from clipzoo.errors import LeakError

    validation, _, folder = finished
    with pytest.raises(LeakError, match="36 images are byte-identical"):
        rescoring.score_external(validation.config, folder, str(class_folders), make_log(quiet, None))


@pytest.mark.parametrize("change", [{"train": {"epochs": 4}}, {"splits": {"seed": 1}}, {"model": {"embed_dim": 16}}])
def test_another_config_in_the_same_folder_is_refused(finished, config_of, quiet, change):
    _, _, folder = finished
    section, values = next(iter(change.items()))
    base = {"train": {"epochs": 3}}
    base[section] = {**base.get(section, {}), **values}
    with pytest.raises(CheckpointError, match=rf"made with another config.*{section}\.{next(iter(values))}"):
        CrossValidation(config_of(**base), folder, console=quiet).train()


def test_hooks_that_only_watch_may_change_and_those_that_end_training_may_not(finished, config_of, quiet):
    _, summary, folder = finished
    watching = config_of(train={"epochs": 3}, hooks=["ConsoleHook", {"type": "HistoryHook"}])
    assert CrossValidation(watching, folder, console=quiet).train() == summary
    with pytest.raises(CheckpointError, match=r"made with another config.*hooks: \[\] -> \[.*EarlyStoppingHook"):
        CrossValidation(config_of(train={"epochs": 3}, hooks=[{"type": "EarlyStoppingHook"}]), folder, console=quiet).train()


def hold_and_fork(folder: Path, told) -> None:
    """Lock ``folder``, start a process as a loader would, and die without it."""
    with work_dir.locked(folder):
        told.send(multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start())
        told.recv()
        os._exit(0)


def test_a_fold_is_locked_while_its_process_lives_and_no_longer(tmp_path):
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold_and_fork, args=(tmp_path / "fold_1", there))
    process.start()
    here.recv()
    with pytest.raises(CheckpointError, match="another process is training this fold"), work_dir.locked(tmp_path / "fold_1"):
        pass
    here.send(None)
    process.join()
    with work_dir.locked(tmp_path / "fold_1"):
        pass


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_number_of_processes(config_of, tmp_path, quiet, monkeypatch):
    """The joint batch would be another, and half an epoch of one process is not half an epoch of two."""
    validation = CrossValidation(config_of(train={"epochs": 1}), tmp_path / "run", console=quiet)
    validation.train(fold=1)
    (tmp_path / "run" / "fold_1" / "result.json").unlink()
    path = tmp_path / "run" / "fold_1" / "checkpoint_latest.pth"
    content = checkpoint.read(path)
    checkpoint.write(path, {**content, "generators": content["generators"] * 2})
    with pytest.raises(CheckpointError, match="the number of processes was 2 and is 1"):
        validation.train(fold=1)


def test_one_fold_chosen_on_test_makes_the_summary_optimistic(finished):
    """Also where it is not the first: folds of a file may have a val part or not."""
    validation, _, folder = finished
    results = [FoldResult.read(folder / split.name) for split in validation.folds.splits]
    results[1] = replace(results[1], selection="best balanced_accuracy on test, optimistic: the reported cases chose the epoch")
    table = PredictionTable.read(folder / "oof_predictions.csv")
    summary = make_summary("tiny", [BalancedAccuracy()], validation.folds, results, table)
    assert summary.optimistic and summary.selection == f"{results[0].selection}; {results[1].selection}"


def test_a_checkpoint_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    def fail(content, file):
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    (tmp_path / "c.pth").write_bytes(b"before")
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(DataError, match=r"c.pth: cannot be written \(torch could not save it: .*Choose another folder"):
        checkpoint.write(tmp_path / "c.pth", {})
    assert [path.name for path in tmp_path.iterdir()] == ["c.pth"] and (tmp_path / "c.pth").read_bytes() == b"before"


def test_a_full_disk_is_called_one(tmp_path):
    """A limit of the file size stands for it: torch itself only says 'unexpected pos'."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"c.pth: cannot be written \(File too large\)"):
            checkpoint.write(tmp_path / "c.pth", {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


def test_an_external_set_is_scored_as_the_test_part_was(config_of, tmp_path, quiet):
    """Also where a frozen text tower was encoded once, in full precision, under autocast for the rest."""
    text = {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "freeze": "all"}
    runtime = {"device": "cpu", "threads": 1, "precision": "bf16"}
    validation = CrossValidation(
        config_of(train={"epochs": 1}, model={"text_encoder": text}, runtime=runtime), tmp_path / "run", console=quiet
    )
    validation.train(fold=1)
    table = PredictionTable.read(tmp_path / "run" / "fold_1" / "predictions.csv")
    provenance = validation.provenance(validation.folds.splits[0])
    found = rescoring.score_with(validation.config, provenance, tmp_path / "run" / "fold_1", validation.dataset, [])
    rows = [validation.dataset.rows[case_id] for case_id in table.case_ids]
    np.testing.assert_allclose(found.table.probabilities[rows], table.probabilities, atol=1e-6)


def test_folds_of_different_recipes_are_noted(finished):
    from dataclasses import replace

    from clipzoo.scoring.summary import unlike

    _, _, folder = finished
    result = FoldResult.read(folder / "fold_1")
    assert (result.device, result.precision, result.processes) == ("cpu", "fp32", 1)
    assert unlike([result, result]) == []
    notes = unlike([result, replace(result, precision="bf16", processes=4)])
    assert notes == [
        "the folds were trained with different precision: bf16, fp32",
        "the folds were trained with different processes: 1, 4",
    ]


@pytest.mark.slow
def test_a_run_does_not_go_on_in_another_precision(config_of, tmp_path, quiet):
    config = config_of(train={"epochs": 1})
    validation = CrossValidation(config, tmp_path / "run", console=quiet)
    validation.train(fold=1)
    (tmp_path / "run" / "fold_1" / "result.json").unlink()
    path = tmp_path / "run" / "fold_1" / "checkpoint_latest.pth"
    checkpoint.write(path, {**checkpoint.read(path), "precision": "bf16"})
    with pytest.raises(CheckpointError, match="was trained in bf16, but runtime.precision='auto' means fp32"):
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
