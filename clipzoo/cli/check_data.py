"""``tools/check_data.py CONFIG``: what is wrong with the data, before anything is trained."""

from __future__ import annotations

import argparse
import os

from clipzoo.cli import command_line, model_arguments

DESCRIPTION = """Check the images, folds and captions of a config: damaged files, equal and nearly equal images in two classes, groups or
parts of a fold, classes too small for the folds, patients that the config does not know, borders that tell the class, captions that the
text tower cuts or does not read.

Writes data_report.html and data_report.json. Exit status: 0, 1 with warnings and --strict, 2 with errors."""
_MOST_WORKERS = 16


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("check_data", DESCRIPTION)
    command_line.add_config_arguments(parser)
    help_ = "folder for the report, outside the data (default: work_dirs/<config name>/data_check)"
    parser.add_argument("--out", type=command_line.path, metavar="FOLDER", help=help_)
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if there are warnings")
    parser.add_argument("--lang", choices=["en", "zh"], default="en", help="language of the report: en (the default) or zh")
    help_ = "threads that decode images (default: the number of cores, at most 16)"
    parser.add_argument("--workers", type=model_arguments.positive, metavar="N", help=help_)
    command_line.run(check_data, parser.parse_args(arguments))


def check_data(arguments: argparse.Namespace) -> int:
    """Check, write, show."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    from clipzoo.config.checking import check
    from clipzoo.config.plugins import import_plugins

    import_plugins(config.get("plugins", []))
    check(config, ("data", "splits"))
    from clipzoo.doctor.check import check_data as checked
    from clipzoo.doctor.findings import exit_status
    from clipzoo.doctor.page import page
    from clipzoo.doctor.report import PAGE_FILE, text, write

    folder = arguments.out or command_line.default_work_dir(config) / "data_check"
    workers = arguments.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    report = checked(config, language=arguments.lang, workers=workers, progress=command_line.progress, out=str(folder))
    write(report, folder, page(report))
    command_line.show(f"{text(report)}\n{folder / PAGE_FILE}")
    return exit_status(report.findings, arguments.strict)
