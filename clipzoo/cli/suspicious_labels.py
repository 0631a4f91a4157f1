"""``tools/suspicious_labels.py WORK_DIR``: labels that are probably wrong, from out-of-fold predictions."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line, model_arguments

DESCRIPTION = """Rank the labels of a finished run by how little the models that never saw the case believe them, and write all of them to
WORK_DIR/suspicious_labels.csv. Nothing is corrected: look at the images first.

WORK_DIR may also be a baseline: WORK_DIR/baselines/linear."""
METHODS = ("self_confidence", "confident_learning")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("suspicious_labels", DESCRIPTION)
    parser.add_argument("work_dir", type=command_line.path, metavar="WORK_DIR", help="work dir of a finished training")
    help_ = "self_confidence (the default): by the probability of the given label; confident_learning: cleanlab, which must be installed"
    parser.add_argument("--method", choices=METHODS, default="self_confidence", help=help_)
    help_ = "number of cases to print (default: 20); the file has all"
    parser.add_argument("--top", type=model_arguments.positive, default=20, metavar="N", help=help_)
    command_line.run(suspicious_labels, parser.parse_args(arguments))


def suspicious_labels(arguments: argparse.Namespace) -> None:
    """Read, rank, write, show."""
    from clipzoo.records.results import OUT_OF_FOLD_FILE
    from clipzoo.scoring.runs import FinishedRun
    from clipzoo.scoring.suspicious_labels import SuspiciousLabels

    folder = arguments.work_dir
    table = FinishedRun.read(folder, folder.name).table
    found = SuspiciousLabels.of(table, arguments.method, folder / OUT_OF_FOLD_FILE)
    path = found.write(folder)
    command_line.show(f"{found.text(arguments.top)}\n\nwritten: {path}")
