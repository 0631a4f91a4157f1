"""A file that is damaged, edited, or of another fold, run or config is refused, before anything is trained or summed up."""

from __future__ import annotations

import multiprocessing
import random
import shutil

import pytest

from clipzoo.engine import checkpoint, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import CheckpointError, ClipzooError
from clipzoo.files import file_sha256, temporary_path
from clipzoo.hooks.results import ResultsHook
from clipzoo.inference import rescoring
from clipzoo.records.folds import Folds
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.log import make_log


@pytest.fixture(scope="module")
def finished(tmp_path_factory, class_folders):
    """Three trained folds; copied before they are damaged."""
    from rich.console import Console
    from tiny import tiny_config

    from clipzoo.config import Config

    folder = tmp_path_factory.mktemp("runs") / "run"
    CrossValidation(Config.from_dict(tiny_config(class_folders, train={"epochs": 1}), "tiny"), folder, console=Console(quiet=True)).train()
    return folder


@pytest.fixture
def run(finished, tmp_path, config_of, quiet):
    """A copy of it, and the cross-validation that made it."""
    folder = shutil.copytree(finished, tmp_path / "run")
    return folder, CrossValidation(config_of(train={"epochs": 1}), folder, console=quiet)


def test_a_finished_run_passes_all_checks(run, quiet):
    folder, validation = run
    before = Summary.read(folder)
    assert validation.train() == before
    assert rescoring.score_again(validation, make_log(quiet, None)).largest == 0.0


@pytest.mark.parametrize("name", ["checkpoint_best.pth", "checkpoint_latest.pth"])
def test_a_checkpoint_of_another_fold_is_neither_continued_nor_scored(run, quiet, name):
    folder, validation = run
    shutil.copy(folder / "fold_2" / name, folder / "fold_1" / name)
    with pytest.raises(
        CheckpointError, match="fold_1.*(belongs to fold_2, not fold_1|is not the checkpoint that was scored for result.json)"
    ):
        rescoring.score_again(validation, make_log(quiet, None))
    (folder / "fold_1" / "result.json").unlink()
    if name == "checkpoint_latest.pth":
        with pytest.raises(CheckpointError, match="latest.pth: belongs to fold_2, not fold_1. Delete .*fold_1 to train that fold again"):
            validation.train(fold=1)


@pytest.mark.parametrize("changes", [{"optimizer": {"type": "AdamW", "lr": 1e-3}}, {"splits": {"seed": 7}}])
def test_a_fold_of_another_run_is_neither_continued_nor_summed_up(run, config_of, tmp_path, quiet, changes):
    folder, validation = run
    CrossValidation(config_of(train={"epochs": 1}, **changes), tmp_path / "other", console=quiet).train(fold=1)
    shutil.rmtree(folder / "fold_1")
    shutil.copytree(tmp_path / "other" / "fold_1", folder / "fold_1")
    for call in (validation.train, validation.summarise):
        with pytest.raises(CheckpointError, match="fold_1/result.json: belongs to (another config|other folds).*Delete .*fold_1 to train"):
            call()
    (folder / "fold_1" / "result.json").unlink()
    with pytest.raises(CheckpointError, match="checkpoint_latest.pth: belongs to (another config|other folds)"):
        validation.train(fold=1)


def test_an_edited_label_a_cut_number_and_a_result_of_another_fold_are_refused(run):
    folder, validation = run
    path = folder / "fold_1" / "predictions.csv"
    whole, table = path.read_bytes(), PredictionTable.read(path)
    path.write_bytes(whole[:-2] + b"\n")
    with pytest.raises(CheckpointError, match="fold_1/predictions.csv: damaged or edited"):
        validation.summarise()
    path.write_bytes(whole)
    shutil.copy(folder / "fold_2" / "result.json", folder / "fold_1" / "result.json")
    with pytest.raises(CheckpointError, match="fold_1/result.json: belongs to fold_2, not fold_1"):
        validation.summarise()
    shutil.copy(folder / "fold_2" / "predictions.csv", path)
    with pytest.raises(CheckpointError, match="fold_1/result.json: belongs to fold_2"):
        validation.summarise()
    for changed, words in (
        ({"labels": table.labels[::-1].copy()}, "labels differ from those of the data"),
        ({"groups": ("P1",) * len(table.case_ids)}, "groups differ from those of the data"),
        ({"folds": ("fold_2",) * len(table.case_ids)}, "predictions of fold_2"),
        ({"classes": tuple(reversed(table.classes))}, "has other classes"),
    ):
        PredictionTable(**{**vars(table), **changed}).write(path)
        result = FoldResult(**{**vars(FoldResult.read(folder / "fold_2")), "predictions_digest": file_sha256(path)})
        FoldResult(**{**vars(result), "fold": "fold_1", "provenance": {**result.provenance, "fold": "fold_1"}}).write(folder / "fold_1")
        with pytest.raises(CheckpointError, match=f"fold_1/predictions.csv: .*{words}"):
            validation.summarise()


