"""Baselines learned again without one block of groups at a time, for what training adds to their intervals.

A probe learns in milliseconds, so the whole cross-validation can be repeated; see ``statistics/uncertainty/retraining.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from clipzoo.baselines.predictions import Frozen, predict_fold
from clipzoo.probes import Probe
from clipzoo.records.folds import Folds, Split
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime import progress
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.influence import Key
from clipzoo.statistics.uncertainty.retraining import widening, without_blocks

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset


def widening_of(
    probe: Probe,
    data: Dataset,
    folds: Folds,
    known: Frozen,
    table: PredictionTable,
    chosen: Mapping[str, Mapping[str, float]],
    *,
    console: Console,
    log: logging.Logger,
) -> dict[Key, float]:
    """Factors of the standard errors of a baseline's metrics.

    Args:
        probe: Method.
        data: Dataset with the cases.
        folds: All folds.
        known: Features of all cases.
        table: Out-of-fold predictions of the method.
        chosen: Hyper-parameters by fold, which are kept.
        console: Console that shows the progress.
        log: Logger for progress, if the console is not a terminal.
    """
    cases = Cases.from_table(table)
    if not probe.needs_examples or cases.num_groups < 2 or not np.isfinite(cases.probabilities).all():
        return {}
    blocks = list(without_blocks(cases))
    left_out = []
    with progress.shown(f"{probe.name}: interval", len(blocks), console, log, unit="blocks") as show:
        for number, kept in enumerate(blocks, start=1):
            gone = {case_id for case_id, stays in zip(cases.case_ids, kept, strict=True) if not stays}
            tables = []
            for split in folds.splits:
                rest = _without(split, gone)
                if rest.test:
                    tables.append(predict_fold(probe, data, rest, known, chosen[split.name])[0])
            left_out.append(Cases.from_table(PredictionTable.join(tables)))
            show(number)
    return widening(cases, left_out)


def _without(split: Split, gone: set[str]) -> Split:
    train, test = (tuple(case_id for case_id in part if case_id not in gone) for part in (split.train, split.test))
    return replace(split, train=train or split.train, test=test)
