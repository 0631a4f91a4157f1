"""Third-party modules; importing one registers its classes.

A plugin is named by the user, in the config (``plugins = ['my_package']``) or on the command line, or by the entry point group
``clipzoo.plugins`` of an installed package. Plugins named in a checkpoint are imported only if the user names them too.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import entry_points

from clipzoo.errors import ConfigError

GROUP = "clipzoo.plugins"


def import_plugins(names: Iterable[str] = ()) -> list[str]:
    """Import the modules ``names`` and all installed entry points.

    Args:
        names: Modules the user trusts. If there are any, the working directory is searched too.

    Returns:
        Names of all imported modules.

    Raises:
        ConfigError: ``names`` is not a list of module names, or an import fails; the message gives the place and the reason.
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
    """Could these be module names?"""
    if isinstance(names, (str, bytes, Mapping)) or not isinstance(names, Collection):
        return False
    return all(isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) for name in names)


def not_imported(names: Iterable[str]) -> list[str]:
    """The given modules that are not imported."""
    return [name for name in names if name not in sys.modules]


def _reason(error: Exception) -> str:
    """Type, first line and location of ``error``, whose traceback is not shown."""
    message = (str(error).strip() or "no message").splitlines()[0]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    place = f" at {own[-1].filename}:{own[-1].lineno}" if own and not isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {message}{place}"


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file in (importlib.__file__, __file__)


def _advice(error: Exception, name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
        return "Install the package, add its parent folder to PYTHONPATH, or start from that folder"
    return "Fix or uninstall it; --debug shows the traceback"
