"""Inner folds: the choice of the epoch, the last run on all training cases, restarts at any point, and what they exclude."""

import hashlib
import json
import math
from pathlib import Path

import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.engine import cross_validation, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.engine.epochs import inner
from clipzoo.engine.evaluation import Evaluation
from clipzoo.errors import CheckpointError, ConfigError, TrainingError
from clipzoo.records.inner import InnerResult
from clipzoo.records.results import FoldResult

NAN = math.nan
EPOCHS = 3


def result(scores: list[float], epochs: list[int] | None = None) -> InnerResult:
    return InnerResult("fold_2-inner_1", "auroc", epochs or list(range(1, len(scores) + 1)), scores, {}, 0.0)


@pytest.mark.parametrize(
    ("results", "up", "epoch", "value"),
    [
        ([result([0.1, 0.9, 0.2]), result([0.1, 0.1, 0.9])], True, 3, 0.55),
        ([result([0.1, 0.9, 0.2]), result([0.1, 0.1, 0.9])], False, 1, 0.1),
        ([result([0.5, 0.7, 0.6]), result([0.7, 0.5, 0.6])], True, 3, 0.6),  # ties: the later epoch
        ([result([0.1 + 0.2, 0.3]), result([0.0, 0.0])], True, 2, 0.15),  # equal but for the last digit
        ([result([0.1, 0.2, 0.9]), result([0.3, 0.4], epochs=[1, 2])], True, 2, 0.3),  # one was stopped early
        ([result([0.2, 0.4], epochs=[2, 4]), result([0.4, 0.2], epochs=[2, 4])], True, 4, 0.3),
        ([result([0.6, 0.5]), result([NAN, NAN])], True, 1, 0.6),  # never defined there
        ([result([0.6, 0.5]), result([NAN, 0.1])], True, 2, 0.3),  # defined later only
    ],
)
def test_the_epoch_with_the_best_mean_is_chosen(results, up, epoch, value):
    choice = inner.choose(results, up)
    assert choice.epoch == epoch and choice.value == pytest.approx(value) and choice.num_folds == 2
    assert str(choice) == "best auroc over 2 inner folds"


def test_a_metric_that_is_never_defined_chooses_nothing():
    with pytest.raises(TrainingError, match="^fold_2: auroc was never defined on all inner val parts"):
        inner.choose([result([NAN]), result([NAN])], True)


def nested_config(root: Path, **sections) -> Config:
    sections = {"splits": {"inner_folds": 2}, "train": {"epochs": EPOCHS}, "hooks": ["HistoryHook", "MetricsCSVHook"], **sections}
    return Config.from_dict(tiny_config(root, **sections), "nested")


@pytest.fixture(scope="module")
def nested(tmp_path_factory, class_folders):
    """The first of three folds with two inner folds, not interrupted; the inner runs think best of the second epoch."""
    from rich.console import Console

    folder = tmp_path_factory.mktemp("nested") / "run"
    with pytest.MonkeyPatch.context() as patch:
        second_is_best(patch)
        validation = CrossValidation(nested_config(class_folders), folder, console=Console(quiet=True))
        validation.train(fold=1)
    return validation, folder


def second_is_best(patch: pytest.MonkeyPatch) -> None:
    original = loop.evaluate

    def evaluate(run, part):
        found = original(run, part)
        return Evaluation(part, found.table, {**found.metrics, "balanced_accuracy": 0.5 if run.state.epoch == 2 else 0.1})

    patch.setattr(loop, "evaluate", evaluate)


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files but those with times; of records, the content without its seconds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (".lock", "timing.json"):
            content = path.read_bytes()
            if path.name in ("inner_result.json", "result.json"):
                record = json.loads(content)
                content = json.dumps({key: value for key, value in record.items() if key not in ("seconds", "sha256")}).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def test_inner_runs_leave_their_history_and_no_checkpoint(nested):
    _, folder = nested
    for number in (1, 2):
        files = {path.name for path in (folder / "fold_1" / f"inner_{number}").iterdir()}
        assert files == {"history.json", "timing.json", "inner_result.json", ".lock"}
        history = json.loads((folder / "fold_1" / f"inner_{number}" / "history.json").read_text(encoding="utf-8"))
        assert [row["epoch"] for row in history] == [1, 2, 3]
    assert not (folder / "fold_2").exists()


def test_the_result_says_how_the_epoch_was_chosen(nested):
    _, folder = nested
    found = FoldResult.read(folder / "fold_1")
    assert (found.epoch, found.epochs_trained, found.checkpoint) == (2, 2, "checkpoint_latest.pth")
    assert found.selection == "best balanced_accuracy over 2 inner folds" and found.counts == {"train": 24, "val": 0, "test": 12}
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert "splits.inner_folds=2 trains 3 networks per fold: 2 on 1/2 of its training cases, 3 epochs each" in log
    assert "fold_1: epoch 2 has the best balanced_accuracy over 2 inner folds (mean 0.5000)" in log
    assert inner.chosen_epochs(nested[0].config, [found, found]) == ["epochs chosen by 2 inner folds: 2, 2 (of 3)"]


