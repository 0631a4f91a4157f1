"""``tools/grid.py``: compare towers."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipzoo.cli import door

DESCRIPTION = """Train every image tower with every text tower (and seed), one process per job, one job at a time on each device.
Finished jobs are skipped, a failed job does not stop the others, and the leaderboard is written at the end.

  tools/grid.py configs/clip/r18_bertzh_hip_5fold.py --image resnet18 starnet_s1:pretrained --text clip:ViT-B/32 bert-base-chinese \\
                --devices cuda:0 cuda:1
  tools/grid.py configs/clip/r18_bertzh_hip_5fold.py --experiments train_clip_config.json --data-dir single_label_data"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = door.parser("grid.py", DESCRIPTION)
    door.add_config_arguments(parser)
    parser.add_argument("--image", nargs="+", metavar="TOWER", help="image towers, e.g. resnet18 starnet_s1:pretrained")
    parser.add_argument("--text", nargs="+", metavar="TOWER", help="text towers, e.g. clip:ViT-B/32 bert-base-chinese")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42], help="values of runtime.seed; the folds stay the same")
    parser.add_argument("--experiments", metavar="JSON", help="instead of towers: a list of experiments with the old scripts' keys")
    parser.add_argument("--data-dir", help="the class folders of --experiments")
    parser.add_argument("--devices", nargs="+", default=None, help="e.g. cuda:0 cuda:1; a device named twice runs two jobs (default: auto)")
    parser.add_argument("--work-dir", type=Path, help="where jobs go (default: work_dirs/grid_<config name>)")
    parser.add_argument("--sort-by", default="balanced_accuracy", help="the pooled metric that orders the leaderboard")
    door.run(grid, parser.parse_args(arguments))


def grid(arguments: argparse.Namespace) -> int:
    """Make the jobs, run them, show the leaderboard."""
    from clipzoo.config import Config
    from clipzoo.engine import grid as runs
    from clipzoo.errors import ConfigError
    from clipzoo.results import aligned

    Config.load(arguments.config, arguments.cfg_options)  # a wrong base config is one error, not one per job
    if (arguments.experiments is None) == (not (arguments.image and arguments.text)):
        raise ConfigError("grid: give --image and --text, or --experiments")
    if arguments.experiments is not None:
        jobs = runs.jobs_from_json(arguments.experiments, arguments.data_dir)
    else:
        jobs = runs.product(arguments.image, arguments.text, arguments.seeds)
    devices = arguments.devices or sorted({job.device for job in jobs if job.device}) or ["auto"]
    runs.check_devices(jobs, devices)
    folder = arguments.work_dir or Path("work_dirs") / f"grid_{Path(arguments.config).stem}"
    runs.check_jobs(jobs, arguments.config, folder, arguments.cfg_options)
    door.say(f"{len(jobs)} jobs on {', '.join(devices)} -> {folder}")
    outcomes = runs.run(jobs, arguments.config, folder, devices, options=arguments.cfg_options, say=door.say)
    header, rows = runs.leaderboard(jobs, outcomes, folder, metric=arguments.sort_by)
    keep = [i for i, name in enumerate(header) if name not in ("image", "text") and "(mean" not in name]
    door.show(aligned([header[i] for i in keep], [[row[i] for i in keep] for row in rows]))
    door.show(f"\nleaderboard: {folder / 'leaderboard.md'}")
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0
