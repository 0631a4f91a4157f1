"""``tools/train.py CONFIG``: train all folds of a config."""

from __future__ import annotations

import argparse

from clipzoo.cli import door

DESCRIPTION = """Train all folds of a config, and print the summary when all are done.

Running the same command again goes on: finished folds are skipped, an unfinished one continues from its last checkpoint.
Folds are independent: --fold 3 trains the third alone, on this or another machine, with the same result."""


def main(arguments: list[str] | None = None, command: str = "train") -> None:
    """Entry point; ``fewshot train`` is the same under another name."""
    parser = door.parser(command, DESCRIPTION)
    door.add_config_arguments(parser)
    parser.add_argument("--work-dir", type=door.path, help="where results go (default: work_dirs/<config name>)")
    parser.add_argument("--fold", type=int, help="train only this fold, counted from 1")
    help_ = "go on although images or texts changed since an earlier start; the summary then says so for ever"
    parser.add_argument("--accept-changed-data", action="store_true", help=help_)
    door.add_launcher_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything and train one step in memory; write nothing")
    door.run(train, parser.parse_args(arguments))


def train(arguments: argparse.Namespace) -> int:
    """Load, check, train, sum up."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    folder = arguments.work_dir or door.default_work_dir(config)
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.engine.waiting import Interrupted
    from clipzoo.runtime.distributed import is_main, meeting, process_group

    with process_group(arguments.launcher, **meeting(config)):
        validation = CrossValidation(config, folder)
        if arguments.dry_run:
            lines = validation.dry_run()
            if is_main():
                door.show("\n".join(lines))
            return 0
        try:
            summary = validation.train(arguments.fold, accept_changed_data=arguments.accept_changed_data)
        except Interrupted as stop:
            if is_main():
                door.say(f"stopped by signal {stop.signal}; the checkpoint is written, the same command goes on from there")
            return 128 + stop.signal
        if summary is not None and is_main():
            from clipzoo.records.comparison import Comparison

            baselines = Comparison.read(folder)
            compared = "" if baselines is None else f"\n\n{baselines.text(summary)}"
            door.show(f"{summary.tables()}{compared}\n\nresults: {folder}")
    return 0
