"""``clipzoo schema``: the JSON Schema of the config."""

from __future__ import annotations

import argparse
import json

from clipzoo.cli import command_line

DESCRIPTION = """Print the JSON Schema (draft 2020-12) of a resolved config: sections, keys, ranges, registered classes with their
arguments, defaults and descriptions. It is made from the signatures that list_modules shows.

Editors and programs that write configs as JSON can complete and check with it. Rules that involve several keys are checked by clipzoo
alone."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("schema", DESCRIPTION)
    parser.add_argument("--plugins", nargs="*", default=[], metavar="MODULE", help="modules whose classes are included")
    command_line.run(schema, parser.parse_args(arguments))


def schema(arguments: argparse.Namespace) -> None:
    """Make it from the registries, and print it."""
    from clipzoo.config.plugins import import_plugins
    from clipzoo.config.schema import config_schema

    import_plugins(arguments.plugins)
    command_line.show(json.dumps(config_schema(), ensure_ascii=False, indent=2))
