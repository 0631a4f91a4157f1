"""Grids on engines that exist: Slurm through submitit, whose local executor runs the same jobs here, and a Ray cluster of two nodes."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from clipzoo.errors import BuildError, ConfigError
from clipzoo.grid.jobs import Job, product
from clipzoo.grid.ray_cluster import run_on_ray
from clipzoo.grid.remote import RemoteJob, parse_options
from clipzoo.grid.running import Grid, Outcome
from clipzoo.grid.slurm import run_on_slurm
from clipzoo.records.results import Summary

OPTIONS = ["model.image_encoder.image_size=32", "train.epochs=1"]


@pytest.fixture
def grid(tiny, tmp_path, finished_job, monkeypatch, repo) -> Grid:
    """A job that trains, one that finds no weights, and one that was finished earlier."""
    monkeypatch.setenv("PYTHONPATH", str(repo))  # for the processes of the engines
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a token would be written to the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    jobs = product(["timm:test_resnet"], ["bert", "hf:no/such/folder", "bert-base-chinese"], [1])
    finished_job(tmp_path / "grid" / jobs[2].name, accuracy=0.5)
    return Grid(jobs, str(tiny), tmp_path / "grid", OPTIONS, say=lambda line: None)


def check(grid: Grid, outcomes: list[Outcome]) -> None:
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "skipped"], [outcome.message for outcome in outcomes]
    assert len(Summary.read(grid.folder / grid.jobs[0].name).folds) == 2
    assert outcomes[1].message.startswith("error: ") and "no/such/folder" in outcomes[1].message
    again = Grid(grid.jobs[:1], grid.config, grid.folder, OPTIONS, say=lambda line: None)
    assert not (grid.folder / grid.jobs[1].name).exists() and again.is_done(again.jobs[0])


@pytest.mark.slow
def test_a_grid_on_submitits_local_executor(grid):
    check(grid, run_on_slurm(grid, {"timeout_min": 10}, 2, cluster="local"))
    assert len(list((grid.folder / "slurm").glob("*_result.pkl"))) == 2, "the finished job was not submitted"


@pytest.mark.slow
def test_a_grid_on_a_ray_cluster_of_two_nodes(grid):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        check(grid, run_on_ray(grid, {"address": cluster.address, "num_cpus": 1}))
        nodes = [node for node in ray.nodes() if node["Alive"]]
        assert len(nodes) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_slurm_without_slurm_is_one_line(grid, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match=r"--launcher slurm: .*srun.*\. Start it where sbatch and srun are"):
        run_on_slurm(grid, {})
    with pytest.raises(ConfigError, match="--launcher-options: .*no_such"):
        run_on_slurm(grid, {"no_such": 1}, cluster="local")
    assert not list(grid.folder.glob("*.log"))


@pytest.mark.parametrize(("name", "run"), [("submitit", run_on_slurm), ("ray", run_on_ray)])
def test_a_missing_package_is_one_line(grid, monkeypatch, name, run):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BuildError, match=rf"--launcher \w+: requires the package {name}. Run pip install {name}"):
        run(grid, {})


def test_options_of_ray_are_checked(grid):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="--launcher-options: num_gpu is not for ray. Known: address, num_cpus, num_gpus"):
        run_on_ray(grid, {"num_gpu": 1})


def test_options_are_key_and_value():
    assert parse_options(["a=1", "b=0.5", "c=x=y", "d="]) == {"a": 1, "b": 0.5, "c": "x=y", "d": ""}
    with pytest.raises(ConfigError, match="--launcher-options: 'x' is not KEY=VALUE"):
        parse_options(["x"])


def test_a_remote_job_runs_where_the_grid_was_started_and_writes_before_it_ends(tmp_path, monkeypatch):
    code = """
import os, pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path('checkpoint').write_text('x')
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
print(os.getcwd(), flush=True)
time.sleep(float(sys.argv[1]))
"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Grid, "command", lambda self, job, device: [sys.executable, "-S", "-c", code, job.image])
    grid = Grid([], "c.py", tmp_path)
    status, seconds = RemoteJob.of(grid, Job("quick", "0", "t", 1, ()))()
    assert status == 0 and seconds < 30 and (tmp_path / "quick.log").read_text().strip() == str(tmp_path)
    job = RemoteJob.of(grid, Job("slow", "30", "t", 1, ()))
    thread = threading.Thread(target=job)
    thread.start()
    while not (tmp_path / "slow.log").exists() or not (tmp_path / "slow.log").read_text():
        time.sleep(0.01)
    job.end()
    thread.join(30)
    assert (tmp_path / "checkpoint").exists()


def test_devices_and_options_belong_to_their_launchers(tiny, tmp_path, capsys):
    from clipzoo.cli import main

    towers = ["grid", str(tiny), "--image", "timm:test_resnet", "--text", "bert", "--work-dir", str(tmp_path / "grid")]
    for more, message in (
        (["--launcher", "slurm", "--devices", "cpu"], "--devices: slurm chooses the devices of its jobs"),
        (["--launcher-options", "a=1"], "--launcher-options: only with --launcher slurm or --launcher ray"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*towers, *more])
        err = capsys.readouterr().err
        assert end.value.code == 2 and err.startswith(f"error: {message}") and len(err.splitlines()) == 1
