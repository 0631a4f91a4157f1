"""``tools/baselines.py CONFIG``: scores of frozen features on the folds of a config, without training."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line, model_arguments

DESCRIPTION = """Score baselines on exactly the folds of a config: zero-shot with the class texts, class means, kNN, a linear probe,
Tip-Adapter and the most frequent class, all on features of the config's image tower before training.

Every image is encoded once for all folds. Results are written to WORK_DIR/baselines; train and summary show them next to the
trained model."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("baselines", DESCRIPTION)
    command_line.add_config_arguments(parser)
    parser.add_argument(
        "--work-dir", type=command_line.path, help="work dir of the training, if it exists (default: work_dirs/<config name>)"
    )
    parser.add_argument(
        "--image-encoder", metavar="NAME", help="image tower to use instead of the config's, e.g. clip:ViT-B/32 or resnet18:pretrained"
    )
    parser.add_argument("--text-encoder", metavar="NAME", help="text tower to use instead of the config's; it must belong to the same CLIP")
    help_ = "captions with {class_name}, averaged for each class (default: the dataset's class captions)"
    parser.add_argument("--templates", nargs="+", default=[], metavar="TEXT", help=help_)
    help_ = "methods to run: majority zero_shot prototype knn linear tip"
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help=help_)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps (default: the config's)")
    parser.add_argument(
        "--batch-size", type=model_arguments.positive, default=64, metavar="N", help="images encoded together (default: 64)"
    )
    parser.add_argument(
        "--workers", type=model_arguments.at_least_0, metavar="N", help="processes that read images (default: the config's)"
    )
    command_line.add_jobs_argument(parser, "folds to learn")
    command_line.run(baselines, parser.parse_args(arguments))


def baselines(arguments: argparse.Namespace) -> None:
    """Load, compute, compare."""
    from clipzoo.config import Config

    device = [f"runtime.device={arguments.device}"] if arguments.device else []
    config = Config.load(arguments.config, [*arguments.cfg_options, *device])
    folder = arguments.work_dir or command_line.default_work_dir(config)
    from clipzoo.baselines.run import Baselines, Options
    from clipzoo.cli.report import show_report
    from clipzoo.records.results import SUMMARY_FILE, Summary
    from clipzoo.scoring.baselines import compare_with_trained

    options = Options(
        image_encoder=arguments.image_encoder,
        text_encoder=arguments.text_encoder,
        templates=arguments.templates,
        only=arguments.only,
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
        jobs=arguments.jobs,
    )
    comparison = Baselines(config, folder, options).compute()
    trained, compared = None, None
    if (folder / SUMMARY_FILE).exists():
        trained, compared = Summary.read(folder), compare_with_trained(folder, write=True)
    command_line.show(f"{comparison.text(trained, compared)}\n\nresults: {folder / 'baselines'}")
    if trained is not None:  # whose report shows them now
        show_report(config, folder)
