"""Copies of CSV files for Excel: a byte-order mark and nothing else."""

import codecs

import pytest

from clipzoo.records.results import OUT_OF_FOLD_FILE
from clipzoo.records.tables import PredictionTable
from clipzoo.text import csv_text


@pytest.mark.slow
def test_a_work_dir(command, copy_of_finished):
    originals = {path.relative_to(copy_of_finished): path.read_bytes() for path in copy_of_finished.rglob("*.csv")}
    ended = command("excel", copy_of_finished)
    assert ended.status == 0 and ended.out == f"written: {len(originals)} files -> {copy_of_finished / 'excel'}\n" and len(originals) > 3
    for name, content in originals.items():
        assert (copy_of_finished / name).read_bytes() == content
        assert (copy_of_finished / "excel" / name).read_bytes() == codecs.BOM_UTF8 + content
    first, copy = (PredictionTable.read(folder / OUT_OF_FOLD_FILE) for folder in (copy_of_finished, copy_of_finished / "excel"))
    assert first.case_ids == copy.case_ids and any("圆" in case_id for case_id in copy.case_ids)
    assert command("excel", copy_of_finished).out == ended.out, "earlier copies are no sources"
    assert command("summary", copy_of_finished).status == 0


def test_one_file_is_not_written_over(command, tmp_path):
    path = tmp_path / "预测.csv"
    path.write_text(csv_text([["图像", "标签"], ["甲.png", "松动"]]), encoding="utf-8")
    assert command("excel", path, "--out", tmp_path / "out").status == 0
    assert (tmp_path / "out" / "预测.csv").read_text(encoding="utf-8-sig") == path.read_text(encoding="utf-8")
    path.write_text("图像\n", encoding="utf-8-sig")
    ended = command("excel", path, "--out", tmp_path / "out")
    assert ended.status == 2 and "exists with other content. Choose another file, or pass --force" in ended.err
    assert command("excel", path, "--out", tmp_path / "out", "--force").status == 0
    assert (tmp_path / "out" / "预测.csv").read_bytes() == codecs.BOM_UTF8 + "图像\n".encode(), "one mark, not two"


def test_bad_input(command, tmp_path):
    (tmp_path / "gbk.csv").write_bytes("图像\n".encode("gbk"))
    (tmp_path / "t.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("none", "none: no such file or folder. Pass a CSV file or a work dir"),
        ("t.txt", "t.txt: must end in .csv"),
        ("empty", "empty: no CSV files in this folder"),
        ("gbk.csv", "gbk.csv:1: not UTF-8 text"),
    ):
        ended = command("excel", tmp_path / name)
        assert ended.status == 2 and words in ended.err and ended.err.count("\n") == 1
