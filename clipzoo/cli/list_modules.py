"""``tools/list_modules.py [TABLE…]``: registered classes with their arguments."""

from __future__ import annotations

import argparse
import inspect

from clipzoo.cli import command_line


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser(
        "list_modules", "Show every registered class with its arguments and their ranges, its module, and its purpose."
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="e.g. BACKBONES LOSSES (default: all)")
    parser.add_argument("--plugins", nargs="*", default=[], help="modules to import first")
    command_line.run(list_modules, parser.parse_args(arguments))


def list_modules(arguments: argparse.Namespace) -> None:
    """Import the packages of the tables, and print them."""
    from clipzoo.config.annotations import shown
    from clipzoo.config.arguments import argument_hints
    from clipzoo.config.plugins import import_plugins
    from clipzoo.errors import RegistryError, did_you_mean
    from clipzoo.registries import TABLES

    import_plugins(arguments.plugins)
    for table in arguments.tables or TABLES:
        if table not in TABLES:
            raise RegistryError(f"list_modules: no table '{table}'.{did_you_mean(table, TABLES)} Tables: {', '.join(TABLES)}")
        registry = TABLES[table]
        command_line.show(f"{table} ({len(registry)})")
        for name in sorted(registry):
            cls = registry.get(name)
            hints = argument_hints(cls)
            arguments_of = [p for p in inspect.signature(cls).parameters.values() if p.name not in registry.runtime]
            listed = ", ".join(_argument(p, shown(hints[p.name]) if p.name in hints else "") for p in arguments_of)
            purpose = (inspect.getdoc(cls) or "").split("\n")[0]
            command_line.show(f"  {name}({listed})\n      {purpose}  [{cls.__module__}]")


def _argument(parameter: inspect.Parameter, annotation: str) -> str:
    """``name: type and range = default``, as far as the signature defines it."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name + (f": {annotation}" if annotation else "")
    return text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"
