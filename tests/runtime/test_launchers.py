"""Who is who, from the variables of torchrun and srun; and what the scripts in tools/ start."""

import os
import socket
import subprocess

import pytest
import torch

from clipzoo.errors import BuildError
from clipzoo.runtime.distributed import gpu_of, process_group
from clipzoo.runtime.launchers import Place, first_host, place_of

SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "7",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "2",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node[003-010,15]", "node003"),
        ("node[12,15-20],login2", "node12"),
        ("a-1,b-2", "a-1"),
        ("rack[1-2]n[01-04]", "rack1n01"),
        ("n[5-6]-ib.cluster.org,n9", "n5-ib.cluster.org"),
    ],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize("nodes", ["", "[", "node[", "node[]", "node[a-b]", "node[1-2", ",node1", "no de"])
def test_what_is_no_list_of_nodes(nodes):
    with pytest.raises(BuildError, match="is not a list of nodes. Set MASTER_ADDR"):
        first_host(nodes)


def test_a_place_under_slurm():
    place = place_of("slurm", SLURM)
    port = 10_000 + 12_345_672 % 20_000
    assert place == Place("slurm", 5, 7, 1, 3, f"tcp://gpu07:{port}")
    given = place_of("slurm", {**SLURM, "MASTER_ADDR": "other", "MASTER_PORT": "77", "SLURM_GPUS_PER_TASK": "1"})
    assert given.meeting == "tcp://other:77" and given.own_gpu and not place.own_gpu
    ports = {place_of("slurm", {**SLURM, "SLURM_JOB_ID": str(job)}).meeting.rpartition(":")[2] for job in range(2000, 3000)}
    assert len(ports) == 1000 and all(10_000 <= int(p) < 30_000 for p in ports)


@pytest.mark.parametrize(
    ("tasks", "per_node", "node", "expected"),
    [
        ("4(x2),3", "9", "1", 4),
        ("4(x2),3", "9", "2", 3),
        (None, "4", "1", 4),
        (None, "8", "0", 7),
        (None, None, "0", 7),
        ("2", "3", "5", 3),
    ],
)
def test_how_many_processes_a_node_has(tasks, per_node, node, expected):
    set_ = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NTASKS_PER_NODE": per_node, "SLURM_NODEID": node}
    environment = {key: value for key, value in {**SLURM, **set_}.items() if value is not None}
    assert place_of("slurm", environment).local_world_size == expected


def test_a_place_under_torchrun():
    assert place_of("pytorch", TORCHRUN) == Place("pytorch", 3, 4, 1, 2, "env://")


@pytest.mark.parametrize(
    ("launcher", "environment", "message"),
    [
        ("pytorch", {}, "--launcher pytorch: RANK, WORLD_SIZE, .* not set. Start with: torchrun"),
        ("pytorch", {**TORCHRUN, "RANK": "x"}, "RANK is 'x', not a number"),
        ("slurm", {}, "--launcher slurm: SLURM_PROCID, SLURM_NTASKS, .* not set. Start with: srun"),
        ("slurm", {**SLURM, "SLURM_LOCALID": ""}, "SLURM_LOCALID not set"),
        ("slurm", {**SLURM, "SLURM_PROCID": "7"}, "SLURM_PROCID is 7 and SLURM_NTASKS 7, so srun did not start"),
        ("slurm", {k: v for k, v in SLURM.items() if "NODELIST" not in k}, "SLURM_STEP_NODELIST is not set. Set MASTER_ADDR"),
        ("slurm", {**SLURM, "MASTER_PORT": "abc"}, "MASTER_PORT is 'abc', not a number"),
    ],
)
def test_missing_and_wrong_variables(launcher, environment, message):
    with pytest.raises(BuildError, match=message):
        place_of(launcher, environment)


def test_processes_that_cannot_meet_say_where(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in {**SLURM, "SLURM_PROCID": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(BuildError, match=f"process 0 of 7 cannot connect to tcp://localhost:{port} .* MASTER_ADDR"):
            with process_group("slurm", "cpu"):
                pass


def test_every_process_needs_a_gpu_of_its_own(monkeypatch):
    place = Place("pytorch", 3, 4, 1, 2, "env://")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpu_of(place, "auto") == gpu_of(place, "cuda") == 1
    with pytest.raises(BuildError, match="'cuda:1' is one GPU for all"):
        gpu_of(place, "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BuildError, match="--launcher pytorch: 2 processes, but 1 GPUs"):
        gpu_of(place, "auto")
    assert gpu_of(Place("slurm", 3, 4, 1, 2, "tcp://a:1", own_gpu=True), "auto") == 0


def shell(repo, name, *arguments, **variables):
    kept = {k: v for k, v in os.environ.items() if k not in ("PORT", "NNODES", "NODE_RANK", "MASTER_ADDR", "GPUS", "GPUS_PER_NODE")}
    command = ["bash", str(repo / "tools" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**kept, "PYTHON": "echo", **variables}, check=False)


NODES = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first"}


@pytest.mark.parametrize(
    ("name", "arguments", "variables", "rendezvous", "program"),
    [
        ("dist_train.sh", ("c.py", "2", "--fold", "1"), {}, "--standalone", "train.py c.py --launcher pytorch --fold 1"),
        ("dist_train.sh", ("c.py", "2"), {"PORT": "7"}, "--master_port 7", "train.py c.py --launcher pytorch"),
        (
            "dist_train.sh",
            ("c.py", "2"),
            NODES,
            "--nnodes 2 --node_rank 1 --master_addr first --master_port 29500",
            "train.py c.py --launcher pytorch",
        ),
        ("dist_test.sh", ("c.py", "w", "2", "--data", "d"), {}, "--standalone", "test.py c.py w --launcher pytorch --data d"),
    ],
)
def test_what_the_scripts_start(repo, name, arguments, variables, rendezvous, program):
    done = shell(repo, name, *arguments, **variables)
    started = f"-m torch.distributed.run --nproc_per_node 2 {rendezvous} {repo}/tools/{program}"
    assert done.returncode == 0 and done.stdout.split() == started.split()


def test_what_slurm_train_starts(repo, tmp_path):
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GPUS": "4", "SRUN_ARGS": "--time 1:00 --mem=8G"}
    words = shell(repo, "slurm_train.sh", "part", "job", "c.py", "work dir", "--fold", "1", **here).stdout.splitlines()
    assert words[:5] == ["--partition=part", "--job-name=job", "--gres=gpu:4", "--ntasks=4", "--ntasks-per-node=4"]
    assert words[7:10] == ["--time", "1:00", "--mem=8G"]
    program = ["echo", "-u", f"{repo}/tools/train.py", "c.py", "--work-dir", "work dir", "--launcher", "slurm", "--fold", "1"]
    assert words[10:] == program
    assert "--ntasks-per-node=8" in shell(repo, "slurm_train.sh", "p", "j", "c", "w", **{**here, "GPUS": "16"}).stdout


@pytest.mark.parametrize("name", ["dist_train.sh", "dist_test.sh", "slurm_train.sh"])
def test_scripts_say_how_they_are_used(repo, name):
    done = shell(repo, name, "c.py")
    assert done.returncode == 2 and done.stderr.startswith("usage: ")


@pytest.mark.parametrize("missing", ["NODE_RANK", "MASTER_ADDR"])
def test_several_machines_need_to_know_each_other(repo, missing):
    done = shell(repo, "dist_train.sh", "c.py", "2", **{**NODES, missing: ""})
    assert done.returncode == 2 and "NNODES=2 needs NODE_RANK, 0 to 1, and MASTER_ADDR" in done.stderr
