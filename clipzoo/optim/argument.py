"""The check of one constructor argument against its range."""

from __future__ import annotations

from clipzoo.errors import ConfigError


def check_argument(owner: object, name: str, value: object, right: bool, allowed: str) -> None:
    """Refuse the argument ``name`` of ``owner`` unless it is ``right``; ``allowed`` says in words what is.

    Raises:
        ConfigError: It is not right.
    """
    if not right:
        raise ConfigError(f"{type(owner).__name__}: {name} is {value}. It must be {allowed}")
