"""A run whose images or texts change between two starts: refused without a trace, or gone on with and noted in every summary."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console
from tiny import tiny_config, write_class_folders

from clipzoo.baselines.run import Baselines, Options
from clipzoo.cli import test as test_command
from clipzoo.cli import train as train_command
from clipzoo.config import Config
from clipzoo.engine import work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.engine.fingerprint import Fingerprint, compare_fingerprint, keep_fingerprint
from clipzoo.errors import CheckpointError, LeakError
from clipzoo.inference import rescoring
from clipzoo.records.folds import Folds
from clipzoo.records.results import Summary
from clipzoo.runtime.log import make_log

SECTIONS = {"train": {"epochs": 1}, "splits": {"type": "StratifiedGroupKFold", "num_folds": 2, "seed": 0, "val_fraction": 0.2}}
CHANGED = "圆/000.png"


def config_for(root):
    return Config.from_dict(tiny_config(root, **SECTIONS), "tiny")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Images, and a run of two folds that has trained the first."""
    folder = tmp_path_factory.mktemp("begun")
    root = write_class_folders(folder / "images", per_class=6)
    CrossValidation(config_for(root), folder / "run", console=Console(quiet=True)).train(fold=1)
    return folder


@pytest.fixture
def place(begun):
    """The same images, one of which is replaced, and a copy of the run; everything is put back afterwards."""
    run, path = shutil.copytree(begun / "run", begun / "copy"), begun / "images" / CHANGED
    original = path.read_bytes()
    Image.new("RGB", (16, 16), (1, 2, 3)).save(path)
    yield begun / "images", run
    path.write_bytes(original)
    shutil.rmtree(run)


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def validation_of(place):
    return CrossValidation(config_for(place[0]), place[1], console=Console(quiet=True))


def test_a_restart_with_a_changed_image_is_refused_without_a_trace(place):
    before = snapshot(place[1])
    for call in (lambda run: run.train(), lambda run: run.train(fold=2), dry_run):
        with pytest.raises(CheckpointError, match=rf"copy: the data changed since it was made: 1 image \({CHANGED}\)\. Restore the data"):
            call(validation_of(place))
    assert snapshot(place[1]) == before


@pytest.mark.slow
def test_an_accepted_change_is_in_every_summary_from_then_on(place):
    summary = validation_of(place).train(accept_changed_data=True)
    note = f"data changed after fold_1 was trained: 1 image ({CHANGED})"
    assert note in summary.notes and f"note: {note}" in summary.tables()
    assert validation_of(place).train() == summary == Summary.read(place[1])
    validation = validation_of(place)
    agreement = rescoring.score_again(validation, make_log(Console(quiet=True), None))
    assert note in validation.summary_of([validation.read_fold(split).result for split in validation.folds.splits], agreement.table).notes


@pytest.mark.slow
def test_a_fold_that_is_in_training_goes_on_with_accepted_data(place, stopped_at):
    root, run = place
    shutil.rmtree(run)
    with stopped_at(step=1):
        validation_of(place).train(fold=1)
    Image.new("RGB", (16, 16), (3, 2, 1)).save(root / CHANGED)
    with pytest.raises(CheckpointError, match="the data changed"):
        validation_of(place).train(fold=1)
    summary = validation_of(place).train(accept_changed_data=True)
    assert summary.notes[-1].startswith("data changed while fold_1 was in training: 1 image")


@pytest.mark.slow
def test_scoring_again_refuses_changed_data_and_never_writes(place):
    root, run = place
    changed = (root / CHANGED).read_bytes()
    validation_of(place).train(accept_changed_data=True)
    Image.new("RGB", (16, 16), (250, 2, 3)).save(root / CHANGED)
    before, log = snapshot(run), make_log(Console(quiet=True), None)
    with pytest.raises(CheckpointError, match="the data changed"):
        rescoring.score_again(validation_of(place), log)
    rescoring.score_again(validation_of(place), log, accept_changed_data=True)
    assert snapshot(run) == before
    (root / CHANGED).write_bytes(changed)


def test_other_labels_and_groups_are_named_and_never_accepted(place):
    root, run = place
    folds = Folds.read(run / "folds.json")
    label = folds.classes.index("圆")
    changes = {"条纹/000.png": {"label": label}, "圆/001.png": {"group": "p1"}, "圆/002.png": {"group": "p1"}}
    cases = tuple(replace(case, **changes.get(case.id, {})) for case in folds.cases)
    with pytest.raises(CheckpointError, match=r"1 case is in another class \(条纹/000.png\); 2 cases are in another group \(圆/001.png"):
        work_dir.check_same(run, config_for(root), replace(folds, cases=cases))
    with pytest.raises(CheckpointError, match="the same cases are split differently"):
        work_dir.check_same(run, config_for(root), replace(folds, splits=folds.splits[:1]))
    (root / CHANGED).rename(root / "条纹" / "099.png")
    try:
        with pytest.raises(CheckpointError, match=r"1 case is missing \(圆/000.png\); 1 case is new \(条纹/099.png\)"):
            validation_of(place).train(accept_changed_data=True)
    finally:
        (root / "条纹" / "099.png").rename(root / CHANGED)


