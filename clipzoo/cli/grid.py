"""``tools/grid.py``: compare towers."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line
from clipzoo.commands import typed

if TYPE_CHECKING:
    from clipzoo.config import Config
    from clipzoo.grid.jobs import Job
    from clipzoo.grid.running import Grid, Outcome
    from clipzoo.runtime.jobs.shares import Slot

DESCRIPTION = """Train every image tower with every text tower (and seed), one process per job, one job at a time on each device.
Finished jobs are skipped, a failed job does not stop the others, and the leaderboard is written at the end.

  {grid} clip/r18_bertzh_hip_5fold --devices cuda:0 cuda:1 \\
      --image resnet18 starnet_s1:pretrained --text clip:ViT-B/32 bert-base-chinese
  {grid} clip/r18_bertzh_hip_5fold --experiments train_clip_config.json --data-dir single_label_data"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("grid", DESCRIPTION.format(grid=typed("grid")))
    command_line.add_config_arguments(parser)
    parser.add_argument("--image", nargs="+", metavar="TOWER", help="image towers, e.g. resnet18 starnet_s1:pretrained")
    parser.add_argument("--text", nargs="+", metavar="TOWER", help="text towers, e.g. clip:ViT-B/32 bert-base-chinese")
    parser.add_argument("--seeds", nargs="+", type=int, help="values of runtime.seed; the folds stay the same (default: the config's)")
    parser.add_argument(
        "--experiments",
        metavar="JSON",
        type=command_line.path_text,
        help="list of experiments with the old scripts' keys, instead of towers",
    )
    parser.add_argument("--data-dir", type=command_line.path_text, help="class folders for --experiments")
    devices = "e.g. cuda:0 cuda:1; a device named twice runs two jobs at once (default: gpu_id of the experiments, else auto)"
    parser.add_argument("--devices", nargs="+", help=devices)
    command_line.add_jobs_argument(parser, "jobs to run", default=None, default_text="one on each of --devices")
    launchers = "where jobs run: on --devices of this machine, as a job array on Slurm (submitit), or on a Ray cluster"
    parser.add_argument("--launcher", choices=["none", "slurm", "ray"], default="none", help=launchers)
    help_ = "what each job gets: for slurm submitit's parameters, e.g. slurm_partition=gpu gpus_per_node=1; for ray num_gpus=0.5 num_cpus=2"
    parser.add_argument("--launcher-options", nargs="+", default=[], metavar="KEY=VALUE", help=help_)
    parser.add_argument("--work-dir", type=command_line.path, help="folder for jobs (default: work_dirs/grid_<config name>)")
    parser.add_argument("--sort-by", help="pooled metric that orders the leaderboard (default: evaluation.select)")
    command_line.run(grid, parser.parse_args(arguments))


def grid(arguments: argparse.Namespace) -> int:
    """Make the jobs, run them, show the leaderboard."""
    from clipzoo.cli.report import show_comparison
    from clipzoo.config import Config
    from clipzoo.grid import jobs as runs
    from clipzoo.grid.leaderboard import leaderboard, sorting
    from clipzoo.grid.running import Grid
    from clipzoo.text_tables import aligned

    base = Config.load(arguments.config, arguments.cfg_options)  # a wrong base config is one error, not one per job
    jobs = jobs_of(arguments, base.get("runtime", {}).get("seed", 42))
    devices = arguments.devices or sorted({job.device for job in jobs if job.device}) or ["auto"]
    if arguments.devices:
        jobs = [replace(job, device=None) for job in jobs]
    folder = arguments.work_dir or Path("work_dirs") / f"grid_{base.name}"
    metric, higher = sorting(runs.check_jobs(jobs, arguments.config, folder, arguments.cfg_options), arguments.sort_by)
    outcomes = run(arguments, Grid(jobs, arguments.config, folder, arguments.cfg_options, command_line.say), devices, base)
    header, rows, notes = leaderboard(jobs, outcomes, folder, metric=metric, higher_is_better=higher)
    keep = [i for i, name in enumerate(header) if name not in ("image", "text") and "(mean" not in name]
    command_line.show(aligned([header[i] for i in keep], [[row[i] for i in keep] for row in rows]))
    command_line.show("".join(f"\nnote: {note}" for note in notes))
    command_line.show(f"\nleaderboard: {folder / 'leaderboard.md'}")
    show_comparison(base, folder, metric)
    return 1 if any(outcome.status in ("failed", "stopped") for outcome in outcomes) else 0


def run(arguments: argparse.Namespace, grid: Grid, devices: list[str], base: Config) -> list[Outcome]:
    """Run the jobs where the command line says."""
    from clipzoo.errors import ConfigError

    where = f"{len(grid.jobs)} jobs -> {grid.folder}"
    if arguments.launcher == "none":
        if arguments.launcher_options:
            raise ConfigError("--launcher-options: only with --launcher slurm or --launcher ray")
        places = slots_of(devices, arguments.jobs, len(grid.jobs), base.get("runtime", {}).get("threads"))
        command_line.say(f"{where}, {len(places)} at a time, on {', '.join(devices)}")
        return grid.run(places)
    from clipzoo.grid.ray_cluster import run_on_ray
    from clipzoo.grid.remote import parse_options
    from clipzoo.grid.slurm import run_on_slurm

    if arguments.devices:
        raise ConfigError(f"--devices: {arguments.launcher} chooses the devices of its jobs. Use --launcher-options")
    command_line.say(f"{where}, by {arguments.launcher}")
    at_once = None if arguments.jobs == "auto" else arguments.jobs
    launch = run_on_slurm if arguments.launcher == "slurm" else run_on_ray
    return launch(grid, parse_options(arguments.launcher_options), at_once)


def slots_of(devices: list[str], jobs: int | str | None, num_jobs: int, threads: int | None) -> list[Slot]:
    """The places of the jobs: one on each device, or as many as ``--jobs`` says, on the devices in turn."""
    from clipzoo.runtime import device
    from clipzoo.runtime.jobs import shares

    gpus = device.gpus_for("auto") if "auto" in devices else []
    number = len(devices)
    if jobs == "auto" and not gpus and all(name in ("auto", "cpu") for name in devices):
        number = shares.num_jobs(jobs, num_jobs, threads)
    elif jobs == "auto":
        number = max(len(gpus), number)
    elif jobs is not None:
        number = min(jobs, num_jobs)
    return shares.slots(number, devices, gpus=gpus)


def jobs_of(arguments: argparse.Namespace, seed: int) -> list[Job]:
    """The jobs requested on the command line; ``seed`` is the base config's, used without ``--seeds``."""
    from clipzoo.errors import ConfigError
    from clipzoo.grid import jobs as runs

    towers = arguments.image or arguments.text or arguments.seeds
    if arguments.experiments is not None and not towers:
        return runs.jobs_from_json(arguments.experiments, arguments.data_dir)
    if arguments.experiments is not None or not (arguments.image and arguments.text):
        raise ConfigError("grid: pass --image and --text (and --seeds), or only --experiments")
    if arguments.data_dir is not None:
        raise ConfigError("--data-dir: only for --experiments. With towers, use --cfg-options data.dataset.root=FOLDER")
    return runs.product(arguments.image, arguments.text, arguments.seeds or [seed])
