"""A registry: names to classes, filled by a decorator and by the modules of one home package.

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
    """A table of classes under their own names.

    Args:
        name: What one entry is called in messages, in the singular (``'loss'``).
        home: The package whose import registers the project's own entries; imported at the first lookup. ``None`` for none.
        slots: Which constructor arguments are themselves built, and by which registry, unless they are annotated as plain strings or
            numbers. Shared by all tables of a project.
        runtime: Constructor arguments that the builder supplies and no config may set.
        speller: ``'module:function'`` that turns a short spelling (``'resnet18'``) into a dict with ``type`` and arguments, and returns
            ``None`` for what it does not know. ``None`` where the table has no short spellings.
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
        """A decorator that registers a class under its own name, and lets its constructor refuse what does not fit its annotations.

        Raises:
            RegistryError: Another class has that name already; the message names both places.
        """

        def register(cls: type) -> type:
            known = self._classes.get(cls.__name__)
            if known is not None and _place(known) != _place(cls):
                raise RegistryError(
                    f"{self.name} '{cls.__name__}': registered twice, in {_place(known)} and in {_place(cls)}. Rename one of the classes"
                )
            self._classes[cls.__name__] = checked(cls)
            return cls

        return register

    def get(self, name: str) -> type:
        """The class registered as ``name``.

        Raises:
            RegistryError: There is none; the message suggests the closest name and lists what exists.
        """
        self._load_home()
        if name not in self._classes:
            raise RegistryError(f"no {self.name} is called '{name}'.{did_you_mean(name, self)} Known: {shortened(sorted(self), 20)}")
        return self._classes[name]

    def expand(self, spec: object) -> dict:
        """Turn a short spelling, alone or as the ``type`` of a dict, into a plain dict; other dicts are returned as they are.

        Raises:
            RegistryError: ``spec`` is neither a dict with ``type``, nor a name, nor a spelling this table understands.
        """
        if isinstance(spec, str):
            spec = {"type": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
            raise RegistryError(f"{self.name}: give a name or a dict with 'type', not {spec!r}")
        self._load_home()
        if spec["type"] in self._classes or self._speller is None:
            return dict(spec)
        module, function = self._speller.split(":")
        spelled = getattr(importlib.import_module(module), function)(spec["type"])
        if spelled is None:
            return dict(spec)
        return {**spelled, **{key: value for key, value in spec.items() if key != "type"}}

    def slot(self, argument: str, annotation: object) -> Registry | None:
        """The table that builds a constructor argument; ``None`` for one that is not built, such as names in a ``list[str]``."""
        return None if is_plain(annotation) else self.slots.get(argument)

    def build(self, spec: object, **runtime: object) -> object:
        """Make the object that ``spec`` describes; arguments named in ``slots`` are built first, recursively.

        Args:
            spec: A dict with ``type`` and constructor arguments, a name, a short spelling, or an object that is built already.
            runtime: Further arguments that no config can hold (a device, a table of classes).

        Raises:
            RegistryError: The name or the spelling is unknown.
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
        """Import the home package once; a failed import leaves the table unloaded, so that the next lookup shows the error again."""
        if self._home_loaded:
            return
        self._home_loaded = True  # set first: the home's own modules may look things up while they are imported
        try:
            importlib.import_module(self._home)
        except BaseException:
            self._home_loaded = False
            raise


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
