"""The keys that a config may have, from the signatures of the classes that it names: for hints and for shell completion.

>>> [path for path in keys_of({'optimizer': {'type': 'AdamW'}}) if path.startswith('train.grad')]
['train.grad_cache', 'train.gradient_checkpointing']
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from clipzoo.config.annotations import FieldsOf, hints_of, is_plain
from clipzoo.config.arguments import argument_hints
from clipzoo.config.registry import Registry
from clipzoo.config.settings import SETTINGS
from clipzoo.errors import RegistryError
from clipzoo.registries import SLOTS

# Sections that are built by one registry, with the type of a config that does not name one.
BUILT = {"model": None, "splits": None, "optimizer": "AdamW", "schedule": "CosineSchedule"}

_MOST_SHOWN = 6  # candidates in a hint


@dataclass(frozen=True)
class Key:
    """A key that may be set.

    Attributes:
        annotation: Annotation of its value; ``Any`` where the signature has none.
        registry: The registry that builds its value, or, for a key ``….type``, whose names it takes; ``None`` for any other key.
    """

    annotation: Any = Any
    registry: Registry | None = None


# The classes that a value may stand for, each with the arguments it gets; several if all possible keys are wanted.
_Classes = Callable[[Registry, object], list[tuple[type, Mapping]]]


def keys_of(config: Mapping) -> dict[str, Key]:
    """Every key that a config may set, given the types that it names: dotted path -> key.

    Args:
        config: Sections; those that are missing or invalid count with their defaults, or are skipped.
    """
    return dict(_sections(config, _named))


def all_keys() -> dict[str, Key]:
    """Every key that some config may set: those of all registered classes. List items are left out."""
    return dict(_sections({}, lambda registry, _: [(registry.get(name), {}) for name in sorted(registry)]))


def full_key_hint(path: str, config: Mapping) -> str:
    """The full key for a short name, as `` Did you mean 'optimizer.lr'?``; every candidate if there are several, empty if none.

    Args:
        path: What the user typed: ``lr``, ``image_encoder.image_size``.
        config: Sections, which decide the keys.
    """
    keys = keys_of(config)
    first, _, rest = path.partition(".")
    found = _ending_in(path, keys) or [f"{key}.{rest}" for key in _ending_in(first, keys) if rest]
    if not found and not rest:
        last_parts = {key.rpartition(".")[2].casefold(): key.rpartition(".")[2] for key in keys}
        near = get_close_matches(path.casefold(), last_parts, n=1)
        found = _ending_in(last_parts[near[0]], keys) if near else []
    if len(found) > _MOST_SHOWN:
        return f" Did you mean one of {', '.join(map(repr, found[:_MOST_SHOWN]))} and {len(found) - _MOST_SHOWN} more?"
    *others, last = map(repr, found or [""])
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if found else ""


def is_setting(name: str) -> bool:
    """Is this the name of a key of a section without a ``type``? Answered without loading any registered class."""
    return any(name == f.name for cls in SETTINGS.values() for f in fields(cls))


def _ending_in(path: str, keys: Mapping) -> list[str]:
    return [key for key in keys if key.endswith(f".{path}")]


def _sections(config: Mapping, classes: _Classes) -> Iterator[tuple[str, Key]]:
    for section, default in BUILT.items():
        yield from _slot(section, SLOTS[section], config.get(section, default), classes)
    for section, cls in SETTINGS.items():
        given = config.get(section)
        given = given if isinstance(given, Mapping) else {}
        hints = hints_of(cls)
        for f in fields(cls):
            yield from _argument(f"{section}.{f.name}", f.name, hints[f.name], given.get(f.name), classes)
    hooks = config.get("hooks", [])
    yield "hooks", Key(list, SLOTS["hooks"])
    for index, spec in enumerate(hooks if isinstance(hooks, list) else ()):
        yield from _slot(f"hooks.{index}", SLOTS["hooks"], spec, classes)
    yield "plugins", Key(list[str])


def _argument(path: str, name: str, annotation: object, value: object, classes: _Classes) -> Iterator[tuple[str, Key]]:
    """An argument, and what is below it."""
    if name in SLOTS and not is_plain(annotation):
        yield from _slot(path, SLOTS[name], value, classes, annotation)
        return
    yield path, Key(annotation)
    for member in get_args(annotation) if get_origin(annotation) is not Annotated else (annotation,):
        owner = next((rule.cls for rule in get_args(member) if isinstance(rule, FieldsOf)), None)
        if owner is not None:
            hints = hints_of(owner)
            yield from ((f"{path}.{f.name}", Key(hints[f.name])) for f in fields(owner))


def _slot(path: str, registry: Registry, value: object, classes: _Classes, annotation: object = Any) -> Iterator[tuple[str, Key]]:
    """An argument that is built, its ``type``, and the arguments of every class that it may stand for."""
    yield path, Key(annotation, registry)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _slot(f"{path}.{index}", registry, item, classes)
        return
    found = classes(registry, value)
    if found:
        yield f"{path}.type", Key(str, registry)
    seen = set()
    for cls, given in found:
        hints = argument_hints(cls)
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name in registry.runtime:
                continue
            for key, what in _argument(f"{path}.{name}", name, hints.get(name, Any), given.get(name, parameter.default), classes):
                if key not in seen:  # of several classes, the first
                    seen.add(key)
                    yield key, what


def _named(registry: Registry, value: object) -> list[tuple[type, Mapping]]:
    """The class that a spec names; none where it is invalid or absent."""
    try:
        arguments = registry.expand(value)
        return [(registry.get(arguments.pop("type")), arguments)]
    except RegistryError:
        return []
