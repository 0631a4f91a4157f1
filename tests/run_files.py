"""Finished runs made without training: tables of drawn predictions, and the summaries that follow from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from clipzoo.files import file_sha256
from clipzoo.metrics import AUROC, Accuracy, BalancedAccuracy, LogLoss, MacroF1
from clipzoo.records.folds import Case, Folds, Split
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.scoring.summary import make_summary

METRICS = (Accuracy(), BalancedAccuracy(), MacroF1(), AUROC(), LogLoss())


def table_of(num_groups: int = 60, per_group: int = 2, *, right: float = 0.8, seed: int = 0) -> PredictionTable:
    """Two classes, several images per patient, two folds; this share of the images is right."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), per_group)
    labels = groups % 2
    score = np.where(rng.random(len(labels)) < right, 0.7, 0.3) + 0.2 * rng.random(len(labels)) - 0.1
    probabilities = np.where(labels[:, None] == np.arange(2), score[:, None], 1 - score[:, None])
    return PredictionTable(
        ("非骨水泥型", "骨水泥型"),
        tuple(f"{g:03}_{i:04}.png" for i, g in enumerate(groups)),
        tuple(f"P{g:03}" for g in groups),
        tuple(f"fold_{1 + g // 2 % 2}" for g in groups),
        labels,
        probabilities.astype(np.float32),
    )


def folds_of(table: PredictionTable) -> Folds:
    """The folds that the table names; no case chooses an epoch."""
    cases = [Case(i, int(label), group) for i, label, group in zip(table.case_ids, table.labels, table.groups, strict=True)]
    rows = list(zip(table.case_ids, table.folds, strict=True))
    splits = []
    for name in ("fold_1", "fold_2"):
        train, test = (tuple(i for i, fold in rows if (fold == name) is tested) for tested in (False, True))
        splits.append(Split(name, train, (), test))
    return Folds(tuple(cases), table.classes, tuple(splits), {"type": "test"})


def summary_of(table: PredictionTable) -> Summary:
    folds = folds_of(table)
    numbers = {metric.name: 0.5 for metric in METRICS}
    end = ({"test": 1}, {}, 1.0, "cpu", "fp32", 1)
    results = [FoldResult(split.name, "last epoch", "x.pth", 3, 3, numbers, *end) for split in folds.splits]
    return make_summary("名字", METRICS, folds, results, table)


def write_run(folder: Path, table: PredictionTable) -> Summary:
    """``oof_predictions.csv`` and ``cv_summary.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    table.write(folder / "oof_predictions.csv")
    summary = replace(summary_of(table), predictions_digest=file_sha256(folder / "oof_predictions.csv"))
    summary.write(folder)
    return summary
