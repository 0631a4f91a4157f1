"""Third-party modules: importing one registers what it defines.

A package is named in the config (``plugins = ['my_package']``) or announces itself through the entry point group ``clipzoo.plugins``.
"""

import importlib
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points

from clipzoo.errors import ConfigError

GROUP = "clipzoo.plugins"


def import_plugins(names: Iterable[str] = ()) -> list[str]:
    """Import the modules ``names`` (the working directory counts as a place to find them) and every installed entry point.

    Returns:
        The names of all imported modules.

    Raises:
        ConfigError: A module cannot be imported; the message says why.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    found = [(name, f"plugins: '{name}'") for name in names]
    found += [(point.module, f"entry point '{point.name}' ({GROUP})") for point in entry_points(group=GROUP)]
    for name, where in found:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(f"{where}: cannot be imported ({type(error).__name__}: {error})") from error
    return [name for name, _ in found]
