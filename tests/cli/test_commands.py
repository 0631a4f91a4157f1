"""What each command shows, writes, and does not load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipzoo import __version__
from clipzoo.cli import COMMANDS, command_line
from clipzoo.config import Config
from clipzoo.records.folds import Folds

HEAVY = ("torch", "torchvision", "timm", "transformers", "open_clip", "sklearn", "scipy", "matplotlib")
REPORT = "import sys; print('\\nLOADED', *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
CALL = "import sys\nfrom clipzoo.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code"


@pytest.fixture
def loaded(repo, tmp_path):
    """``loaded(code, *arguments)``: which top-level modules a fresh Python has after running ``code``, and what it printed."""

    def run(code: str, *arguments: object) -> tuple[set[str], str]:
        environment = {**os.environ, "PYTHONPATH": str(repo), "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", f"{code}\n{REPORT}", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return set(done.stderr.rpartition("LOADED")[2].split()), done.stdout

    return run


def test_importing_the_package_loads_nothing_heavy(loaded):
    modules, _ = loaded("import clipzoo; clipzoo.Config; clipzoo.ClipzooError")
    assert not modules & {*HEAVY, "numpy", "PIL"}


def test_help_loads_nothing_heavy_and_names_every_command(loaded):
    code = CALL.replace("main(sys.argv[1:])", "[call(name) for name in sys.argv[1:]]")
    code = code.replace("try:", "def call(name):\n  try: main([name, '--help'])\n  except SystemExit as end: assert not end.code\ntry:")
    modules, shown = loaded(code, *COMMANDS)
    assert not modules & {*HEAVY, "numpy", "PIL", "addict"}
    assert all(f"usage: clipzoo {name} " in shown for name in COMMANDS)


def test_version_loads_nothing_heavy(loaded):
    modules, shown = loaded(CALL, "--version")
    assert not modules & {*HEAVY, "numpy"} and shown == f"clipzoo {__version__}\n"


@pytest.mark.parametrize("name", ["train", "test", "baselines", "grid", "print_config", "make_folds", "fewshot train"])
def test_every_command_finds_a_config_in_the_same_place(command, name):
    more = ["work"] if name == "test" else []
    ended = command(*name.split(), "clip/r18_bertzh_digit_5fold", *more)
    assert ended.status == 2 and ended.err.count("\n") == 1
    assert ended.err.endswith("no such config file. Did you mean 'clip/r18_bertzh_digits_5fold'?\n")


def test_the_default_work_dir_is_called_after_the_config():
    for name in ("clip/r18_bertzh_digits_5fold", "configs/clip/r18_bertzh_digits_5fold.py"):
        assert command_line.default_work_dir(Config.load(name)) == Path("work_dirs/r18_bertzh_digits_5fold")


def test_print_config_loads_no_torch(loaded, write_config):
    modules, shown = loaded(CALL, "print_config", write_config())
    assert not modules & {*HEAVY, "numpy"} and "model.embed_dim = 32" in shown


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize(("form", "says"), [([], "mean ± sd"), (["--markdown"], "| 方块: NPV"), (["--latex"], "\\toprule")])
def test_summary_loads_no_torch(loaded, finished, form, says):
    modules, shown = loaded(CALL, "summary", finished, *form)
    assert not modules & set(HEAVY) and says in shown and "方块" in shown


def test_make_folds_loads_no_torch(loaded, write_config, tmp_path):
    modules, shown = loaded(CALL, "make_folds", write_config(), "--out", tmp_path / "folds.json")
    assert not modules & set(HEAVY) and "digest" in shown


def test_sample_data_of_drawn_pictures_loads_no_torch(loaded, tmp_path):
    modules, shown = loaded(CALL, "make_sample_data", "hip", "--num-samples", 6, "--out", tmp_path / "hip")
    assert not modules & {"torch", "transformers"} and str(tmp_path / "hip") in shown


def test_the_door_in_tools_is_the_same_command(repo, tmp_path):
    command = [sys.executable, "-X", "importtime", repo / "tools" / "train.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python {repo}/tools/train.py ") and "--work-dir" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "clipzoo" in imported and not imported & {*HEAVY, "numpy"}


def test_clipzoo_alone_names_its_commands(command):
    for arguments in ([], ["--help"]):
        ended = command(*arguments)
        assert ended.status == 0 and all(name in ended.out for name in COMMANDS)
    assert command("--version").out.strip().count(".") == 2
    assert command("print-config", "--help").status == 0, "a dash is as good as an underscore"


# --- print_config ----------------------------------------------------------------------------------------------------------------------


def test_print_config_shows_where_every_value_comes_from(command, write_config, tmp_path):
    base = write_config(name="base.py")
    leaf = tmp_path / "leaf.py"
    leaf.write_text("_base_ = 'base.py'\n\ntrain = dict(epochs=7)\n", encoding="utf-8")
    shown = command("print_config", leaf, "--cfg-options", "optimizer.lr=0.5").out.splitlines()
    origin = {line.partition(" = ")[0]: line.partition("  # ")[2].strip() for line in shown}
    assert origin["train.epochs"] == f"{leaf}:3" and origin["optimizer.lr"] == "--cfg-options"
    assert origin["data.batch_size"].startswith(f"{base}:")
    assert "hooks.0.type" in origin


def test_print_config_python_reads_back_equal(command, repo, tmp_path):
    source = repo / "configs" / "clip" / "r18_bertzh_digits_5fold.py"
    ended = command("print_config", source, "--python", "--check")
    again = tmp_path / "again.py"
    again.write_text(ended.out, encoding="utf-8")
    assert ended.status == 0 and Config.load(again).plain() == Config.load(source).plain()


def test_print_config_check_reports_all_problems(command, write_config):
    ended = command("print_config", write_config(train={"epoch": 1}, model={"embed_dim": "wide"}), "--check")
    assert ended.status == 2 and "'epoch'" in ended.err and "model.embed_dim" in ended.err and ended.out == ""


# --- list_modules ----------------------------------------------------------------------------------------------------------------------


def test_list_modules_shows_arguments_and_purpose(command):
    ended = command("list_modules", "LOSSES", "HEADS")
    assert ended.status == 0 and ended.out.startswith("LOSSES (") and "HEADS (" in ended.out
    assert "MultiPositiveContrastiveLoss(" in ended.out and "[clipzoo.models.losses.contrastive]" in ended.out
    assert "in_features" not in ended.out, "the builder supplies it"


def test_list_modules_knows_all_tables(command):
    from clipzoo.registries import TABLES

    shown = command("list_modules").out
    assert all(f"{table} (" in shown for table in TABLES) and "ResNet(depth" in shown


# --- make_folds and make_sample_data ---------------------------------------------------------------------------------------------------


def test_make_folds_writes_folds_that_training_takes(command, write_config, tmp_path):
    out = tmp_path / "folds.json"
    ended = command("make_folds", write_config(), "--out", out)
    folds = Folds.read(out)
    assert ended.status == 0 and folds.digest in ended.out and len(folds.splits) == 3
    assert "fold_3 test" in ended.out and "条纹" in ended.out
    splits = f"dict(_delete_=True, type='FromFile', path={str(out)!r})"
    leaf = tmp_path / "leaf.py"
    leaf.write_text(f"_base_ = 'tiny.py'\nsplits = {splits}\n", encoding="utf-8")
    again = command("make_folds", leaf)
    assert again.status == 0 and folds.digest in again.out and "Read from" in again.out


@pytest.mark.slow
def test_make_sample_data_writes_class_folders_once(command, tmp_path, snapshot):
    arguments = ("make_sample_data", "hip", "--num-samples", 9, "--seed", 3, "--out")
    ended = command(*arguments, tmp_path / "a")
    assert ended.status == 0 and ended.out.strip() == f"written: {tmp_path / 'a'}"
    assert sum(path.suffix == ".png" for path in (tmp_path / "a" / "images").rglob("*")) == 9
    command(*arguments, tmp_path / "b")
    a, b = (list(snapshot(tmp_path / name).values()) for name in "ab")
    assert a == b, "the same arguments make the same files"


# --- train, test, summary --------------------------------------------------------------------------------------------------------------


def test_dry_run_writes_nothing(command, write_config, tmp_path, snapshot):
    config = write_config(hooks=[{"type": "ConsoleHook"}, {"type": "HistoryHook"}, {"type": "TensorBoardHook"}])
    before = snapshot(tmp_path)
    refused = command("train", config, "--work-dir", tmp_path / "work", "--dry-run", "--fold", 99)
    assert refused.status == 2 and "--fold: there is no fold 99" in refused.err
    ended = command("train", config, "--work-dir", tmp_path / "work", "--dry-run")
    assert ended.status == 0, ended.err
    assert snapshot(tmp_path) == before
    assert "one step of 8 cases: loss " in ended.out and "nothing was written" in ended.out and "CLIP" in ended.out


def test_train_and_test_from_end_to_end(command, write_config, tmp_path, snapshot):
    from tiny import write_class_folders

    config, work = write_config(), tmp_path / "here" / "work_dirs" / "tiny"
    alone = command("train", config, "--fold", 2)
    assert alone.status == 0 and alone.out == "" and (work / "fold_2" / "result.json").exists()
    assert "not done yet: fold_1, fold_3" in alone.err and not (work / "cv_summary.json").exists()

    whole = command("train", config)
    assert whole.status == 0 and "fold_2: already done, skipped" in whole.err
    assert "mean ± sd" in whole.out and whole.out.rstrip().endswith("results: work_dirs/tiny")
    summary = json.loads((work / "cv_summary.json").read_text(encoding="utf-8"))
    assert len(summary["folds"]) == 3 and f"{summary['pooled']['accuracy']:.4f}" in whole.out

    done = snapshot(work)
    again = command("train", config)
    assert again.status == 0 and again.out == whole.out
    tested = command("test", config, work)
    assert tested.status == 0 and "agrees with oof_predictions.csv" in tested.out
    assert f"{summary['pooled']['accuracy']:.4f}" in tested.out
    assert command("summary", work).out.strip() == whole.out.partition("\n\nresults")[0]
    changed = {path for path, digest in snapshot(work).items() if done.get(path) != digest}
    assert changed <= {str(work / "train.log")}

    external = write_class_folders(tmp_path / "other", classes=("圆", "条纹"), per_class=3, seed=9)
    scored = command("test", config, work, "--data", external)
    assert scored.status == 0 and "ensemble" in scored.out
    assert (work / "external" / "other" / "predictions.csv").read_text(encoding="utf-8").count("\n") == 7


def test_a_table_that_was_changed_is_noticed(command, write_config, copy_of_finished):
    path = copy_of_finished / "oof_predictions.csv"
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    cells = first.split(",")
    cells[-3:] = cells[-1:] + cells[-3:-1]
    cells[4] = max(zip(map(float, cells[-3:]), header.split(",p_")[1:], strict=True))[1]
    path.write_text("\n".join([header, ",".join(cells), *rest]) + "\n", encoding="utf-8")
    ended = command("test", write_config(), copy_of_finished)
    assert ended.status == 1 and "DISAGREES" in ended.out


@pytest.mark.slow
def test_the_config_that_a_run_left_repeats_it(command, finished, tmp_path):
    ended = command("train", finished / "config.py", "--work-dir", tmp_path / "again", "--fold", 1)
    assert ended.status == 0
    name = "fold_1/checkpoint_best.pth"
    assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_chinese_reaches_a_terminal_that_cannot_encode_it(finished, repo, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(repo), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "clipzoo.cli", "summary", finished, finished]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0 and done.stdout.decode("utf-8").count("方块") == 6


def test_debug_shows_the_traceback(write_config, command):
    from clipzoo.errors import ConfigError

    with pytest.raises(ConfigError, match="no fold 9"):
        command("train", write_config(), "--fold", 9, "--debug")


def test_ctrl_c_ends_with_130(command, write_config, monkeypatch):
    from clipzoo.engine.cross_validation import CrossValidation

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(CrossValidation, "train", interrupted)
    ended = command("train", write_config())
    assert ended.status == 130 and ended.err.strip() == "interrupted"