def test_a_fold_of_other_data_is_refused(place, tmp_path):
    """Trained elsewhere on a copy of the images that is not the same, and brought here."""
    root, run = place
    other = shutil.copytree(root, tmp_path / "images")
    Image.new("RGB", (16, 16), (9, 9, 9)).save(other / CHANGED)
    config = config_for(root)
    CrossValidation(config_for(other), tmp_path / "other", console=Console(quiet=True)).train(fold=2)
    shutil.copytree(tmp_path / "other" / "fold_2", run / "fold_2")
    with pytest.raises(CheckpointError, match="fold_2/result.json: belongs to .*other data"):
        CrossValidation(config, run, console=Console(quiet=True)).train(accept_changed_data=True)


@pytest.mark.slow
def test_baselines_are_of_the_same_data(place):
    config, options = config_for(place[0]), Options(only=["majority", "prototype"])
    with pytest.raises(CheckpointError, match="the data changed"):
        Baselines(config, place[1], options, console=Console(quiet=True)).compute()
    shutil.rmtree(place[1])
    Baselines(config, place[1], options, console=Console(quiet=True)).compute()
    Image.new("RGB", (16, 16), (7, 7, 7)).save(place[0] / CHANGED)
    validation_of(place).train(fold=1, accept_changed_data=True)
    with pytest.raises(CheckpointError, match="baselines: computed on other data. Delete that folder"):
        Baselines(config, place[1], options, console=Console(quiet=True)).compute()


def test_external_images_that_were_trained_on_are_known_without_the_training_images(place, tmp_path, monkeypatch):
    """Also what an image was before an accepted change; and only files of a size that occurs among them are read."""
    root, run = place
    validation_of(place).train(fold=1, accept_changed_data=True)
    external = shutil.copytree(root, tmp_path / "external")
    for path in external.rglob("*.png"):
        if path.name != "000.png":
            path.write_bytes(path.read_bytes() + b"\0")  # no decoder minds
    (external / "方块" / "000.png").unlink()
    first = Fingerprint.read(run)
    images, read = rescoring.external_cases(config_for(root), validation_of(place).folds, str(external)), []
    monkeypatch.setattr(images, "content_digest", lambda row, of=images.content_digest: read.append(images.cases[row].id) or of(row))
    known = {size for _, size in first.images()}
    assert rescoring.shared_images(first, images) == [CHANGED, "条纹/000.png"]
    assert set(read) == {case.id for row, case in enumerate(images.cases) if images.path_of(row).stat().st_size in known}
    root.rename(tmp_path / "away")
    try:
        with pytest.raises(LeakError, match=rf"2 images are byte-identical .*\({CHANGED}, 条纹/000.png\)"):
            rescoring.score_external(config_for(root), run, str(external), make_log(Console(quiet=True), None))
    finally:
        (tmp_path / "away").rename(root)


def test_two_processes_that_accept_the_same_change_note_it_once(place):
    root, run = place
    data, log = validation_of(place).dataset, make_log(Console(quiet=True), None)
    one, two = (compare_fingerprint(run, data, accept_changes=True, log=log, console=Console(quiet=True)) for _ in range(2))
    first = keep_fingerprint(run, one, accept_changes=True)
    assert keep_fingerprint(run, two, accept_changes=True).changes == first.changes and len(first.changes) == 1
    assert Fingerprint.read(run).changes == first.changes
    Image.new("RGB", (16, 16), (8, 8, 8)).save(root / CHANGED)
    other = compare_fingerprint(run, data, accept_changes=True, log=log, console=Console(quiet=True))
    keep_fingerprint(run, other, accept_changes=True)
    with pytest.raises(CheckpointError, match="the data changed"):
        keep_fingerprint(run, one)


@pytest.mark.slow
def test_the_command_line_says_it_in_one_line_and_accepts_it_with_a_flag(place, capfd, tmp_path):
    root, run = place
    config = tmp_path / "tiny.py"
    config.write_text(config_for(root).dump(), encoding="utf-8")
    train = [str(config), "--work-dir", str(run)]
    with pytest.raises(SystemExit) as stop:
        train_command.main(train)
    error = capfd.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and "--accept-changed-data" in error
    with pytest.raises(SystemExit) as stop:
        train_command.main([*train, "--accept-changed-data"])
    assert stop.value.code == 0
    assert f"note: data changed after fold_1 was trained: 1 image ({CHANGED})" in capfd.readouterr().out
    Image.new("RGB", (16, 16), (5, 5, 5)).save(root / CHANGED)
    for arguments, statuses in (([], (2,)), (["--accept-changed-data"], (0, 1))):  # 1 where the table is another one now
        with pytest.raises(SystemExit) as stop:
            test_command.main([str(config), str(run), *arguments])
        assert stop.value.code in statuses
