"""``tools/test.py CONFIG WORK_DIR``: score from checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line

if TYPE_CHECKING:
    import logging

    from clipzoo.config import Config

DESCRIPTION = """Recompute the out-of-fold predictions from the checkpoints and compare them with the table on disk (exit status 1 if they
differ). With --data, score every fold's model and their ensemble (mean probability) on external images."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("test", DESCRIPTION)
    command_line.add_config_arguments(parser)
    parser.add_argument("work_dir", type=command_line.path, metavar="WORK_DIR", help="work dir of a finished training")
    parser.add_argument(
        "--data",
        type=command_line.path_text,
        metavar="PATH",
        help="external images: one folder per class (a subset of the classes is fine), a table with labels, or a file or folder of pairs",
    )
    parser.add_argument("--out", type=command_line.path, help="folder for the external results (default: WORK_DIR/external/<folder name>)")
    parser.add_argument("--allow-overlap", action="store_true", help="score external images that the models were trained on")
    help_ = "score although images or texts have changed since the training"
    parser.add_argument("--accept-changed-data", action="store_true", help=help_)
    command_line.add_launcher_argument(parser)
    command_line.run(test, parser.parse_args(arguments))


def test(arguments: argparse.Namespace) -> int:
    """Score, compare, print."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    from clipzoo.inference import rescoring
    from clipzoo.runtime.distributed import is_main, meeting, process_group
    from clipzoo.runtime.log import make_console, make_log

    rescoring.require_experiment(arguments.work_dir)
    with process_group(arguments.launcher, **meeting(config)):
        log = make_log(make_console(quiet=not is_main()), None)
        return (score_again if arguments.data is None else score_external)(config, arguments, log)


def score_external(config: Config, arguments: argparse.Namespace, log: logging.Logger) -> int:
    """Score external images, and write the results."""
    from clipzoo.inference import rescoring
    from clipzoo.runtime.distributed import from_main, is_main

    external = rescoring.score_external(config, arguments.work_dir, arguments.data, log, allow_overlap=arguments.allow_overlap)
    out = arguments.out or arguments.work_dir / "external" / Path(arguments.data).resolve().name
    from_main(lambda: external.write(out))
    if is_main():
        command_line.show(f"{external.table()}\n\nresults: {out}")
    return 0


def score_again(config: Config, arguments: argparse.Namespace, log: logging.Logger) -> int:
    """Compare with the table on disk; 1 where they disagree."""
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.inference import rescoring
    from clipzoo.records.results import FoldResult
    from clipzoo.runtime.distributed import is_main

    validation = CrossValidation(config, arguments.work_dir)
    agreement = rescoring.score_again(validation, log, accept_changed_data=arguments.accept_changed_data)
    if is_main():
        results = [FoldResult.read(arguments.work_dir / s.name) for s in validation.folds.splits]
        command_line.show(validation.summary_of(results, agreement.table).tables())
        verdict = "agrees with" if agreement.holds else "DISAGREES with"
        command_line.show(
            f"\nthe table computed again {verdict} oof_predictions.csv: largest difference of a {agreement.what} {agreement.largest:.1e}, "
            f"{len(agreement.changed)} of {agreement.rows} predictions changed"
        )
    return 0 if agreement.holds else 1
