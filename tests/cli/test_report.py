"""The command ``report``, and the report at the end of a training: what is written, what is shown, what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest
from run_files import table_of, write_run
from scipy import stats
from tiny import write_pairs

from clipzoo.fewshot.episodes import Plan, Point, curve_csv
from clipzoo.files import file_sha256
from clipzoo.records.few_shot import AboutEpisodes

PICTURE = re.compile(r'<img src="data:image/jpeg;base64,')


def report_of(folder) -> tuple[dict, str]:
    """The content and the page."""
    return json.loads((folder / "report.json").read_text("utf-8")), (folder / "report.html").read_text("utf-8")


def test_one_run_and_several(command, tmp_path):
    for name, right, seed in (("甲", 0.9, 0), ("乙", 0.7, 1)):
        write_run(tmp_path / "here" / "work_dirs" / name, table_of(right=right, seed=seed))
    ended = command("report", "work_dirs/甲", "--lang", "zh")
    assert ended.status == 0 and ended.out.split() == ["work_dirs/甲/report.html", "work_dirs/甲/report.json"], ended.err
    content, page = report_of(tmp_path / "here/work_dirs/甲")
    summary = json.loads((tmp_path / "here/work_dirs/甲/cv_summary.json").read_text("utf-8"))
    assert content["answer"]["value"] == summary["pooled"]["balanced_accuracy"] and '<html lang="zh-CN">' in page
    ended = command("report", "work_dirs/甲", "work_dirs/乙", "--metric", "accuracy")
    assert ended.status == 0 and ended.out.split()[0] == "work_dirs/comparison/report.html"
    content, page = report_of(tmp_path / "here/work_dirs/comparison")
    assert [row["name"] for row in content["leaderboard"]] == ["甲", "乙"] and content["comparison"]["metric"] == "accuracy"
    assert "甲 is better than 乙 in accuracy" in page
    (tmp_path / "here/work_dirs/leaderboard.csv").write_text("job\n", encoding="utf-8")  # as a grid has it
    assert command("report", "work_dirs").out.split()[0] == "work_dirs/report.html"
    assert report_of(tmp_path / "here/work_dirs")[0]["comparison"]["metric"] == "balanced_accuracy"


def test_few_shot_episodes(command, tmp_path):
    folder = tmp_path / "here" / "fs"
    folder.mkdir()
    accuracies = {("linear", 1): [0.4, 0.6, 0.5], ("linear", 5): [0.7, 0.7, 0.7]}
    accuracies |= {("tip", 1): [0.5, 0.65, 0.65], ("tip", 5): [0.6, 0.8, 0.7]}
    points = [Point(method, shot, np.array(values)) for (method, shot), values in accuracies.items()]
    curve = curve_csv(points, Plan(way=5, shots=(1, 5), query=15, episodes=3)).decode()
    rows = [f"{n},a|b|c|d|e,{point.method},{point.shot},{point.accuracies[n]:.6f}" for n in range(3) for point in points]
    (folder / "fewshot_curve.csv").write_text(curve, encoding="utf-8")
    (folder / "episodes.csv").write_text("\n".join(["episode,classes,method,shot,accuracy", *rows]), encoding="utf-8")
    files = {name: file_sha256(folder / name) for name in ("fewshot_curve.csv", "episodes.csv")}
    note = "tip, 1 per class, in 2 of 3 episodes: alpha=1 was taken"
    about = AboutEpisodes("塔 <b>", "髋", 90, 80, [*"abcdef"], 15, 3, [note], {"a": ["一张图"]}, {"torch": "9.9"}, files, ["b", "e"])
    ended = command("report", "fs")
    assert ended.status == 2 and "fs/fewshot.json" in ended.err and "Run fewshot evaluate --out again" in ended.err
    about.write(folder)
    assert command("report", "fs").out.split() == ["fs/report.html", "fs/report.json"]
    content, page = report_of(folder)
    assert [point["mean"] for point in content["points"]] == [0.5, 0.7, 0.6, 0.7] and "chance 0.200" in page
    for text in (
        "0.700 (0.700–0.700)",
        "塔 &lt;b&gt;, tested on 90 images of 80 groups (patients) of 6 classes (folder 髋).",
        "15 queries",
        "Optimistic: the model was trained on 2 of these 6 classes",
        note,
        "9.9",
        "一张图",
    ):
        assert text in page, text
    one, five = content["differences"]
    assert (one["first"], one["second"], one["shot"], one["difference"], five["difference"]) == ("tip", "linear", 1, 0.1, 0.0)
    spread = stats.t.interval(0.95, 2, 0.1, stats.sem([0.1, 0.05, 0.15]))  # scipy, of the paired differences
    assert [one["low"], one["high"]] == pytest.approx(spread, abs=1e-6) and "tip − linear" in page
    p_values = [stats.ttest_1samp(paired, 0).pvalue for paired in ([0.1, 0.05, 0.15], [-0.1, 0.1, 0.0])]
    assert [row["p_value"] for row in (one, five)] == pytest.approx(p_values, abs=1e-12)
    assert [row["adjusted_p_value"] for row in (one, five)] == pytest.approx([min(2 * p_values[0], 1), 1]) and "p (Holm)" in page
    assert f"{2 * p_values[0]:.3f}" in page
    assert command("report", "fs", "--lang", "zh", "--out", "zh").status == 0 and "每类 15 张查询图像" in report_of(tmp_path / "here/zh")[1]
    (folder / "episodes.csv").write_text("\n".join(["episode,classes,method,shot,accuracy", *rows[:-1]]), encoding="utf-8")
    ended = command("report", "fs")
    assert ended.status == 2 and "fs/episodes.csv: not the table that fewshot.json is about. Run" in ended.err
    (folder / "fewshot_curve.csv").write_text(curve.replace(",0.7", ",x", 1), encoding="utf-8")
    ended = command("report", "fs")
    assert ended.status == 2 and ended.err.startswith("error: fs/fewshot_curve.csv: damaged (") and ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "error: none: no such folder. Pass a finished work dir, or a baseline such as WORK_DIR/baselines/linear\n"),
        (["empty"], "error: empty: its folds are not all finished. Pass a finished work dir"),
        (["run", "other"], "error: comparison: other has 44 cases, run has 40. Both must score the same cases\n"),
        (["run", "again", "--metric", "acuracy"], "error: --metric: run has no 'acuracy'. Did you mean 'accuracy'?"),
        (["run", "--metric", "accuracy"], "error: --metric: only for a comparison of several runs."),
        (["run", "--latex"], "error: --latex, --markdown: only for a training run, which has methods to describe. Remove the option\n"),
        (["run", "--embedding", "umap"], "error: --embedding umap requires umap-learn. Run pip install umap-learn, or use"),
        (["run", "--out", "file/x"], "error: file/x: cannot be written"),
        (["grid"], "error: grid: a grid with 0 finished runs. A comparison needs two; run the grid again to finish them\n"),
        (["damaged"], "error: damaged/cv_summary.json: damaged or edited (its content does not match its digest)."),
    ],
)
def test_bad_input(command, tmp_path, monkeypatch, arguments, message):
    here = tmp_path / "here"
    monkeypatch.setitem(sys.modules, "umap", None)
    for name, groups in (("run", 20), ("again", 20), ("other", 22), ("damaged", 20)):
        write_run(here / name, table_of(num_groups=groups))
    text = (here / "damaged/cv_summary.json").read_text("utf-8")
    (here / "damaged/cv_summary.json").write_text(text.replace('"name": "', '"name": "x'), encoding="utf-8")
    (here / "empty").mkdir()
    (here / "grid").mkdir()
    (here / "grid/leaderboard.csv").write_text("job\n", encoding="utf-8")
    (here / "file").write_text("", encoding="utf-8")
    ended = command("report", *arguments)
    assert ended.status == 2 and ended.err.startswith(message) and ended.err.count("\n") == 1, ended.err
    assert not list(here.rglob("report.*"))


@pytest.mark.slow
def test_at_the_end_of_a_training(command, write_config, tmp_path, class_folders):
    data = shutil.copytree(class_folders, tmp_path / "data")
    config = write_config(data, runtime={"report": "zh"}, hooks=["HistoryHook", "MetricsCSVHook"], evaluation={"operating_point": "youden"})
    ended = command("train", config, "--work-dir", "w")
    assert ended.status == 0 and ended.out.endswith("\nreport: w/report.html\n"), ended.err
    folder = tmp_path / "here" / "w"
    content, page = report_of(folder)
    first = (folder / "report.json").read_bytes(), (folder / "report.html").read_bytes()
    assert content["kind"] == "classification" and content["model_notes"] == []
    assert set(content["embedding"]["folds"]) == {"fold_1", "fold_2", "fold_3"} and set(content["training"]["folds"]) == {
        *content["embedding"]["folds"]
    }
    placed = [case for panel in content["embedding"]["folds"].values() for case in panel["case_ids"]]
    assert len(placed) == len(set(placed)) == 36  # every image once, in the fold that tested it
    shown = sum(len(cases) for cases in content["cases"].values())
    assert len(PICTURE.findall(page)) == 2 * shown > 0  # each with its explanation
    assert content["data"]["equal_images"] == {"images": 0, "sets": 0, "of_several_classes": 0} and content["data"]["sizes"]["high"] == 16
    origins = {row["key"]: row["origin"] for row in content["reproducibility"]["config"]}
    assert re.fullmatch(r".*tiny\.py:\d+", origins["train.epochs"]) and content["reproducibility"]["methods"]["zh"]
    assert [row["kind"] for row in content["reliability"]] == ["before", "after"] and len(content["operating_points"]) == 3
    assert command("train", config, "--work-dir", "w").status == 0  # everything is done: the same report again
    assert ((folder / "report.json").read_bytes(), (folder / "report.html").read_bytes()) == first
    for path in folder.glob("fold_*/checkpoint_*.pth"):
        path.unlink()
    assert command("report", "w").status == 0
    content, page = report_of(folder)
    assert [note.split(":")[0] for note in content["model_notes"]] == ["fold_1", "fold_2", "fold_3"]
    assert len(PICTURE.findall(page)) == shown
    shutil.rmtree(data)
    assert command("report", "w", "--latex", "--markdown").out.split()[2:] == ["w/report.tex", "w/report.md"]
    content, page = report_of(folder)
    assert "No pictures: " in page and not PICTURE.findall(page) and "\\begin{tabular}" in (folder / "report.tex").read_text("utf-8")


@pytest.mark.slow
def test_pairs_findings_and_a_report_that_fails(command, write_config, tmp_path):
    pairs = write_pairs(tmp_path / "pairs")
    data = {"dataset": {"type": "PairsDataset", "path": str(pairs / "data.json")}}
    config = write_config(data=data, splits={"type": "KFold", "num_folds": 2}, runtime={"report": "en"}, evaluation={"select": "rsum"})
    ended = command("train", config, "--work-dir", "w")
    assert ended.status == 0 and "report: w/report.html" in ended.out, ended.err
    content, page = report_of(tmp_path / "here/w")
    assert content["kind"] == "retrieval" and 0 < content["answer"]["chance"] < 600
    for found in content["retrieval"]:
        assert sum(row["queries"] for row in found["ranks"]) == pytest.approx(found["queries"], abs=1e-4)
        assert all(0 < recall["chance"] <= 1 for recall in found["recalls"])
    assert content["cases"]["missed"] + content["cases"]["found"] and "right: " in page
    (tmp_path / "here/w/report.html").unlink()
    (tmp_path / "here/w/report.html").mkdir()
    ended = command("train", config, "--work-dir", "w")
    assert ended.status == 0 and "warning: the report was not written: " in ended.err and "report: " not in ended.out


@pytest.mark.slow
def test_several_images_per_case_are_counted(command, write_config, tmp_path, class_folders):
    root = shutil.copytree(class_folders, tmp_path / "data")
    for path in root.glob("*/*.png"):
        path.rename(path.with_name(f"{path.parent.name}{path.name}"))
    data = {"views": "group", "dataset": {"type": "ImageFolderDataset", "root": str(root), "group_pattern": r"(.+)\d\.png"}}
    config = write_config(data=data, runtime={"report": "en"}, train={"epochs": 1}, splits={"val_fraction": 0})
    ended = command("train", config, "--work-dir", "w")
    assert ended.status == 0, ended.err
    content, page = report_of(tmp_path / "here/w")
    assert content["answer"]["images"] == 36 and content["answer"]["cases"] < 36
    assert f"{content['answer']['cases']} cases of 36 images" in page
