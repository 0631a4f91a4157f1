"""``tools/train.py CONFIG``: train all folds of a config."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line

DESCRIPTION = """Train all folds of a config, and print the summary when all are done.

Running the same command again continues: finished folds are skipped, an unfinished one resumes from its last checkpoint.
Folds are independent: --fold 3 trains only the third, on this or another machine, with the same result."""


def main(arguments: list[str] | None = None, command: str = "train") -> None:
    """Entry point, also of ``fewshot train``."""
    parser = command_line.parser(command, DESCRIPTION)
    command_line.add_config_arguments(parser)
    parser.add_argument("--work-dir", type=command_line.path, help="folder for results (default: work_dirs/<config name>)")
    parser.add_argument("--fold", type=int, help="only train this fold, counted from 1")
    help_ = "continue although images or texts have changed since an earlier start; the summary records this permanently"
    parser.add_argument("--accept-changed-data", action="store_true", help=help_)
    command_line.add_launcher_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything and train one step in memory; write nothing")
    command_line.run(train, parser.parse_args(arguments))


def train(arguments: argparse.Namespace) -> int:
    """Load, check, train, summarise."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    folder = arguments.work_dir or command_line.default_work_dir(config)
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.engine.waiting import Interrupted
    from clipzoo.runtime.distributed import is_main, meeting, process_group

    with process_group(arguments.launcher, **meeting(config)):
        validation = CrossValidation(config, folder)
        if arguments.dry_run:
            lines = validation.dry_run()
            if is_main():
                command_line.show("\n".join(lines))
            return 0
        try:
            summary = validation.train(arguments.fold, accept_changed_data=arguments.accept_changed_data)
        except Interrupted as stop:
            if is_main():
                command_line.say(f"stopped by signal {stop.signal}; the checkpoint is written; the same command continues from there")
            return 128 + stop.signal
        if summary is not None and is_main():
            from clipzoo.scoring.baselines import beside_baselines

            command_line.show(summary.tables())
            compared = beside_baselines(folder, summary, write=True)
            command_line.show("\n".join(["", *([compared, ""] if compared else []), f"results: {folder}"]))
    return 0