def test_a_damaged_finished_fold_is_noticed_before_the_others_train(run):
    folder, validation = run
    shutil.rmtree(folder / "fold_1")
    path = folder / "fold_3" / "checkpoint_best.pth"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="fold_3/checkpoint_best.pth: damaged.*Delete .*fold_3 to train that fold again"):
        validation.train()
    assert not (folder / "fold_1").exists()


def test_a_best_checkpoint_under_the_name_of_a_latest_one_is_refused(run):
    folder, validation = run
    (folder / "fold_1" / "result.json").unlink()
    shutil.copy(folder / "fold_1" / "checkpoint_best.pth", folder / "fold_1" / "checkpoint_latest.pth")
    with pytest.raises(CheckpointError, match="checkpoint_latest.pth: is a best checkpoint with the name of a latest one"):
        validation.train(fold=1)


@pytest.fixture(scope="module")
def short_content(finished):
    """What a latest checkpoint holds, with one tensor of its model."""
    content = checkpoint.read(finished / "fold_1" / "checkpoint_latest.pth")
    name, tensor = next(iter(content["model"].items()))
    return {**content, "model": {name: tensor}, "optimizer": {**content["optimizer"], "state": {}}}


@pytest.mark.parametrize("key", [*checkpoint.BestContent.__dataclass_fields__, *checkpoint.LatestContent.__dataclass_fields__])
def test_missing_and_mistyped_keys_of_a_checkpoint_are_one_clear_line(short_content, tmp_path, key):
    content = short_content
    for changed in ({k: v for k, v in content.items() if k != key}, {**content, key: 3.5}, {**content, key: {"a": object}}):
        if key in ("raw_model", "averages", "live", "calibration", "interpolation") and key not in changed:
            continue
        try:
            checkpoint.write(tmp_path / "c.pth", changed)
        except Exception:  # what torch cannot save it cannot load
            continue
        with pytest.raises(CheckpointError) as caught:
            checkpoint.read(tmp_path / "c.pth", kind="latest")
        assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{tmp_path / 'c.pth'}: ")


@pytest.mark.parametrize("name", ["cv_summary.json", "fold_1/result.json", "folds.json", "config.json"])
def test_200_flipped_bits_of_each_record_are_refused(run, name):
    """Or say the same: some digits behind the sixteenth are no part of a number."""
    folder, _ = run
    path = folder / name
    read = {"cv_summary.json": lambda: Summary.read(folder), "fold_1/result.json": lambda: FoldResult.read(folder / "fold_1")}.get(name)
    if name == "folds.json":
        read = lambda: Folds.read(path)  # noqa: E731
    if name == "config.json":
        read = lambda: work_dir.read_experiment(folder)  # noqa: E731
    content, same, draw = path.read_bytes(), read(), random.Random(name)
    refused = 0
    for bit in draw.sample(range(len(content) * 8), 200):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert read() == same
        except ClipzooError as error:
            refused += 1
            assert "\n" not in str(error) and path.name in str(error)
    assert refused >= 195


