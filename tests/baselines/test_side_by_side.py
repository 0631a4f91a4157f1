"""Baselines that are learned side by side are those learned one after the other."""

from __future__ import annotations

import logging
import os
import signal

import numpy as np
import pytest

from clipzoo.baselines.predictions import Frozen, jobs_for, predict_folds
from clipzoo.baselines.run import Baselines, Options
from clipzoo.engine import build
from clipzoo.errors import BuildError, ProcessError
from clipzoo.probes import KNearest, Prototype
from clipzoo.probes.base import FittedProbe, Probe
from clipzoo.runtime.jobs import memory, shares


@pytest.mark.slow
def test_folds_side_by_side_give_the_same_tables(config_of, tmp_path, quiet):
    only = ["majority", "prototype", "knn", "linear"]
    for jobs in (1, 2):
        Baselines(config_of(), tmp_path / str(jobs), Options(only=only, jobs=jobs), console=quiet).compute()
    for name in only:
        one, two = (tmp_path / str(jobs) / "baselines" / name / "oof_predictions.csv" for jobs in (1, 2))
        assert one.read_bytes() == two.read_bytes(), name
        one, two = (build_summary(path.parent) for path in (one, two))
        assert one.intervals == two.intervals and one.pooled == two.pooled and one.folds[0]["chosen"] == two.folds[0]["chosen"]


def build_summary(folder):
    from clipzoo.records.results import Summary

    return Summary.read(folder)


class Deadly(Probe):
    """Ends its process, as the system does when memory runs out."""

    name = "deadly"

    def learn(self, examples) -> FittedProbe:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_is_one_line(config_of):
    config = config_of()
    data = build.dataset(config)
    splits = build.folds(config, data).splits
    known = Frozen(np.eye(len(data), dtype=np.float32))
    with pytest.raises(ProcessError, match="--jobs: a process that learned a baseline was killed"):
        list(predict_folds(Deadly(), data, splits, known, jobs=2))


def test_no_more_processes_than_the_memory_holds(monkeypatch, caplog):
    log = logging.getLogger("memory")
    caplog.set_level(logging.INFO)
    kinds, size = [Prototype, KNearest], 512 * 2**20
    monkeypatch.setattr(shares, "cores", lambda: 8)
    monkeypatch.setattr(memory, "available", lambda: 20 * 2**30)
    with pytest.raises(BuildError, match=r"--jobs 3: a process that learns a baseline takes about 8\.1 GiB of memory, and 20\.0 GiB are"):
        jobs_for(kinds, size, 3, 5, log)
    assert jobs_for(kinds[:1], size, 4, 5, log) == 4, "another method takes less"
    assert jobs_for(kinds, size, 2, 5, log) == 2 and not caplog.messages
    assert jobs_for(kinds, size, "auto", 5, log) == 2 and caplog.messages[0].endswith("are free: 2 at a time")
    monkeypatch.setattr(memory, "available", lambda: 2**30)
    assert jobs_for(kinds, size, "auto", 5, log) == 1 and jobs_for(kinds, size, 1, 5, log) == 1, "this process learns anyway"
    monkeypatch.setattr(memory, "available", lambda: None)
    assert jobs_for(kinds, size, "auto", 5, log) == 5
