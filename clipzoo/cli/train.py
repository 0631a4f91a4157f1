"""``tools/train.py CONFIG``: train all folds of a config."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line

if TYPE_CHECKING:
    from clipzoo.config import Config

DESCRIPTION = """Train all folds of a config, and print the summary when all are done.

Running the same command again continues: finished folds are skipped, an unfinished one resumes from its last checkpoint.
Folds are independent: --fold 3 trains only the third, on this or another machine, with the same result.
So are the repeats of the cross-validation (splits.num_repeats): --repeat 2 trains only the second."""


def main(arguments: list[str] | None = None, command: str = "train") -> None:
    """Entry point, also of ``fewshot train``."""
    parser = command_line.parser(command, DESCRIPTION)
    command_line.add_config_arguments(parser)
    parser.add_argument("--work-dir", type=command_line.path, help="folder for results (default: work_dirs/<config name>)")
    parser.add_argument("--fold", type=int, help="only train this fold, counted from 1")
    parser.add_argument("--repeat", type=int, help="only train this repeat of the cross-validation (splits.num_repeats), counted from 1")
    help_ = "continue although images or texts have changed since an earlier start; the summary records this permanently"
    parser.add_argument("--accept-changed-data", action="store_true", help=help_)
    command_line.add_jobs_argument(parser, "folds to train")
    command_line.add_launcher_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything and train one step in memory; write nothing")
    command_line.run(train, parser.parse_args(arguments))


def train(arguments: argparse.Namespace) -> int:
    """Load, check, train, summarise."""
    from clipzoo.config import Config

    check_jobs(arguments)
    config = Config.load(arguments.config, arguments.cfg_options)
    folder = arguments.work_dir or command_line.default_work_dir(config)
    from clipzoo.runtime.distributed import meeting, process_group

    with process_group(arguments.launcher, **meeting(config)):
        return train_repeats(config, folder, arguments)


def check_jobs(arguments: argparse.Namespace) -> None:
    """Refuse ``--jobs`` for processes that train one fold together.

    Raises:
        ConfigError: Another program starts several processes.
    """
    from clipzoo.errors import ConfigError

    if arguments.jobs != 1 and (arguments.launcher != "none" or "TORCHELASTIC_RUN_ID" in os.environ):
        raise ConfigError(
            "--jobs: trains folds side by side, each by one process; --launcher trains each fold by several. Use one of the two"
        )


def train_repeats(config: Config, folder: Path, arguments: argparse.Namespace) -> int:
    """Train the chosen repeats of the cross-validation in sequence; without ``splits.num_repeats`` there is one."""
    from clipzoo.config.checking import check
    from clipzoo.config.plugins import import_plugins
    from clipzoo.config.repeats import repeats_of
    from clipzoo.engine.work_dir import check_same, is_experiment
    from clipzoo.errors import ConfigError
    from clipzoo.runtime.distributed import is_main

    import_plugins(config.get("plugins", []))
    check(config)
    repeats = repeats_of(config, folder)
    if arguments.repeat is not None and not 1 <= arguments.repeat <= len(repeats):
        raise ConfigError(f"--repeat: there is no repeat {arguments.repeat}; splits.num_repeats is {len(repeats)}")
    chosen = [repeat for repeat in repeats if arguments.repeat in (None, repeat.number)]
    for repeat in chosen[1:]:  # refused now rather than after the training of those before it
        if is_experiment(repeat.folder):
            check_same(repeat.folder, repeat.config, None)
    for repeat in chosen[:1] if arguments.dry_run else chosen:
        if len(repeats) > 1 and is_main():
            command_line.say(f"repeat {repeat.number} of {len(repeats)} -> {repeat.folder}")
        if status := train_folds(repeat.config, repeat.folder, arguments):
            return status
    if len(repeats) > 1 and not arguments.dry_run and is_main():
        show_repeats(config, folder, len(repeats))
    return 0


def train_folds(config: Config, folder: Path, arguments: argparse.Namespace) -> int:
    """Train the folds of one cross-validation, and print its summary if all are done."""
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.engine.side_by_side.folds import train_side_by_side
    from clipzoo.engine.side_by_side.measured import tell_the_grid
    from clipzoo.engine.waiting import Interrupted
    from clipzoo.runtime.distributed import is_main

    validation = CrossValidation(config, folder, is_dry=arguments.dry_run)
    if arguments.dry_run:
        from clipzoo.engine.dry_run import dry_run

        lines = dry_run(validation, arguments.fold, accept_changed_data=arguments.accept_changed_data)
        if is_main():
            command_line.show("\n".join(lines))
        return 0
    tell_the_grid(validation)
    try:
        accept = arguments.accept_changed_data
        summary = train_side_by_side(validation, arguments.jobs, arguments.fold, accept_changed_data=accept)
    except Interrupted as stop:
        if is_main():
            command_line.say(f"stopped by signal {stop.signal}; the checkpoint is written; the same command continues from there")
        return 128 + stop.signal
    if summary is not None and is_main():
        from clipzoo.cli.report import show_report
        from clipzoo.scoring.baselines import beside_baselines

        command_line.show(summary.tables())
        compared = beside_baselines(folder, summary, write=True)
        write_model_card(folder)
        command_line.show("\n".join(["", *([compared, ""] if compared else []), f"results: {folder}"]))
        show_report(config, folder, validation.dataset)
        validation.call_hooks(summary)  # last, as trackers send what is in the work dir
    return 0


def write_model_card(folder: Path) -> None:
    """Write ``model_card.md`` into the work dir; a failure is a note, as all results are already on disk."""
    with command_line.never_fatal("note: no model card"):
        from clipzoo.scoring.card.model_card import write_card

        write_card(folder)


def show_repeats(config: Config, folder: Path, num_repeats: int) -> None:
    """Combine the repeats and print them, if all are done."""
    from clipzoo.config.settings import EvaluationSettings
    from clipzoo.scoring.repeats import FILE, combine_repeats

    found = combine_repeats(folder, num_repeats, EvaluationSettings.of(config).select or "")
    if found is None:
        command_line.say(f"not all repeats are done yet; {FILE} is written when they are")
    else:
        command_line.show(f"\n{found.text()}\n\nresults: {folder}")
