"""``tools/summary.py WORK_DIR…``: print the tables of finished work dirs, without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipzoo.cli import command_line
from clipzoo.commands import typed


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("summary", "Print the tables of finished work dirs.")
    parser.add_argument("work_dirs", nargs="+", type=command_line.path, metavar="WORK_DIR", help="work dir of a finished training")
    command_line.run(summarise, parser.parse_args(arguments))


def summarise(arguments: argparse.Namespace) -> None:
    """Read and print."""
    from clipzoo.errors import CheckpointError
    from clipzoo.records.results import SUMMARY_FILE, Summary
    from clipzoo.scoring.baselines import Comparison, compare_with_trained

    for folder in arguments.work_dirs:
        if not (folder / SUMMARY_FILE).exists():
            raise CheckpointError(f"{folder}: {missing(folder)}")
        summary, baselines = Summary.read(folder), Comparison.read(folder)
        compared = "" if baselines is None else f"\n\n{baselines.text(summary, compare_with_trained(folder, write=False))}"
        command_line.show(summary.tables() + compared)


def missing(folder: Path) -> str:
    """The reason that there is no summary, and what to do."""
    from clipzoo.records.results import RESULT_FILE

    if not (folder / "config.json").exists():
        what = "not a work dir of clipzoo" if folder.is_dir() else "no such folder"
        return f"{what}. Pass a work dir made by {typed('train')}"
    done = sorted(path.parent.name for path in folder.glob(f"fold_*/{RESULT_FILE}"))
    return f"not all folds are finished yet (finished: {', '.join(done) or 'none'}). Run {typed('train')} to continue"
