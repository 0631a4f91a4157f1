"""``tools/list_modules.py [TABLE…]``: what is registered, with arguments."""

from __future__ import annotations

import argparse

from clipzoo.cli import door


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = door.parser("list_modules.py", "Show every registered class with its arguments, where it lives, and what it is for.")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="e.g. BACKBONES LOSSES (default: all)")
    parser.add_argument("--plugins", nargs="*", default=[], help="import these modules first")
    door.run(list_modules, parser.parse_args(arguments))


def list_modules(arguments: argparse.Namespace) -> None:
    """Import the home packages and print their tables."""
    import inspect

    from clipzoo.errors import RegistryError, did_you_mean
    from clipzoo.plugins import import_plugins
    from clipzoo.registries import TABLES

    import_plugins(arguments.plugins)
    for table in arguments.tables or TABLES:
        if table not in TABLES:
            raise RegistryError(f"list_modules: there is no table '{table}'.{did_you_mean(table, TABLES)} Tables: {', '.join(TABLES)}")
        registry = TABLES[table]
        door.show(f"{table} ({len(registry)})")
        for name in sorted(registry):
            cls = registry.get(name)
            shown = [
                str(p).split(":")[0].split("=")[0].strip() + ("" if p.default is p.empty else f"={p.default!r}")
                for key, p in inspect.signature(cls).parameters.items()
                if key not in registry.runtime
            ]
            purpose = (inspect.getdoc(cls) or "").split("\n")[0]
            door.show(f"  {name}({', '.join(shown)})\n      {purpose}  [{cls.__module__}]")
