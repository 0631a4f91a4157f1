"""``tools/print_config.py CONFIG``: a resolved config with the origin of every key."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from clipzoo.cli import command_line


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("print_config", "Show a config with its bases and overrides merged, and the origin of every value.")
    command_line.add_config_arguments(parser)
    parser.add_argument("--python", action="store_true", help="print a config file instead; loading it gives the same config")
    parser.add_argument("--check", action="store_true", help="also check all arguments of constructors (loads torch)")
    command_line.run(print_config, parser.parse_args(arguments))


def print_config(arguments: argparse.Namespace) -> None:
    """Load and print."""
    from clipzoo.config import Config

    config = Config.load(arguments.config, arguments.cfg_options)
    if arguments.check:
        from clipzoo.config.checking import check
        from clipzoo.config.plugins import import_plugins

        import_plugins(config.get("plugins", []))
        check(config)
    if arguments.python:
        command_line.show(config.dump().rstrip())
        return
    rows = list(leaves(config.plain(), ""))
    width = min(60, max((len(f"{path} = {value!r}") for path, value in rows), default=0))
    command_line.show("\n".join(f"{f'{path} = {value!r}':<{width}}  # {config.origin(path)}" for path, value in rows))


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """All leaves with their dotted paths."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        for index, child in enumerate(value):
            yield from leaves(child, f"{path}.{index}")
    else:
        yield path, value
