"""Class and file names that act on terminals, CSV files and spreadsheets: everything runs, comes back equal, and is shown escaped."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_config, write_class_folders

from clipzoo.records.tables import PredictionTable
from clipzoo.text import csv_rows, is_formula, visible

CLASSES = ("=cmd|'c'!A0", "a\rb", 'x,y"z', "\x1b[31mred", "[red]b", "-1", "c\nd")
FILES = {"000.png": "=1+1.png", "001.png": "@x\r\n.png", "002.png": "\x1b]0;title\x07.png", "003.png": "'+a.png"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Seven classes of six pictures; read only."""
    root = write_class_folders(tmp_path_factory.mktemp("names") / "images", classes=CLASSES, per_class=6)
    for folder in root.iterdir():
        for old, new in FILES.items():
            (folder / old).rename(folder / new)
    return root


def acts(text: str) -> list[str]:
    """Characters that act on a terminal, but for line ends."""
    return re.findall(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    """A finished run on these names, with pictures, on a terminal of another encoding: exit status, what was shown, and where it is."""
    from clipzoo.cli import main
    from clipzoo.config import Config

    place = tmp_path_factory.mktemp("run")
    config = tiny_config(folders, train={"epochs": 1}, hooks=["HistoryHook", "MetricsCSVHook", "ResultsHook"])
    config["splits"] = {"type": "Holdout", "test_fraction": 0.4, "seed": 0, "val_fraction": 0.2}
    (place / "tiny.py").write_text(Config.from_dict(config).dump(), encoding="utf-8")
    shown = io.BytesIO()
    out = io.TextIOWrapper(shown, encoding="ascii", write_through=True)
    err = io.TextIOWrapper(shown, encoding="ascii", errors="backslashreplace", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(["train", str(place / "tiny.py"), "--work-dir", str(place / "work")])
    return end.value.code, shown.getvalue().decode(), place


def test_a_run_ends_and_its_table_holds_every_name(trained, folders):
    status, shown, place = trained
    assert status == 0, shown
    table = PredictionTable.read(place / "work" / "oof_predictions.csv")
    assert set(table.classes) == set(CLASSES)
    assert set(table.case_ids) < {f"{path.parent.name}/{path.name}" for path in folders.rglob("*.png")}
    assert "was not written" not in shown and len(list((place / "work" / "fold_1" / "results").glob("*.png"))) == 2
    with open(place / "work" / "oof_predictions.csv", encoding="utf-8", newline="") as file:
        cells = {cell for row in csv.reader(file) for cell in row}
    assert not any(map(is_formula, {cell for cell in cells if not cell.startswith("'")})), "as a spreadsheet reads them"


def test_nothing_that_a_run_shows_acts_on_a_terminal(trained):
    _, shown, place = trained
    assert not acts(shown) and "Traceback" not in shown
    assert all(visible(name) in shown for name in CLASSES)
    log = (place / "work" / "train.log").read_text(encoding="utf-8")
    assert not acts(log) and all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log.splitlines()), "one record, one line"


def test_commands_that_read_the_run_show_it_escaped(trained, command, folders, tmp_path):
    work, config = trained[2] / "work", trained[2] / "tiny.py"
    summary, again = command("summary", work), command("test", config, work)
    assert (summary.status, again.status) == (0, 0) and "agrees with oof_predictions.csv" in again.out
    images = sorted(folders.rglob("*.png"))
    predicted = command("predict", work / "fold_1", folders, "--csv", tmp_path / "p.csv", "--device", "cpu")
    assert predicted.status == 0, predicted.err
    for ended in (summary, again, predicted):
        assert not acts(ended.out + ended.err)
    header, *rows = (cells for _, cells in csv_rows((tmp_path / "p.csv").read_bytes().decode(), "p.csv"))
    assert sorted(row[0] for row in rows) == [str(path) for path in images] and set(header[2:]) == {f"p_{name}" for name in CLASSES}


def test_a_search_shows_and_draws_names_escaped(trained, command, folders, tmp_path):
    images = shutil.copytree(folders, tmp_path / "images")
    ended = command("search", trained[2] / "work" / "fold_1", images, "\x1b[2J", "--contact-sheet", tmp_path / "s.png", "--device", "cpu")
    assert ended.status == 0 and not acts(ended.out + ended.err) and ended.out.startswith("\\x1b[2J\n")
    assert (tmp_path / "s.png").stat().st_size > 1000 and "no font here" not in ended.err


@pytest.mark.parametrize("name", ["\x1b[31m", "\udcbb\udcbc", "\u202egpj", "一\n二", "\x9b2J"])
def test_errors_show_what_was_given_escaped(command, name):
    for arguments in (
        ["predict", "c.pth", name],
        ["summary", name],
        ["train", name + ".py"],
        [name],
        ["search", "c.pth", ".", "q", "--" + name],
        ["fewshot", name],
    ):
        ended = command(*arguments)
        assert ended.status == 2 and ended.out == "" and not acts(ended.err) and "Traceback" not in ended.err, arguments
        assert visible(name, keep="\n").split("\n")[0] in ended.err and not re.search("[\ud800-\udfff\u202e]", ended.err), arguments


def test_help_reaches_a_terminal_of_another_encoding(repo):
    """Some of it is Chinese."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(repo)}
    for arguments in (["fewshot", "evaluate", "--help"], ["--help"], ["list_modules", "SPLITTERS"]):
        ended = subprocess.run([sys.executable, "-m", "clipzoo.cli", *arguments], env=environment, capture_output=True, check=False)
        assert ended.returncode == 0 and b"Traceback" not in ended.stderr and len(ended.stdout) > 100


GBK = os.fsdecode("股骨柄".encode("gbk"))  # as an archive from Windows leaves it


def test_files_whose_names_are_not_utf8_are_shown_by_their_bytes_and_found_by_the_table(trained, command, folders, tmp_path):
    shutil.copy(next(folders.rglob("*.png")), tmp_path / f"{GBK}.png")
    ended = command("predict", trained[2] / "work" / "fold_1", tmp_path / f"{GBK}.png", "--csv", tmp_path / "p.csv", "--device", "cpu")
    assert ended.status == 0 and rf"{tmp_path}/\xb9ɹǱ\xfa.png" in ended.out
    _, (_, cells) = csv_rows(os.fsdecode((tmp_path / "p.csv").read_bytes()), "p.csv")
    assert Path(cells[0]).is_file()


def test_words_that_are_not_utf8_are_one_clear_line(trained, command, folders):
    model = trained[2] / "work" / "fold_1"
    for arguments in (["predict", model, folders, "--texts", GBK, "b"], ["search", model, folders, GBK]):
        ended = command(*arguments, "--device", "cpu")
        said = r"error: '\xb9ɹǱ\xfa' contains bytes that are not UTF-8. Save the text as UTF-8" + "\n"
        assert ended.status == 2 and ended.err.endswith(said)


def test_what_is_typed_in_another_encoding_ends_no_conversation(trained, command, folders, tmp_path, monkeypatch):
    typed = io.TextIOWrapper(io.BytesIO("股\n".encode("gbk") + "圆\n".encode()), encoding="utf-8")
    typed.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", typed)
    ended = command("search", trained[2] / "work" / "fold_1", shutil.copytree(folders, tmp_path / "images"), "--device", "cpu")
    assert "error: the input is not text in the encoding of the terminal, utf-8" in ended.err and ended.status == 0
