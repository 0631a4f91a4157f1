"""Whole runs with several labels per image: a classifier and a CLIP, restarted, scored again, loaded, and refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finding_files import FINDINGS, findings_config, write_findings
from rich.console import Console
from tiny import tiny_config, write_class_folders

import clipzoo
from clipzoo.config import Config
from clipzoo.engine import build, checkpoint
from clipzoo.engine.checks.task import metrics
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.finished import table_problem
from clipzoo.errors import CheckpointError, ConfigError, DataError
from clipzoo.inference import rescoring
from clipzoo.inference.model import Classification
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import FindingsTable, PredictionTable, read_table
from clipzoo.runtime.log import make_log


def clip_model(tmp_path, **loss) -> dict:
    return {**tiny_config(tmp_path)["model"], "loss": {"type": "ClassSigmoidLoss", **loss}, "in_batch_measures": True}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_findings(tmp_path_factory.mktemp("findings") / "data")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("runs") / "findings"
    hooks = [{"type": "HistoryHook"}, {"type": "ResultsHook"}, {"type": "MetricsCSVHook"}, {"type": "TensorBoardHook"}]
    validation = CrossValidation(Config.from_dict(findings_config(table, hooks=hooks), "f"), folder, console=Console(quiet=True))
    return validation, validation.train(), folder


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("runs") / "clip"
    config = Config.from_dict(findings_config(table, clip_model(folder), train={"epochs": 1}), "c")
    validation = CrossValidation(config, folder, console=Console(quiet=True))
    return validation, validation.train(), folder


def test_the_files_of_a_run(finished):
    validation, summary, folder = finished
    joined = read_table(folder / "oof_predictions.csv")
    assert isinstance(joined, FindingsTable) and joined.classes == FINDINGS
    assert joined.case_ids == tuple(case.id for case in validation.dataset.cases)
    np.testing.assert_array_equal(joined.findings, validation.dataset.findings)
    assert not np.allclose(joined.probabilities.sum(axis=1), 1)
    assert [row["finding"] for row in summary.findings] == list(FINDINGS) and set(summary.pooled) == {
        "mean_auroc", "mean_average_precision", "binary_log_loss", "micro_f1"
    }  # fmt: skip
    for split in validation.folds.splits:
        result, val = FoldResult.read(folder / split.name), read_table(folder / split.name / "val_predictions.csv")
        assert set(result.thresholds) == set(FINDINGS) and set(val.case_ids) == set(split.val)
        assert result.selection == "best mean_auroc on val"
        for name, threshold in result.thresholds.items():
            assert threshold is None or val.probabilities.min() < threshold < val.probabilities.max(), name
        results = json.loads((folder / split.name / "results" / "training_results.json").read_text(encoding="utf-8"))
        assert results["classes"] == list(FINDINGS) and (folder / split.name / "results" / "model_metrics.png").exists()
    record = json.loads((folder / "folds.json").read_text(encoding="utf-8"))
    assert record["cases"][0]["label"] is None and set(record["cases"][0]["findings"]) <= {-1, 0, 1}
    assert Summary.read(folder) == summary


def test_the_log_says_what_is_in_every_part(finished):
    log = (finished[2] / "train.log").read_text(encoding="utf-8")
    assert "48 cases, 3 findings, 24 groups" in log and "loss BinaryCrossEntropyLoss with pos_weight 'balanced'" in log
    assert "fold_1: test mean_auroc" in log and "unknown" in log and "warning" not in log


def test_weights_of_the_loss_are_those_of_the_fold_s_training_part(finished):
    validation, _, folder = finished
    for split in validation.folds.splits:
        truth = validation.dataset.findings[validation.dataset.rows_of(split.train)]
        weight = checkpoint.read(folder / split.name / "checkpoint_best.pth")["model"]["loss.weight_2C"]
        np.testing.assert_allclose(weight[1] / weight[0], (truth == 0).sum(axis=0) / (truth == 1).sum(axis=0), rtol=1e-6)


def test_a_fold_loaded_again_predicts_the_same_bits(finished, table):
    _, _, folder = finished
    stored = read_table(folder / "fold_2" / "predictions.csv")
    loaded = clipzoo.load(folder / "fold_2", device="cpu")
    images = [table.parent / case_id for case_id in stored.case_ids]
    found = loaded.classify(images, batch_size=16)
    assert found.multi_label and found.classes == FINDINGS
    np.testing.assert_array_equal(found.probabilities.numpy(), stored.probabilities)
    with pytest.raises(DataError, match="predictions: the classes are findings, of which an image may have several or none"):
        found.predictions  # noqa: B018
    ensemble = clipzoo.load(folder, device="cpu").classify(images[:2])
    assert ensemble.multi_label and ensemble.probabilities.shape == (2, 3)
    expected = [clipzoo.load(folder / f"fold_{k}", device="cpu").classify(images[:2]).probabilities.double() for k in (1, 2, 3)]
    torch.testing.assert_close(ensemble.probabilities.double(), torch.stack(expected).mean(dim=0), atol=1e-6, rtol=0)


def test_a_clip_predicts_the_sigmoid_of_its_training_with_the_bias(clip_run, table):
    validation, summary, folder = clip_run
    stored = read_table(folder / "fold_1" / "predictions.csv")
    loaded = clipzoo.load(folder / "fold_1", device="cpu")
    images = [table.parent / case_id for case_id in stored.case_ids]
    found = loaded.classify(images, batch_size=16)
    assert found.multi_label and found.classes == FINDINGS
    np.testing.assert_allclose(found.probabilities.numpy(), stored.probabilities, atol=1e-6)
    cosines = loaded.similarity(images, [sentences[0] for sentences in loaded.class_captions])
    bias = checkpoint.read(folder / "fold_1" / "checkpoint_best.pth")["model"]["loss.logit_bias"]
    torch.testing.assert_close(found.probabilities, torch.sigmoid(cosines / loaded.temperature + bias), atol=1e-5, rtol=1e-4)
    other = loaded.classify(images[:2], ["一张有积液的片子", "一张正常的片子"])
    assert other.multi_label and (other.probabilities.sum(dim=1) - 1).abs().min() > 1e-4
    assert len(summary.findings) == 3 and not math.isnan(summary.pooled["mean_auroc"])
    history = json.loads((folder / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert 0 <= history[0]["in_batch_accuracy"] <= 1


@pytest.mark.parametrize("kind", ["clip", pytest.param("classifier", marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_bit_for_bit(finished, clip_run, table, tmp_path, quiet, stopped_at, kind):
    validation, _, whole = finished if kind == "classifier" else clip_run

    with stopped_at(2):
        CrossValidation(validation.config, tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(validation.config, tmp_path / "stopped", console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv", "val_predictions.csv"):
        assert (tmp_path / "stopped" / "fold_1" / name).read_bytes() == (whole / "fold_1" / name).read_bytes(), name


def test_scoring_again_and_scoring_another_table(finished, table, tmp_path, quiet):
    validation, _, folder = finished
    log = make_log(quiet, None)
    agreement = rescoring.score_again(validation, log)
    assert agreement.holds and agreement.largest == 0
    other = write_findings(tmp_path / "other", num_cases=20, seed=5)
    external = rescoring.score_external(validation.config, folder, str(other), log)
    found = external.tables["predictions.csv"]
    assert isinstance(found, FindingsTable) and external.joint == "ensemble" and set(external.intervals) == set(external.metrics)
    images = [other.parent / case_id for case_id in found.case_ids]
    np.testing.assert_allclose(found.probabilities, clipzoo.load(folder, device="cpu").classify(images).probabilities, atol=1e-6)
    with pytest.raises(DataError, match=r"a model of findings .* is scored on a table like that of its training"):
        rescoring.score_external(validation.config, folder, str(other.parent), log)


def test_a_table_with_other_findings_or_of_another_kind_is_not_the_fold_s(finished):
    validation, _, folder = finished
    split, stored = validation.folds.splits[0], read_table(folder / "fold_1" / "predictions.csv")
    assert table_problem(stored, split, validation.dataset) == ""
    edited = replace(stored, findings=np.where(stored.findings < 0, 0, stored.findings).astype(np.int8))
    number = int((stored.findings < 0).any(axis=1).sum())
    assert table_problem(edited, split, validation.dataset).startswith(f"{number} labels differ from those of the data: images/")
    shares = stored.probabilities / stored.probabilities.sum(axis=1, keepdims=True)
    classes = PredictionTable(FINDINGS, stored.case_ids, stored.groups, stored.folds, np.zeros(len(shares), dtype=np.int64), shares)
    assert table_problem(classes, split, validation.dataset) == "has labels of another kind than the data"


def test_changed_findings_are_refused(finished, table, tmp_path, quiet):
    validation, _, folder = finished
    text = table.read_text(encoding="utf-8")
    lines = text.splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:2], *("0" if cell == "1" else "1" for cell in lines[1].split(",")[2:])])
    try:
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"made with other folds\..*1 case is with other findings \(images/000\.png\)"):
            CrossValidation(validation.config, folder, console=quiet).train()
    finally:
        table.write_text(text, encoding="utf-8")


MISFITS = [
    ({"model": {"loss": {"type": "CrossEntropyLoss"}}}, r"model\.loss: CrossEntropyLoss chooses one class per image, but TableDataset has "
     r"findings \(several labels per image\)\. Use BinaryCrossEntropyLoss"),
    ({"evaluation": {"calibrate": True}}, r"evaluation\.calibrate: requires one class per image, but TableDataset has findings"),
    ({"evaluation": {"unit": "group"}}, r"evaluation\.unit: requires one class per image"),
    ({"evaluation": {"positive_class": "积液"}}, r"evaluation\.positive_class: requires one class per image"),
    ({"evaluation": {"select": "auroc"}}, r"evaluation\.select: 'auroc' is not among the metrics\. Did you mean 'mean_auroc'\? Avail"),
    ({"evaluation": {"metrics": ["AUROC"]}}, r"evaluation\.metrics: auroc cannot be computed here: TableDataset has findings \(several"),
    ({"splits": {"num_repeats": 2}}, r"splits\.num_repeats: repeats of findings"),
    ({"data": {"sampler": "WeightedSampler"}}, r"WeightedSampler: the dataset has cases without a class\. Use RandomSampler"),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "message"), MISFITS, ids=lambda value: str(value)[:40])
def test_what_needs_one_class_per_image_is_one_line(table, tmp_path, quiet, sections, message):
    config = findings_config(table)
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values}
    with pytest.raises((ConfigError, DataError), match=message) as error:
        CrossValidation(Config.from_dict(config, "x"), tmp_path / "work", console=quiet).train(fold=1)
    assert "\n" not in str(error.value) and not (tmp_path / "work").exists()


@pytest.mark.parametrize("loss", ["MultiPositiveContrastiveLoss", "CaptionCrossEntropyLoss", "SigmoidContrastiveLoss"])
def test_contrastive_losses_are_refused_for_findings(table, tmp_path, quiet, loss):
    model = {**tiny_config(tmp_path)["model"], "loss": {"type": loss}}
    with pytest.raises(ConfigError, match=f"model.loss: {loss} compares images with captions, not with each finding.*Use ClassSigmoidLoss"):
        CrossValidation(Config.from_dict(findings_config(table, model), "x"), tmp_path / "work", console=quiet).train(fold=1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "classifier",
            r"BinaryCrossEntropyLoss is for findings .*, but ImageFolderDataset has classes\. Use CrossEntropyLoss, or",
        ),
        ("clip", r"ClassSigmoidLoss is for findings .*, but ImageFolderDataset has classes\. Use CaptionCrossEntropyLoss, or"),
    ],
)
def test_losses_of_findings_are_refused_for_one_class_per_image(tmp_path, quiet, table, model, message):
    root = write_class_folders(tmp_path / "images", per_class=6)
    config = tiny_config(root)
    config["model"] = findings_config(table)["model"] if model == "classifier" else clip_model(tmp_path)
    with pytest.raises(ConfigError, match=message):
        CrossValidation(Config.from_dict(config, "x"), tmp_path / "work", console=quiet).train(fold=1)


def test_metrics_of_findings_are_refused_for_one_class_per_image(tmp_path):
    config = Config.from_dict(tiny_config(write_class_folders(tmp_path / "images", per_class=4)), "x")
    from clipzoo.config.settings import EvaluationSettings

    with pytest.raises(ConfigError, match="mean_auroc cannot be computed here: ImageFolderDataset has classes, so it is scored"):
        metrics(EvaluationSettings(metrics=["MeanAUROC"]), build.dataset(config))


@pytest.mark.slow
def test_without_val_there_are_no_thresholds_and_the_summary_says_so(table, tmp_path, quiet):
    config = findings_config(table, train={"epochs": 1}, splits={"val_fraction": 0.0, "num_folds": 2})
    summary = CrossValidation(Config.from_dict(config, "x"), tmp_path / "work", console=quiet).train()
    assert any(note.startswith("no thresholds in fold_1, fold_2") for note in summary.notes)
    assert all(row["sensitivity"] is None and row["auroc"] is not None for row in summary.findings)


def test_a_val_part_on_which_the_selecting_metric_is_undefined_is_refused_before_training(tmp_path, quiet):
    table = write_findings(tmp_path / "few", num_cases=12, unknown=0.0)
    lines = table.read_text(encoding="utf-8").splitlines()
    same = [lines[0], *(",".join([*line.split(",")[:2], *("111" if int(line[7:10]) < 6 else "000")]) for line in lines[1:])]
    table.write_text("\n".join(same) + "\n", encoding="utf-8")
    sections = {"splits": {"num_folds": 2, "val_fraction": 0.1}}
    with pytest.raises(ConfigError, match=r"evaluation\.select: mean_auroc is undefined in fold_1 \(val\).*no finding is both present and"):
        CrossValidation(Config.from_dict(findings_config(table, **sections), "x"), tmp_path / "work", console=quiet)
    smooth = findings_config(table, **sections, evaluation={"select": "binary_log_loss"})
    CrossValidation(Config.from_dict(smooth, "x"), tmp_path / "work", console=quiet)


def test_a_mean_of_classifications_stays_one_of_findings():
    one = Classification(("a", "b"), torch.tensor([[0.2, 0.9]]), multi_label=True)
    assert Classification.mean([one, one]).multi_label


@pytest.mark.slow
def test_it_learns(table, tmp_path, quiet):
    """Marks in three quarters of a picture, with a tenth of the answers unknown, are told apart on the test parts."""
    many = write_findings(tmp_path / "many", num_cases=120, seed=1)
    config = findings_config(many, train={"epochs": 25}, splits={"num_folds": 2})
    summary = CrossValidation(Config.from_dict(config, "x"), tmp_path / "work", console=quiet).train()
    assert summary.mean["mean_auroc"] > 0.95 and all(row["f1"] > 0.8 for row in summary.findings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classification/r18_linear_hip-findings_5fold.py", "clip/r18_bertsmall_hip-findings_5fold.py"])
def test_the_shipped_configs_train_on_drawn_radiographs(tmp_path, quiet, name):
    """Small towers and few epochs; the files are those of a whole cross-validation."""
    from clipzoo.datasets.samples.sample_data import create_sample_dataset

    root = create_sample_dataset(tmp_path / "hip", "hip", 48)
    config = Config.load(Path(__file__).resolve().parents[2] / "configs" / name).plain()
    config["model"]["image_encoder"] = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 64}
    config["data"] = {**config["data"], "dataset": {**config["data"]["dataset"], "path": str(root / "findings.csv")}, "num_workers": 0}
    config["splits"] = {**config["splits"], "num_folds": 2, "val_fraction": 0.3, "min_groups_per_class": 1}
    config["data"]["batch_size"], config["optimizer"]["lr"] = 8, 3e-3
    config |= {"train": {"epochs": 8}, "runtime": {"device": "cpu", "threads": 1}}
    summary = CrossValidation(Config.from_dict(config, "hip"), tmp_path / "work", console=quiet).train()
    assert [row["finding"] for row in summary.findings] == ["骨水泥", "金属臼杯", "股骨柄", "环扎钢丝"]
    assert not math.isnan(summary.pooled["mean_auroc"])
    assert read_table(tmp_path / "work" / "oof_predictions.csv").findings.shape == (48, 4)
    history = json.loads((tmp_path / "work" / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert history[-1]["loss"] < history[0]["loss"]