@pytest.mark.parametrize("number", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_flipped_bits_of_tables_and_checkpoints_are_refused(run, quiet, number):
    folder, validation = run
    draw = random.Random(1)
    for name, read in (
        ("fold_2/predictions.csv", lambda: validation.read_fold(validation.folds.splits[1])),
        ("fold_2/checkpoint_best.pth", lambda: checkpoint.read(folder / "fold_2/checkpoint_best.pth")),
        ("fold_2/checkpoint_latest.pth", lambda: checkpoint.read(folder / "fold_2/checkpoint_latest.pth")),
        ("oof_predictions.csv", lambda: Summary.read(folder)),
    ):
        content = (folder / name).read_bytes()
        for bit in draw.sample(range(len(content) * 8), number):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(flipped)
            with pytest.raises(CheckpointError, match=f"{name}: (damaged|truncated|not|.*not UTF-8)"):
                read()
        (folder / name).write_bytes(content)


@pytest.mark.slow
def test_what_changes_the_last_digits_is_noted_for_ever(config_of, tmp_path, quiet, stopped_at):
    def validation(size):
        config = config_of(train={"epochs": 2}, splits={"num_folds": 2}, data={"eval_batch_size": size})
        return CrossValidation(config, tmp_path / "run", console=quiet)

    validation(4).train(fold=2)
    with stopped_at(3):
        validation(4).train(fold=1)
    summary = validation(5).train()
    words = "after step 3 data.eval_batch_size was 4 and is 5: equal to an uninterrupted run up to rounding"
    assert f"fold_1: {words}" in summary.notes and not any(note.startswith("fold_2") for note in summary.notes)
    assert "the folds were trained with different data.eval_batch_size (5, 4), which changes the last digits" in summary.notes


@pytest.mark.slow
def test_the_recorded_epoch_is_that_of_the_scored_file(config_of, tmp_path, quiet, stopped_at):
    """Best and latest of different moments: the latest is older, as after a kill between the two writings."""
    config = config_of(train={"epochs": 2}, runtime={"save_every": 5})
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    fold = tmp_path / "run" / "fold_1"
    result, content = FoldResult.read(fold), checkpoint.read(fold / "checkpoint_best.pth")
    assert (result.epoch, result.step) == (content["state"]["best_epoch"], content["state"]["best_step"])
    assert result.checkpoint_digest == content["digest"]
    latest = checkpoint.read(fold / "checkpoint_latest.pth")
    older = {**latest["state"], "best_epoch": 7, "best_step": 70}
    checkpoint.write(fold / "checkpoint_latest.pth", {**latest, "state": older})
    (fold / "result.json").unlink()
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    assert FoldResult.read(fold).epoch == result.epoch


@pytest.mark.slow
def test_a_fold_is_done_when_everything_of_it_is_on_disk(config_of, tmp_path, quiet, monkeypatch):
    """A kill after the pictures were begun: they are drawn at the next start."""

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    config = config_of(train={"epochs": 1}, hooks=["ResultsHook"])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ResultsHook, "after_test", killed)
        CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    assert not work_dir.is_done(tmp_path / "run" / "fold_1")
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    assert (tmp_path / "run" / "fold_1" / "results" / "model_metrics.png").exists()


def test_what_a_kill_left_half_written_is_removed(config_of, tmp_path, quiet):
    config, folder = config_of(train={"epochs": 1}), tmp_path / "run"
    CrossValidation(config, folder, console=quiet).train(fold=1)
    left = [temporary_path(folder / "fold_2" / "checkpoint_latest.pth"), temporary_path(folder / "folds.json")]
    theirs = [folder / "fold_2" / ".notes.tmp", folder / "fold_2" / "a.tmp"]
    (folder / "fold_2").mkdir()
    for path in (*left, *theirs):
        path.write_bytes(b"half")
    CrossValidation(config, folder, console=quiet).train(fold=2)
    assert not any(path.exists() for path in left) and all(path.exists() for path in theirs)


def test_of_two_processes_that_open_one_new_work_dir_one_wins(config_of, tmp_path, quiet):
    configs = [config_of(train={"epochs": n}) for n in range(1, 9)]
    validations = [CrossValidation(config, tmp_path / "run", console=quiet) for config in configs]
    context = multiprocessing.get_context("fork")  # locks are between processes
    start, outcomes = context.Barrier(len(configs)), context.SimpleQueue()

    def open_it(validation):
        start.wait(60)
        try:
            work_dir.open_experiment(tmp_path / "run", validation.config, validation.folds)
            outcomes.put("won")
        except CheckpointError as error:
            outcomes.put(str(error))

    processes = [context.Process(target=open_it, args=(validation,), daemon=True) for validation in validations]
    for process in processes:
        process.start()
    said = [outcomes.get() for _ in processes]
    for process in processes:
        process.join(60)
    assert said.count("won") == 1 and sum("made with another config" in words for words in said) == len(said) - 1
    assert work_dir.read_experiment(tmp_path / "run").config in [config.plain() for config in configs]


def test_advice_fits_the_place_of_a_damaged_checkpoint(finished, tmp_path):
    """In a folder of downloads nobody is told to delete the folder."""
    path = tmp_path / "downloads" / "checkpoint_best.pth"
    path.parent.mkdir()
    path.write_bytes((finished / "fold_1" / "checkpoint_best.pth").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="Use another copy of the file$"):
        checkpoint.read(path)
