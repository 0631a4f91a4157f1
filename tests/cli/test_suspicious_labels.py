"""``suspicious_labels``: the table, the file, and bad input."""

import sys
from pathlib import Path

import pytest
from run_files import table_of, write_run


@pytest.fixture
def work_dir(command):
    write_run(Path("甲"), table_of(right=0.9))
    return Path("甲")


def test_the_table_and_the_file(work_dir, command):
    ended = command("suspicious_labels", work_dir, "--top", 3)
    assert ended.status == 0 and ended.out.endswith("written: 甲/suspicious_labels.csv\n") and "labels count as wrong" in ended.out
    assert len(ended.out.split("\n\n")[0].splitlines()) == 2 + 3
    lines = (work_dir / "suspicious_labels.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 121 and lines[1].startswith("1,")
    assert command("summary", work_dir).status == 0


def test_the_file_is_written_anew(work_dir, command, snapshot):
    command("suspicious_labels", work_dir)
    before = snapshot(work_dir)
    (work_dir / "suspicious_labels.csv").write_text("old", encoding="utf-8")
    command("suspicious_labels", work_dir, "--method", "self_confidence")
    assert snapshot(work_dir) == before


def test_bad_input_is_one_clear_line(work_dir, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    for arguments, says in (
        (["nowhere"], "nowhere: no such folder. Pass a finished work dir"),
        (["."], "its folds are not all finished"),
        ([work_dir, "--method", "confident_learning"], "--method confident_learning requires cleanlab. Run pip install cleanlab, or use"),
        ([work_dir, "--top", 0], "--top: '0' is not a whole number of 1 or more"),
    ):
        ended = command("suspicious_labels", *arguments)
        assert ended.status == 2 and says in ended.err and len(ended.err.splitlines()) == 1, ended.err
    path = work_dir / "oof_predictions.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("fold_1", "fold_2", 1), encoding="utf-8")
    assert "damaged or edited" in command("suspicious_labels", work_dir).err
    assert not (work_dir / "suspicious_labels.csv").exists()
