"""``tools/init.py PATH``: a first config for the user's own data."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line
from clipzoo.cli.output_file import check_target, write_new
from clipzoo.commands import typed

if TYPE_CHECKING:
    from clipzoo.planning.findings import Findings
    from clipzoo.planning.plan import Plan

DESCRIPTION = """Look at your data (class folders, a table with labels, or image-text pairs), and write a config
with the reason for every choice.

  {init} data/mine                          class folders, or a folder with a table
  {init} labels.xlsx --images scans         a table whose image paths start at another folder
  {init} data/mine --set train.epochs=40    your own choice

The choices follow from a table of rules (--rules). Nothing is searched, trained or downloaded."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("init", DESCRIPTION.format(init=typed("init")))
    parser.add_argument("path", metavar="PATH", nargs="?", type=command_line.path_text, help="folder, table, or list of pairs")
    parser.add_argument("--out", type=command_line.path, default=Path("config.py"), help="config to write (default: config.py)")
    parser.add_argument("--images", metavar="FOLDER", type=command_line.path_text, help="folder that image paths in a table start from")
    parser.add_argument("--gpu-memory", metavar="GB", type=_gigabytes, help="plan for a GPU with this memory; 0 for none (default: look)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config values that replace those of the rules")
    parser.add_argument("--force", action="store_true", help="overwrite an existing config")
    parser.add_argument("--rules", action="store_true", help="print the table of rules, and do nothing else")
    command_line.run(init, parser.parse_args(arguments))


def init(arguments: argparse.Namespace) -> None:
    """Look, decide, check, write, and say what to do next."""
    from clipzoo.errors import ConfigError

    if arguments.rules:
        _show_rules()
        return
    if arguments.path is None:
        raise ConfigError(f"init: no data given. Pass a folder or a table: {typed('init')} PATH")
    check_target(arguments.out, "--out", (".py",))
    from clipzoo.planning.cached import find_start
    from clipzoo.planning.config_text import config_text
    from clipzoo.planning.findings import look
    from clipzoo.planning.machine import look_at_machine
    from clipzoo.planning.source import find_source

    found = look(find_source(arguments.path, arguments.images))
    start = find_start(found.language)
    machine, device = look_at_machine(arguments.gpu_memory)
    plan = _plan(found, {**start.facts, **machine}, arguments.set)
    fold_notes = _checked(plan, found)
    advice = f"{typed('download')} {start.wanted} loads a published CLIP for these data; then run this again" if start.wanted else ""
    title = f"First config for {arguments.path}: {len(found.data)} images, {found.facts['data']}. Written by {typed('init')}; edit it."
    notes = tuple(filter(None, (advice, *found.notes)))
    write_new(arguments.out, config_text(plan, title, notes).encode(), "--out", arguments.force)
    lines = [*found.lines, ("device", device), ("start", f"{start.facts['model'] or 'random weights'}")]
    _show(lines, plan, (*notes, *start.notes, *fold_notes))
    out = arguments.out
    first = ["baselines"] if found.data.task == "classification" else []  # baselines are for one class per image
    command_line.show("\n".join([f"\nwritten: {out}", "next:", *(f"  {typed(name)} {out}" for name in (*first, "train"))]))


def _plan(found: Findings, facts: dict[str, object], overrides: list[str]) -> Plan:
    """The plan, with errors in the user's choices under the name of this command's argument."""
    from clipzoo.config.config import OVERRIDE
    from clipzoo.errors import ConfigError
    from clipzoo.planning.plan import make_plan

    try:
        return make_plan({**found.facts, **facts}, found.source.spec, overrides)
    except ConfigError as error:
        raise ConfigError(str(error).replace(OVERRIDE, "--set")) from error


def _checked(plan: Plan, found: Findings) -> tuple[str, ...]:
    """Check all arguments of the config, and split the data; returns the notes on the folds."""
    from clipzoo.config.checking import check
    from clipzoo.registries import SPLITTERS

    check(plan.config)
    return tuple(SPLITTERS.build(plan.config.splits).split(found.data.cases, found.data.classes).notes)


def _show(lines: list[tuple[str, str]], plan: Plan, notes: tuple[str, ...]) -> None:
    """Print what was found and what was decided."""
    decided = [(decision.topic, f"{decision.choice} ({decision.reason})") for decision in plan.decisions]
    width = max(len(label) for label, _ in [*lines, *decided])
    rows = ["found", *(f"  {label:<{width}}  {value}" for label, value in lines), ""]
    rows += ["decided", *(f"  {label:<{width}}  {value}" for label, value in decided)]
    command_line.show("\n".join([*rows, *(f"note: {note}" for note in notes)]))


def _show_rules() -> None:
    """Print the rules as a Markdown table, the form in which the documentation has them."""
    from clipzoo.planning.rules import table

    rows = ["| topic | if | choice | why |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in table())]
    command_line.show("\n".join(rows))


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 10_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of gigabytes from 0 to 10 000")
    return value