def test_the_last_run_is_the_beginning_of_one_without_inner_folds(nested, config_of, tmp_path, quiet):
    """Same cases, same seeds, same learning rates: the schedule is that of all epochs, not of the chosen number."""
    _, folder = nested
    CrossValidation(config_of(splits={"val_fraction": 0.0}, train={"epochs": EPOCHS}), tmp_path / "plain", console=quiet).train(fold=1)
    plain, last = (json.loads((f / "fold_1" / "history.json").read_text(encoding="utf-8")) for f in (tmp_path / "plain", folder))
    assert last == plain[:2] and len(plain) == 3


def test_a_fold_without_inner_folds_is_as_before(config_of, nested):
    assert nested[0].folds.spec["inner_folds"] == 2
    validation = config_of(splits={"val_fraction": 0.0})
    plain = CrossValidation(validation, nested[1].parent / "unused")
    assert "inner_folds" not in plain.folds.spec and plain.folds.digest == nested[0].folds.digest and plain.inner == {}


class Killed(BaseException):
    """The process is gone: nothing is saved after it."""


@pytest.mark.parametrize("deaths", [[4], pytest.param([2, 3, 9, 1, 4], marks=pytest.mark.slow)])
def test_a_run_that_is_killed_anywhere_ends_as_if_nothing_had_been(nested, tmp_path, quiet, monkeypatch, deaths):
    """Two inner runs of 6 steps (2 in an epoch), then 6 steps (3 in an epoch); each death is at that step since the last start."""
    validation, folder = nested
    second_is_best(monkeypatch)
    original, counts = loop.step, iter(())

    def step(run, group):
        if next(counts, None) == 0:
            raise Killed
        original(run, group)

    monkeypatch.setattr(loop, "step", step)
    for death in deaths:
        counts = iter(range(death, -1, -1))
        with pytest.raises(Killed):
            CrossValidation(validation.config, tmp_path / "run", console=quiet).train(fold=1)
    counts = iter(())
    CrossValidation(validation.config, tmp_path / "run", console=quiet).train(fold=1)
    assert contents(tmp_path / "run" / "fold_1") == contents(folder / "fold_1")


@pytest.mark.slow
def test_a_kill_before_the_checkpoints_are_deleted_leaves_none(nested, tmp_path, quiet, monkeypatch):
    validation, folder = nested
    second_is_best(monkeypatch)

    def die(_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "delete_checkpoints", die)
        with pytest.raises(Killed):
            CrossValidation(validation.config, tmp_path / "run", console=quiet).train(fold=1)
    assert (tmp_path / "run" / "fold_1" / "inner_1" / "checkpoint_latest.pth").exists()
    CrossValidation(validation.config, tmp_path / "run", console=quiet).train(fold=1)
    assert contents(tmp_path / "run" / "fold_1") == contents(folder / "fold_1")


def test_a_foreign_or_edited_inner_result_is_refused(nested, tmp_path, quiet):
    import shutil

    validation, folder = nested
    shutil.copytree(folder, tmp_path / "run")
    fold = tmp_path / "run" / "fold_1"
    (fold / "result.json").unlink()
    shutil.copy(fold / "inner_1" / "inner_result.json", fold / "inner_2" / "inner_result.json")
    with pytest.raises(CheckpointError, match=r"inner_2/inner_result.json: belongs to fold_1-inner_1, not fold_1-inner_2. Delete "):
        CrossValidation(validation.config, tmp_path / "run", console=quiet).train(fold=1)
    path = fold / "inner_1" / "inner_result.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.5", "0.6"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="inner_1/inner_result.json: damaged or edited"):
        CrossValidation(validation.config, tmp_path / "run", console=quiet).train(fold=1)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"splits": {"inner_folds": 2, "select_on_test": True}}, "splits.select_on_test"),
        ({"evaluation": {"every_steps": 2}}, "evaluation.every_steps"),
        ({"train": {"steps": 5}}, "train.steps"),
        ({"evaluation": {"calibrate": True}}, "evaluation.calibrate"),
    ],
)
def test_what_inner_folds_exclude(class_folders, tmp_path, sections, key):
    with pytest.raises(ConfigError, match=f"^{key}: excludes splits.inner_folds, as it "):
        CrossValidation(nested_config(class_folders, **sections), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_dry_run_says_what_inner_folds_cost(class_folders, tmp_path):
    lines = dry_run(CrossValidation(nested_config(class_folders), tmp_path / "run"))
    assert any("trains 3 networks per fold" in line for line in lines) and not (tmp_path / "run").exists()
