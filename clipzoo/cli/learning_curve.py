"""``tools/learning_curve.py CONFIG``: would more data help?"""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line, model_arguments

DESCRIPTION = """Would more data help? Learn from nested shares of the training groups (patients) of every fold, score always on the same
test parts, and extrapolate to twice the data, with an interval.

The default method is a linear probe on frozen features of the config's image tower: seconds. --method train trains the model itself, one
cross-validation per share and draw in WORK_DIR/learning_curve/train; finished ones are skipped, and the whole training parts are the
work dir's own run. Writes learning_curve.json, .csv and .png to WORK_DIR/learning_curve/METHOD."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("learning_curve", DESCRIPTION)
    command_line.add_config_arguments(parser)
    help_ = "work dir of the training, if it exists (default: work_dirs/<config name>)"
    parser.add_argument("--work-dir", type=command_line.path, help=help_)
    help_ = "linear (the default), knn, prototype, tip or another probe, or train: the model of the config itself"
    parser.add_argument("--method", default="linear", metavar="NAME", help=help_)
    help_ = "shares of the training groups (default: 0.1 0.2 0.4 0.7 1)"
    parser.add_argument("--shares", nargs="+", type=float, metavar="S", help=help_)
    help_ = "draws of each share below 1 (default: 5; with --method train 1)"
    parser.add_argument("--repeats", type=model_arguments.positive, metavar="N", help=help_)
    parser.add_argument("--seed", type=model_arguments.at_least_0, default=0, metavar="N", help="seed of the draws (default: 0)")
    parser.add_argument("--metric", metavar="NAME", help="metric that decides (default: evaluation.select)")
    help_ = "image tower of the probes instead of the config's, e.g. clip:ViT-B/32 or resnet18:pretrained"
    parser.add_argument("--image-encoder", metavar="NAME", help=help_)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps (default: the config's)")
    command_line.run(learning_curve, parser.parse_args(arguments))


def learning_curve(arguments: argparse.Namespace) -> int:
    """Load, learn, show, draw."""
    from clipzoo.config import Config
    from clipzoo.errors import ConfigError

    device = [f"runtime.device={arguments.device}"] if arguments.device else []
    config = Config.load(arguments.config, [*arguments.cfg_options, *device])
    folder = arguments.work_dir or command_line.default_work_dir(config)
    from clipzoo.baselines.curve_picture import draw
    from clipzoo.baselines.learning_curve import TRAIN, Learning
    from clipzoo.baselines.run import Options
    from clipzoo.baselines.shares import SHARES, Plan
    from clipzoo.engine.waiting import Interrupted

    trains = arguments.method == TRAIN
    if trains and arguments.image_encoder:
        raise ConfigError("--image-encoder: --method train trains the towers of the config. Set model.image_encoder with --cfg-options")
    shares = SHARES if arguments.shares is None else tuple(arguments.shares)
    plan = Plan(shares, arguments.repeats or (1 if trains else 5), arguments.seed)
    options = Options(image_encoder=arguments.image_encoder)
    learning = Learning(config, folder, arguments.method, plan, options=options, metric=arguments.metric)
    try:
        curve = learning.compute()
    except Interrupted as stop:
        command_line.say(f"stopped by signal {stop.signal}; the checkpoint is written; the same command continues from there")
        return 128 + stop.signal
    draw(curve, learning.place / "learning_curve.png")
    command_line.show(f"{curve.text()}\n\nresults: {learning.place}")
    return 0
