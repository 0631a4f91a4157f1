"""``tools/make_folds.py CONFIG --out folds.json``: make and verify folds without training."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("make_folds", "Split the cases of a config, verify the folds, and show the classes of each part.")
    command_line.add_config_arguments(parser)
    parser.add_argument("--out", type=command_line.path, help="path for folds.json; use it with splits=dict(type='FromFile', path=…)")
    command_line.run(make_folds, parser.parse_args(arguments))


def make_folds(arguments: argparse.Namespace) -> None:
    """Split, show, write."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    from clipzoo.config.checking import check
    from clipzoo.config.plugins import import_plugins
    from clipzoo.datasets.build import build_dataset, build_folds
    from clipzoo.errors import DataError
    from clipzoo.text_tables import aligned

    import_plugins(config.get("plugins", []))
    check(config, ("data", "splits"))
    if arguments.out is not None and arguments.out.exists():
        raise DataError(f"{arguments.out}: already exists. Choose another path with --out")
    data = build_dataset(config, show=command_line.progress)
    folds = build_folds(config, data)
    rows = []
    for split in folds.splits:
        for part, counts in folds.counts(split).items():
            rows.append([f"{split.name} {part}", str(len(getattr(split, part))), *map(str, counts)])
    table = aligned(["part", "cases", *folds.classes], rows)
    command_line.show("\n".join([*data.describe(), "", table, "", *(f"note: {note}" for note in folds.notes), f"digest {folds.digest}"]))
    if arguments.out is not None:
        folds.write(arguments.out)
        command_line.show(f"written: {arguments.out}")
