"""What ``summary --latex`` and ``--markdown`` say, against the records, and what they leave out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from latex_parser import rows_of, text_of
from run_files import folds_of, summary_of, table_of, write_run

from clipzoo.errors import CheckpointError
from clipzoo.records.folds import Folds, Split
from clipzoo.records.json_records import write_record
from clipzoo.records.results import FoldResult, Summary
from clipzoo.scoring.paper import Paper, as_latex, as_markdown, paragraph, table, value_text
from clipzoo.scoring.paper_words import CHINESE, ENGLISH

ENVIRONMENT = {
    "clipzoo": "9.8.7", "python": "3.11.7", "cuda": "12.4", "devices": ["GPU X", "GPU X"],
    "packages": {"torch": "2.1", "timm": "not installed"}, "git_commit": "0123456789abcdef+changes",
}  # fmt: skip
HOSTILE = ["a&b", "50%_#", "[x]", "*y", "~^\\", "{", "}$1", "<|>", "\\input{x}", "\x1b[0m"]


def paper_of(predictions=None, **more) -> Paper:
    predictions = table_of() if predictions is None else predictions
    folds = folds_of(predictions)
    return Paper("run", summary_of(predictions), replace(folds, spec={"type": "StratifiedGroupKFold"}), **{"about": {}, **more})


def alone(predictions):
    """The same table, in which every image is a group of its own."""
    return replace(predictions, groups=predictions.case_ids)


def test_the_table_holds_every_number_of_the_summary():
    paper = paper_of()
    header, rows = table([paper])
    cells = dict(rows)
    assert header == ["Metric (95 % CI)", "run"] and len(cells) == len(paper.summary.pooled) + 5 * 2
    found = paper.summary.intervals["balanced_accuracy"]
    value = paper.summary.pooled["balanced_accuracy"]
    assert cells["Balanced accuracy"] == f"{value:.3f} ({found['low']:.3f}–{found['high']:.3f})"
    row = paper.summary.per_class[1]
    for key, name in (("recall", "sensitivity"), ("specificity",) * 2, ("precision", "PPV"), ("npv", "NPV"), ("auroc", "AUROC")):
        low, high = row["intervals"][key]
        assert cells[f"骨水泥型: {name}"] == f"{row[key]:.3f} ({low:.3f}–{high:.3f})"


def test_cases_of_several_images_and_test_views_are_described():
    config = {"data": {"views": "group"}, "evaluation": {"tta": ["flip", "shifts"]}}
    paper = paper_of(alone(table_of()), about={"config": config}, num_images=300)
    text = paragraph(paper, ENGLISH)
    assert text.startswith("The data set comprised 120 cases in 2 classes")
    assert (
        "A case is all images of a group, 300 images in total; one network encoded each of them, and their features were averaged." in text
    )
    assert "averaged over it and copies that were mirrored, shifted by 2.5 % in four directions (test-time augmentation)" in text
    assert "Each of the 120 cases was scored exactly once" in text and text.count("image") == 3  # of the two sentences on features
    chinese = paragraph(paper, CHINESE)
    assert (
        "数据集包含 120 个病例" in chinese
        and "共 300 张图像；同一网络分别编码各图像" in chinese
        and "副本（左右镜像、向四个方向平移 2.5 %）" in chinese
    )
    by_value = replace(paper, about={"config": {"data": {"views": "检查号"}}})
    assert "A case is the images with one value of '检查号', 300 images in total" in paragraph(by_value, ENGLISH)
    assert "image" in paragraph(paper_of(), ENGLISH) and "测试时增强" not in paragraph(paper_of(), CHINESE)


def test_specificity_and_npv_are_those_of_a_naive_count():
    predictions = table_of()
    cells = dict(table([paper_of(predictions)])[1])
    called, true = predictions.probabilities.argmax(1) == 0, predictions.labels == 0
    assert cells["非骨水泥型: specificity"].startswith(f"{np.mean(~called[~true]):.3f} (")
    assert cells["非骨水泥型: NPV"].startswith(f"{np.mean(~true[~called]):.3f} (")


def test_a_class_that_is_never_predicted_has_no_ppv():
    predictions = table_of()
    never = replace(predictions, probabilities=np.tile(np.float32([0.8, 0.2]), (120, 1)))
    cells = dict(table([paper_of(never)])[1])
    assert cells["骨水泥型: PPV"] == "–" and cells["骨水泥型: sensitivity"].startswith("0.000 (") and cells["非骨水泥型: NPV"] == "–"


def test_several_experiments_are_columns_and_what_one_lacks_is_a_dash():
    first, second = paper_of(), replace(paper_of(table_of(seed=5)), title="other")
    pooled = {name: value for name, value in second.summary.pooled.items() if name != "auroc"}
    header, rows = table([first, replace(second, summary=replace(second.summary, pooled=pooled, per_class=[], classes=[]))])
    assert header[1:] == ["run", "other"] and {len(row) for row in rows} == {3}
    cells = {row[0]: row[1:] for row in rows}
    assert cells["AUROC (macro)"][1] == "–" != cells["AUROC (macro)"][0] and cells["骨水泥型: NPV"][1] == "–"


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [(0.5, (0.0, 1.0), "0.500 (0.000–1.000)"), (0.1, (-0.2, 0.4), "0.100 (-0.200 to 0.400)"), (0.5, (np.nan, np.nan), "0.500"),
     (np.nan, (0, 1), "–"), (None, None, "–")],
)  # fmt: skip
def test_a_value_without_a_number_is_a_dash(value, interval, shown):
    assert value_text(value, interval) == shown


def test_the_paragraph_has_the_true_numbers():
    end = ({"train": 1}, {}, 1.0, "cuda:0", "bf16", 2)
    results = (FoldResult("fold_1", "last epoch", "x", 3, 3, {}, *end),)
    about = {"environment": ENVIRONMENT, "seeds": {"runtime": 3, "splits": None}}
    paper = paper_of(about=about, results=results, num_baselines=4, baseline_metric="balanced_accuracy")
    english = paragraph(paper, ENGLISH)
    for part in (
        "120 images of 60 groups",
        "in 2 classes (非骨水泥型: n = 60 of 30 groups; 骨水泥型: n = 60 of 30 groups).",
        "2-fold cross-validation, stratified by class; all images of a group were in the same part.",
        "Per fold, 60 images were used for training and 60 for testing; there was no validation part.",
        "The model of the last epoch was tested.",
        "Each of the 120 images was scored exactly once, by a model that had never seen this group",
        "Confidence intervals (95 %) were computed over groups",
        "leave-one-group-out",
        "conditional on the 2 trained models",
        "Bayle et al. 2020",
        "compared with 4 baselines on frozen features in balanced accuracy",
        "group by group, with Holm's correction for 4 comparisons.",
        "Software: clipzoo 9.8.7 (commit 0123456789+changes) with Python 3.11.7, torch 2.1, CUDA 12.4.",
        "The seed of the training was 3; the training ran on GPU X (bf16) in 2 processes.",
    ):  # fmt: skip
        assert part in english, part
    assert "timm" not in english and "seed of the folds" not in english
    chinese = paragraph(paper, CHINESE)
    for part in (
        "60 个分组",
        "120 张图像，共 2 个类别（非骨水泥型：n = 60，30 个分组；",
        "按类别分层的 2 折交叉验证，同一分组的图像始终在同一子集中。",
        "每折用 60 张图像训练、60 张测试，没有验证集。",
        "已训练好的 2 个模型",
        "4 个基线比较",
        "以平衡准确率为准",
        "对 4 次比较作 Holm 校正",
        "clipzoo 9.8.7（提交 0123456789+changes），Python 3.11.7、torch 2.1、CUDA 12.4。",
        "训练的随机种子为 3；训练设备为 GPU X（bf16），共 2 个进程。",
    ):  # fmt: skip
        assert part in chinese, part
    assert not any(bracket in english + chinese for bracket in "{}")


def test_where_every_image_stands_alone_the_paragraph_knows_no_groups():
    paper = paper_of(alone(table_of()), num_baselines=1, baseline_metric="auroc")
    english = paragraph(paper, ENGLISH)
    assert "group" not in english and "120 images in 2 classes (非骨水泥型: n = 60; 骨水泥型: n = 60)." in english
    assert "image by image." in english and "Holm" not in english and "compared with one baseline" in english
    assert "分组" not in paragraph(paper, CHINESE)


def test_what_is_not_on_record_is_left_out():
    paper = paper_of()
    old = replace(paper.summary, intervals={}, num_groups=0)
    english = paragraph(replace(paper, summary=old), ENGLISH)
    assert not any(word in english for word in ("Confidence", "Software", "seed", "ran on", "baseline", "None"))
    assert table([replace(paper, summary=old)])[0][0] == "Metric"
    for selection in ("last epoch; best auroc on val", "best auroc on val; last epoch"):
        assert "epoch" not in paragraph(replace(paper, summary=replace(paper.summary, selection=selection)), ENGLISH)


@pytest.mark.parametrize(
    ("selection", "english", "chinese"),
    [
        ("best balanced_accuracy on val", "best balanced accuracy on the validation part", "验证集上平衡准确率最优"),
        ("best rsum on val", "best RSum on the validation part", "验证集上 RSum 最优"),
        ("best my_metric on val", "best my_metric on the validation part", "验证集上 my_metric 最优"),
        (
            "best auroc on val, weights averaged with the starting ones (WiSE-FT)",
            "macro AUROC on the validation part was tested. Its weights were averaged with those before training",
            "最优的一轮的模型。其权重与训练前的权重加权平均",
        ),
        ("best auroc over 3 inner folds", "chosen by 3-fold cross-validation within the training part", "3 折交叉验证选定，取各折"),
        ("best auroc on test, optimistic: the reported cases chose the epoch", "so that the results are optimistic", "结果偏乐观"),
    ],
)
def test_how_the_epoch_was_chosen(selection, english, chinese):
    paper = paper_of()
    summary = replace(paper.summary, selection=selection, optimistic="optimistic" in selection)
    found = paragraph(replace(paper, summary=summary), ENGLISH)
    assert english in found and chinese in paragraph(replace(paper, summary=summary), CHINESE)
    assert ("had never seen" in found) != summary.optimistic


def test_a_single_split_is_not_called_cross_validation():
    paper = paper_of()
    cases = [case.id for case in paper.folds.cases]
    split = Split("fold_1", tuple(cases[:80]), tuple(cases[80:90]), tuple(cases[90:]))
    for kind, says in (
        ("Holdout", "a single split (holdout), stratified by class"),
        ("FromFile", "a predefined split"),
        ("Mine", "a single split"),
    ):
        folds = replace(paper.folds, splits=(split,), exhaustive=False, spec={"type": kind})
        english = paragraph(replace(paper, folds=folds), ENGLISH)
        assert f"We used {says}; all images" in english and "cross-validation," not in english and "Per fold" not in english
        assert "In this split, 80 images were used for training, 10 for validation and 30 for testing." in english
        assert "over 30 test images" in english and "conditional on the trained model:" in english


def test_latex_survives_any_name():
    names = tuple(HOSTILE[:2])
    predictions = table_of()
    for pair in zip(HOSTILE[::2], HOSTILE[1::2], strict=True):
        paper = replace(paper_of(replace(predictions, classes=pair)), title=names[0])
        shown = as_latex([paper, replace(paper, title="[b]", num_baselines=1, baseline_metric="x_y")])
        rows = rows_of(shown)
        wanted = [[cell.replace("\x1b", "\\x1b") for cell in row] for row in table([paper, paper])[1]]
        assert [[cell.replace("--", "–") for cell in row] for row in rows[1:]] == wanted and rows[0][1:] == ["a&b", "[b]"]
        for text in shown.partition("\\end{tabular}\n")[2].replace("\\paragraph{", "{").split("\n\n"):
            assert text_of(text)


def test_equal_paragraphs_appear_once():
    paper = paper_of()
    shown = as_markdown([paper, replace(paper, title="again")])
    assert shown.count("## Methods") == 1 and shown.count("## 方法") == 1
    other = as_markdown([paper, replace(paper, title="again", num_baselines=2, baseline_metric="auroc")])
    assert "## Methods: run\n" in other and "## 方法：again\n" in other


def test_doubtful_intervals_are_noted_below_the_table():
    shown = as_markdown([paper_of(table_of(num_groups=12))])
    assert "has only 6 groups" in shown and "Note: interval of" in shown


def test_a_work_dir_is_read(tmp_path: Path):
    predictions = table_of()
    folds = folds_of(predictions)
    write_run(tmp_path, predictions)
    folds.write(tmp_path / "folds.json")
    write_record(tmp_path / "config.json", {"environment": ENVIRONMENT, "seeds": {}})
    (tmp_path / "fold_1").mkdir()
    FoldResult("fold_1", "last epoch", "x", 3, 3, {}, {}, {}, 1.0, "cpu", "fp32", 1).write(tmp_path / "fold_1")
    paper = Paper.read(tmp_path, "name")
    assert paper.folds == Folds.read(tmp_path / "folds.json") and len(paper.results) == 1 and paper.summary == Summary.read(tmp_path)
    assert "ran on CPU (fp32)" in paragraph(paper, ENGLISH)
    folds_of(table_of(num_groups=40)).write(tmp_path / "folds.json")
    with pytest.raises(CheckpointError, match="folds.json: not the folds of the summary"):
        Paper.read(tmp_path, "name")
