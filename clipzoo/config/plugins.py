"""Third-party modules: importing one registers what it defines.

A package is named by the user, in the config (``plugins = ['my_package']``) or on the command line, or announces itself through the entry
point group ``clipzoo.config.plugins``. A checkpoint comes from anywhere: what it names is imported only where the user names it too.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import entry_points

from clipzoo.errors import ConfigError

GROUP = "clipzoo.config.plugins"


def import_plugins(names: Iterable[str] = ()) -> list[str]:
    """Import the modules ``names`` and every installed entry point.

    Args:
        names: What the user trusts. Where there are some, the working directory counts as a place to find them.

    Returns:
        The names of all imported modules.

    Raises:
        ConfigError: ``names`` are no names, or a module cannot be imported; the message says where and why.
    """
    if not are_names(names):
        raise ConfigError(f"plugins: {names!r} is not a list of module names. Write plugins = ['my_package']")
    names = list(names)
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    found = [(name, f"plugins: '{name}'") for name in names]
    found += [(point.module, f"entry point '{point.name}' ({GROUP})") for point in entry_points(group=GROUP)]
    for name, where in found:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(f"{where}: cannot be imported ({_reason(error)}). {_advice(error, name)}") from error
    return [name for name, _ in found]


def are_names(names: object) -> bool:
    """Could these be names of modules?"""
    if isinstance(names, (str, bytes, Mapping)) or not isinstance(names, Collection):
        return False
    return all(isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) for name in names)


def not_imported(names: Iterable[str]) -> list[str]:
    """Which of these modules are not there."""
    return [name for name in names if name not in sys.modules]


def _reason(error: Exception) -> str:
    """Type, first line and place of ``error``, whose traceback is not shown."""
    message = (str(error).strip() or "no message").splitlines()[0]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    place = f" at {own[-1].filename}:{own[-1].lineno}" if own and not isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {message}{place}"


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file in (importlib.__file__, __file__)


def _advice(error: Exception, name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
        return "Install the package, put its folder into PYTHONPATH, or start from the folder it lies in"
    return "Correct or uninstall it; --debug shows the traceback"
