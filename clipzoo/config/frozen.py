"""Dicts and lists of a config, with attribute access, and frozen once the config is loaded."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

from addict import Dict

from clipzoo.errors import ConfigError, did_you_mean


def _guarded(name: str, base: type) -> Callable:
    """The method ``name`` of ``base``, which raises if ``self`` is frozen."""
    method = getattr(base, name)

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        if self.__dict__.get("__frozen"):
            raise ConfigError("config: frozen after loading and cannot be changed. Use --cfg-options or Config.load(…, overrides)")
        return method(self, *args, **kwargs)

    return guarded


def _guard(cls: type, base: type, *names: str) -> None:
    for name in names:
        setattr(cls, name, _guarded(name, base))


class ConfigList(list):
    """A list that can be frozen together with its items; copies are ordinary lists."""

    def freeze(self, frozen: bool = True) -> None:
        """Refuse all further changes."""
        self.__dict__["__frozen"] = frozen
        for item in self:
            if isinstance(item, (ConfigDict, ConfigList)):
                item.freeze(frozen)

    def __deepcopy__(self, memo: dict) -> list:
        return [copy.deepcopy(item, memo) for item in self]

    def __reduce__(self) -> tuple:
        return list, (list(self),)


_guard(ConfigList, list, "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort")
_guard(ConfigList, list, "__setitem__", "__delitem__", "__iadd__", "__imul__")


class ConfigDict(Dict):
    """A dict with attribute access that raises on missing keys, and can be frozen.

    Keys that are also dict methods (``freeze``, ``items``, ``copy`` …) must be accessed with square brackets.
    """

    @classmethod
    def _hook(cls, item: object) -> object:
        """Convert nested dicts to ``ConfigDict`` and lists to ``ConfigList``."""
        if isinstance(item, (list, tuple)):
            return ConfigList(cls._hook(element) for element in item)
        return ConfigDict(item) if type(item) is dict else super()._hook(item)

    def freeze(self, shouldFreeze: bool = True) -> None:  # noqa: N803, addict's own spelling
        """Refuse all further changes, including to nested items."""
        self.__dict__["__frozen"] = shouldFreeze
        for value in self.values():
            if isinstance(value, (ConfigDict, ConfigList)):
                value.freeze(shouldFreeze)

    def to_dict(self) -> dict:
        """A copy made of ordinary dicts and lists."""
        return {key: _ordinary(value) for key, value in self.items()}

    def __missing__(self, name: str) -> None:
        raise KeyError(f"no key '{name}'.{did_you_mean(name, self)} Available: {', '.join(self) or 'none'}")

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from error


_guard(ConfigDict, Dict, "clear", "pop", "popitem", "setdefault", "update", "__setitem__", "__delitem__", "__ior__")


def _ordinary(value: object) -> object:
    if isinstance(value, dict):
        return {key: _ordinary(item) for key, item in value.items()}
    return [_ordinary(item) for item in value] if isinstance(value, list) else value
