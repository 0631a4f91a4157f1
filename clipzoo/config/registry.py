"""Registries: tables from names to classes, filled by a decorator when their home package is imported.

>>> LOSSES = Registry('loss', home=None)
>>> @LOSSES.register_module()
... class MyLoss:
...     def __init__(self, temperature: float = 0.07): self.temperature = temperature
>>> LOSSES.build({'type': 'MyLoss', 'temperature': 0.1}).temperature
0.1
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clipzoo.config.annotations import is_plain
from clipzoo.config.arguments import argument_hints, checked
from clipzoo.errors import RegistryError, did_you_mean, shortened


class Registry:
    """A table of classes by name.

    Args:
        name: Noun for an entry in messages, singular (``'loss'``).
        home: Package whose import registers the built-in entries, imported at the first lookup. ``None`` for no such package.
        slots: Constructor arguments that are themselves built, with the registry that builds each, unless annotated as plain strings or
            numbers. Shared by all registries of a project.
        runtime: Constructor arguments supplied by the builder, which a config must not set.
        speller: ``'module:function'`` that expands a short spelling (``'resnet18'``) to a dict with ``type`` and arguments, and returns
            ``None`` for unknown spellings. ``None`` for a registry without short spellings.
    """

    def __init__(
        self,
        name: str,
        home: str | None,
        *,
        slots: dict[str, Registry] | None = None,
        runtime: tuple[str, ...] = (),
        speller: str | None = None,
    ):
        self.name = name
        self.runtime = runtime
        self.slots = {} if slots is None else slots
        self._home = home
        self._home_loaded = home is None
        self._speller = speller
        self._classes: dict[str, type] = {}

    def register_module(self) -> Callable[[type], type]:
        """A decorator that registers a class under its name and makes its constructor check arguments against the annotations.

        Raises:
            RegistryError: Another class already has that name; the message gives the location of both.
        """

        def register(cls: type) -> type:
            known = self._classes.get(cls.__name__)
            if known is not None and _place(known) != _place(cls):
                raise RegistryError(
                    f"{self.name} '{cls.__name__}': registered twice, in {_place(known)} and {_place(cls)}. Rename one of the classes"
                )
            self._classes[cls.__name__] = checked(cls)
            return cls

        return register

    def get(self, name: str) -> type:
        """The class registered as ``name``.

        Raises:
            RegistryError: There is no such class; the message suggests the closest name and lists the registered ones.
        """
        self._load_home()
        if name not in self._classes:
            raise RegistryError(f"unknown {self.name} '{name}'.{did_you_mean(name, self)} Known: {shortened(sorted(self), 20)}")
        return self._classes[name]

    def expand(self, spec: object) -> dict:
        """Expand a short spelling, alone or as the ``type`` of a dict, to a plain dict; other dicts are returned unchanged.

        Raises:
            RegistryError: ``spec`` is not a dict with ``type``, a name, or a known short spelling.
        """
        if isinstance(spec, str):
            spec = {"type": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
            raise RegistryError(f"{self.name}: expected a name or a dict with 'type', not {spec!r}")
        self._load_home()
        if spec["type"] in self._classes or self._speller is None:
            return dict(spec)
        module, function = self._speller.split(":")
        spelled = getattr(importlib.import_module(module), function)(spec["type"])
        if spelled is None:
            return dict(spec)
        return {**spelled, **{key: value for key, value in spec.items() if key != "type"}}

    @property
    def has_spellings(self) -> bool:
        """Whether there are names besides the registered ones, such as ``resnet18``."""
        return self._speller is not None

    def slot(self, argument: str, annotation: object) -> Registry | None:
        """The registry that builds a constructor argument; ``None`` for arguments that are not built, such as names in a ``list[str]``."""
        return None if is_plain(annotation) else self.slots.get(argument)

    def build(self, spec: object, **runtime: object) -> object:
        """Build the object that ``spec`` describes; arguments named in ``slots`` are built first, recursively.

        Args:
            spec: A dict with ``type`` and constructor arguments, a name, a short spelling, or an object that is already built.
            runtime: Further arguments that a config cannot hold (a device, a class list).

        Raises:
            RegistryError: The name or spelling is unknown.
        """
        if not isinstance(spec, (str, Mapping)):
            return spec
        arguments = self.expand(spec)
        cls = self.get(arguments.pop("type"))
        hints = argument_hints(cls)
        for key, value in arguments.items():
            registry = self.slot(key, hints.get(key, Any))
            if registry is None or value is None:
                continue
            many = isinstance(value, (list, tuple))
            arguments[key] = [registry.build(v) for v in value] if many else registry.build(value)
        return cls(**arguments, **runtime)

    def __contains__(self, name: object) -> bool:
        self._load_home()
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        self._load_home()
        return iter(list(self._classes))

    def __len__(self) -> int:
        self._load_home()
        return len(self._classes)

    def __repr__(self) -> str:
        return f"Registry({self.name!r}, {len(self._classes)} loaded)"

    def _load_home(self) -> None:
        """Import the home package once; if the import fails, the next lookup tries again and raises the same error."""
        if self._home_loaded:
            return
        self._home_loaded = True  # set first: modules of the home package may do lookups during import
        try:
            importlib.import_module(self._home)
        except BaseException:
            self._home_loaded = False
            raise


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
