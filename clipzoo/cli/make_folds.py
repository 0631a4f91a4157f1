"""``tools/make_folds.py CONFIG --out folds.json``: make and verify folds without training."""

from __future__ import annotations

import argparse

from clipzoo.cli import door


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = door.parser("make_folds", "Split the cases of a config, verify the folds, and show how the classes fell.")
    door.add_config_arguments(parser)
    parser.add_argument("--out", type=door.path, help="write folds.json there; use it with splits=dict(type='FromFile', path=…)")
    door.run(make_folds, parser.parse_args(arguments))


def make_folds(arguments: argparse.Namespace) -> None:
    """Split, show, write."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    from clipzoo.config.checking import check
    from clipzoo.config.plugins import import_plugins
    from clipzoo.errors import DataError
    from clipzoo.registries import DATASETS, SPLITTERS
    from clipzoo.text_tables import aligned

    import_plugins(config.get("plugins", []))
    check(config, ("data", "splits"))
    if arguments.out is not None and arguments.out.exists():
        raise DataError(f"{arguments.out}: exists already. Choose another name with --out")
    data = DATASETS.build(config.data.dataset)
    folds = SPLITTERS.build(config.splits).split(data.cases, data.classes)
    rows = []
    for split in folds.splits:
        for part, counts in folds.counts(split).items():
            rows.append([f"{split.name} {part}", str(len(getattr(split, part))), *map(str, counts)])
    table = aligned(["part", "cases", *folds.classes], rows)
    door.show("\n".join([*data.describe(), "", table, "", *(f"note: {note}" for note in folds.notes), f"digest {folds.digest}"]))
    if arguments.out is not None:
        folds.write(arguments.out)
        door.show(f"written: {arguments.out}")
