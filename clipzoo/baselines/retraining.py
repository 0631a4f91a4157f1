"""Baselines learned again without one block of groups at a time, for what training adds to their intervals.

A probe learns in milliseconds, so the whole cross-validation can be repeated; see ``statistics/uncertainty/retraining.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from clipzoo.baselines.predictions import Frozen, predict_folds
from clipzoo.probes import Probe
from clipzoo.records.folds import Folds, Split
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime import progress
from clipzoo.scoring.units import Unit
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
    unit: Unit,
    console: Console,
    log: logging.Logger,
    jobs: int = 1,
) -> dict[Key, float]:
    """Factors of the standard errors of a baseline's metrics.

    Args:
        probe: Method.
        data: Dataset with the cases.
        folds: All folds.
        known: Features of all cases.
        table: Out-of-fold predictions of the method.
        chosen: Hyper-parameters by fold, which are kept.
        unit: What counts once in the metrics.
        console: Console that shows the progress.
        log: Logger for progress, if the console is not a terminal.
        jobs: Number of processes that learn side by side.
    """
    cases = Cases.from_table(unit.of(table))
    learnt = {case_id for split in folds.splits for case_id in split.train}
    if not probe.needs_examples or cases.num_groups < 2 or not np.isfinite(cases.probabilities).all() or learnt.isdisjoint(table.case_ids):
        return {}  # of a holdout, no tested case is a training case of others
    group_of = {case_id: group or case_id for case_id, group in zip(table.case_ids, table.groups, strict=True)}
    blocks = list(without_blocks(cases))
    parts_of = []
    for kept in blocks:
        names = {case_id for case_id, stays in zip(cases.case_ids, kept, strict=True) if not stays}
        gone = {case_id for case_id, group in group_of.items() if case_id in names or group in names}
        parts_of.append([part for split in folds.splits if (part := _without(split, gone, data)).test])
    fits = predict_folds(probe, data, [part for parts in parts_of for part in parts], known, chosen, jobs=jobs)
    left_out = []
    with progress.shown(f"{probe.name}: interval", len(blocks), console, log, unit="blocks") as show, closing(fits):
        for number, parts in enumerate(parts_of, start=1):
            tables = [next(fits)[0] for _ in parts]
            left_out.append(Cases.from_table(unit.of(PredictionTable.join(tables))))
            show(number)
    return widening(cases, left_out)


def _without(split: Split, gone: set[str], data: Dataset) -> Split:
    """The fold without some cases; its train part is kept whole if no labelled case would remain."""
    train, test = (tuple(case_id for case_id in part if case_id not in gone) for part in (split.train, split.test))
    return replace(split, train=train if (data.labels[data.rows_of(train)] >= 0).any() else split.train, test=test)
