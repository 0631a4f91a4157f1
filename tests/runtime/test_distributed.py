"""Several processes: no case twice in a step, none twice in an evaluation; and runs started by the scripts in tools/, as a user would.

This file is also the program that three of the processes run.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import in_processes, launch
from tiny import tiny_config, write_pairs

from clipzoo.config import Config
from clipzoo.datasets.batches.epochs import EpochBatches
from clipzoo.datasets.batches.samplers import DistinctCaptionSampler, RandomSampler, WeightedSampler
from clipzoo.engine import build, checkpoint
from clipzoo.engine.evaluation import evaluate
from clipzoo.engine.runner import Runner
from clipzoo.records.folds import Split
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tables import PredictionTable, read_table
from clipzoo.runtime.log import make_console, make_log

SAMPLERS = [RandomSampler(), WeightedSampler("inverse_freq"), WeightedSampler("balanced"), DistinctCaptionSampler()]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: getattr(sampler, "method", type(sampler).__name__))
@pytest.mark.parametrize("world", [2, 3])
def test_no_case_is_twice_in_a_step_of_all_processes(class_folders, pairs, sampler, world):
    weighted = isinstance(sampler, WeightedSampler)
    spec = {"type": "ImageFolderDataset", "root": str(class_folders)} if weighted else {"type": "PairsDataset", "path": str(pairs)}
    data = build.dataset(Config.from_dict({**tiny_config(class_folders), "data": {"dataset": spec}}, "tiny"))
    rows = np.arange(1, len(data))  # an odd number, more of some classes than of others
    size = 2 if sampler is SAMPLERS[-1] else 4
    seen = []
    ranks = [EpochBatches(data, rows, sampler, batch_size=size, seed=3, rank=r, world_size=world) for r in range(world)]
    for epoch in range(3):
        for batches in ranks:
            batches.set_epoch(epoch)
        for parts in zip(*ranks, strict=True):
            joint = [draw for part in parts for draw in part]
            assert len({len(part) for part in parts}) == 1, "processes wait for each other: all have as many cases"
            assert len({draw.row for draw in joint}) == len(joint)
            if sampler is SAMPLERS[-1]:
                assert len({draw.caption for draw in joint}) == len(joint)
            seen.append(tuple(draw.row for draw in joint))
    assert len(set(seen)) == len(seen) >= 3 * len(ranks[0]) > 3


def make_runner(kind: str, images: str, pairs: str, folder: Path) -> Runner:
    """A run whose test part has 10 cases: of classes, or of pairs."""
    config = tiny_config(Path(images), data={"eval_batch_size": 2}, hooks=[])
    if kind == "pairs":
        config["data"]["dataset"] = {"type": "PairsDataset", "path": pairs}
    loaded = Config.from_dict(config, kind)
    data = build.dataset(loaded)
    ids = [case.id for case in data.cases]
    console = make_console(quiet=True)
    split = Split("fold_1", train=tuple(ids[10:]), val=(), test=tuple(ids[:10]))
    return Runner(loaded, data, split, folder, log=make_log(console, None), console=console)


def score_part(images: str, pairs: str, folder: str, rank: int | None) -> None:
    """Score the test part, and write the table and the metrics."""
    for kind in ("classes", "pairs"):
        found = evaluate(make_runner(kind, images, pairs, Path(folder)).run, "test")
        target = Path(folder) / f"{kind}-{rank}"
        target.mkdir()
        found.table.write(target / "table.csv")
        (target / "metrics.json").write_text(json.dumps(found.metrics))


@pytest.mark.slow
def test_three_processes_score_every_case_once(class_folders, pairs, tmp_path):
    launch(__file__, class_folders, pairs, tmp_path)
    score_part(str(class_folders), str(pairs), str(tmp_path), None)
    for kind in ("classes", "pairs"):
        expected = read_table(tmp_path / f"{kind}-None" / "table.csv")
        assert len(set(expected.case_ids)) == 10
        metrics = [json.loads((tmp_path / f"{kind}-{rank}" / "metrics.json").read_text()) for rank in (None, 0, 1, 2)]
        for rank in range(3):
            found = read_table(tmp_path / f"{kind}-{rank}" / "table.csv")
            assert found.case_ids == expected.case_ids
            if kind == "classes":
                np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
            else:
                assert found.query.tolist() == expected.query.tolist()
                np.testing.assert_allclose(found.positive_similarity, expected.positive_similarity, atol=1e-6)
            assert metrics[rank + 1] == pytest.approx(metrics[0], abs=1e-5, nan_ok=True)


def fit_while_writing_takes_long(images: str, pairs: str, folder: str, rank: int) -> None:
    """Train without a val part; the file that is scored then must be the last one for every process."""
    write = checkpoint.write
    checkpoint.write = lambda path, content: (time.sleep(0.3), write(path, content))
    runner = make_runner("classes", images, pairs, Path(folder) / "run")
    runner.fit()
    assert checkpoint.read(runner.run.folder / runner.chosen())["state"]["epoch"] == runner.run.state.epoch == 2
    runner.run.meter.reset()  # in the middle of an epoch each process has losses of its own
    runner.run.meter.add({"loss": torch.tensor(float(1 + rank))}, 2, 1)
    checkpoint.save_latest(runner.run)
    resumed = make_runner("classes", images, pairs, Path(folder) / "run").run
    assert checkpoint.resume(resumed) and resumed.meter.totals() == {"names": ["loss"], "sums": [2.0 * (1 + rank)], "cases": 2}


@pytest.mark.slow
def test_no_process_scores_a_checkpoint_that_is_not_yet_written_and_each_goes_on_with_its_own_losses(class_folders, pairs, tmp_path):
    launch(__file__, class_folders, pairs, tmp_path, "fit")


@pytest.mark.slow
def test_two_processes_train_the_folds_and_agree(class_folders, tmp_path, repo):
    config = tmp_path / "tiny.py"
    sections = {"data": {"batch_size": 4}, "train": {"epochs": 5}, "evaluation": {"calibrate": True}}
    config.write_text(Config.from_dict(tiny_config(class_folders, **sections)).dump(), encoding="utf-8")
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(repo / "tools" / "dist_train.sh"), str(config), "2", "--work-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    table = PredictionTable.read(tmp_path / "run" / "oof_predictions.csv")
    assert len(table.case_ids) == 36 and 0 <= Summary.read(tmp_path / "run").pooled["accuracy"] <= 1
    content = checkpoint.read(tmp_path / "run" / "fold_1" / "checkpoint_latest.pth")
    assert len(content["generators"]) == 2 and all(torch.isfinite(v).all() for v in content["model"].values())
    history = json.loads((tmp_path / "run" / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert history[-1]["step"] == 5 * 2 and history[-1]["loss"] < history[0]["loss"]
    assert done.stderr.count("fold_2: test accuracy") == 1, "only the main process speaks"
    result = FoldResult.read(tmp_path / "run" / "fold_1")
    scored = checkpoint.read(tmp_path / "run" / "fold_1" / result.checkpoint)
    assert scored["digest"] == result.checkpoint_digest and scored["calibration"]["temperature"] == result.calibration["temperature"]


def script(repo: Path, folder: Path, name: str, *arguments: object, **variables: str) -> subprocess.Popen:
    kept = {k: v for k, v in os.environ.items() if k not in ("PORT", "NNODES", "NODE_RANK", "MASTER_ADDR")}
    environment = {**kept, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **variables}
    command = ["bash", str(repo / "tools" / name), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder)


def finished(process: subprocess.Popen) -> tuple[str, str]:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return output, errors


SRUN = """
import os, subprocess, sys
words = sys.argv[1:]
command = words[words.index(sys.executable):]
slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost"}
ranks = [{**os.environ, **slurm, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "MASTER_PORT": os.environ["FREE"]} for i in range(2)]
processes = [subprocess.Popen(command, env=rank) for rank in ranks]
sys.exit(max(process.wait() for process in processes))
"""


@pytest.mark.slow
def test_two_machines_train_slurm_goes_on_and_three_processes_score(class_folders, tmp_path, repo):
    """Two invocations that meet on localhost; then an ``srun`` of our own, which finds the training done; then ``dist_test.sh``."""
    plain = {**tiny_config(class_folders, data={"batch_size": 4}, train={"epochs": 1}), "splits": {"type": "Holdout", "val_fraction": 0.2}}
    config, run = tmp_path / "tiny.py", tmp_path / "run"
    config.write_text(Config.from_dict(plain).dump(), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    nodes = {"NNODES": "2", "MASTER_ADDR": "localhost", "PORT": port}
    machines = [script(repo, tmp_path, "dist_train.sh", config, 1, "--work-dir", run, **nodes, NODE_RANK=str(i)) for i in range(2)]
    spoken = [finished(machine)[1] for machine in machines]
    assert [text.count("fold_1: test accuracy") for text in spoken] == [1, 0]
    assert len(checkpoint.read(run / "fold_1" / "checkpoint_latest.pth")["generators"]) == 2

    (tmp_path / "srun.py").write_text(SRUN)
    (tmp_path / "srun").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/srun.py" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FREE": port, "GPUS": "2"}
    slurm = script(repo, tmp_path, "slurm_train.sh", "part", "job", config, tmp_path / "slurm", **here)
    assert finished(slurm)[1].count("fold_1: test accuracy") == 1
    same = [(folder / "fold_1" / "predictions.csv").read_text() for folder in (run, tmp_path / "slurm")]
    assert same[0] == same[1], "two processes are two processes, whoever starts them"

    output, _ = finished(script(repo, tmp_path, "dist_test.sh", config, run, 3))
    assert output.count("agrees with oof_predictions.csv") == 1
    output, _ = finished(script(repo, tmp_path, "dist_test.sh", config, run, 2, "--data", class_folders, "--allow-overlap"))
    assert output.count("results:") == 1 and (run / "external" / class_folders.name / "summary.json").exists()


if __name__ == "__main__":
    images_, pairs_, folder_, *fit_ = sys.argv[1:]
    make_runner("classes", images_, pairs_, Path(folder_))  # what is imported here, the processes need not
    importlib.import_module("sklearn.metrics")
    if fit_:
        in_processes(2, partial(fit_while_writing_takes_long, images_, pairs_, folder_), Path(folder_))
    else:
        in_processes(3, partial(score_part, images_, pairs_, folder_), Path(folder_))
