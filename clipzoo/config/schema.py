"""JSON Schema of a config, from the signatures, ranges and docstrings of everything that a config may name.

A name or a dict with ``type`` stands for an object that is built. The arguments of each class are a schema of their own, chosen by ``type``
with ``if`` and ``then``, so that a validator reports the wrong key itself. Short spellings (``'resnet18'``) are accepted unseen.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen, MultipleOf

from clipzoo.config.annotations import FieldsOf, hints_of, is_plain
from clipzoo.config.arguments import argument_hints
from clipzoo.config.checking import REQUIRED_SECTIONS
from clipzoo.config.keys import BUILT
from clipzoo.config.registry import Registry
from clipzoo.config.settings import SETTINGS
from clipzoo.registries import SLOTS, TABLES

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", list: "array", tuple: "array", dict: "object"}
_RULES = {
    Ge: lambda rule: {"minimum": rule.ge},
    Gt: lambda rule: {"exclusiveMinimum": rule.gt},
    Le: lambda rule: {"maximum": rule.le},
    Lt: lambda rule: {"exclusiveMaximum": rule.lt},
    MultipleOf: lambda rule: {"multipleOf": rule.multiple_of},
}


def config_schema() -> dict:
    """The schema of a resolved config: that of ``Config.plain()``."""
    sections = {name: _reference(SLOTS[name]) for name in BUILT}
    sections |= {name: _settings(cls) for name, cls in SETTINGS.items()}
    sections |= {"hooks": {"type": "array", "items": _reference(SLOTS["hooks"])}, "plugins": schema_of(list[str])}
    definitions = {}
    for table, registry in TABLES.items():
        definitions[table] = _spec(table, registry)
        for name in sorted(registry):
            definitions[f"{table}.{name}"] = _class(registry, name)
    head = {"$schema": DIALECT, "title": "clipzoo config", "type": "object"}
    return {**head, "properties": sections, "required": [*REQUIRED_SECTIONS], "additionalProperties": False, "$defs": definitions}


def schema_of(annotation: object) -> dict:
    """The schema of a plain annotation; one that is not plain accepts everything.

    >>> schema_of(Annotated[float, Gt(0)] | None)
    {'type': ['number', 'null'], 'exclusiveMinimum': 0}
    >>> schema_of(Literal['a', 'b']), schema_of(list[int])
    ({'enum': ['a', 'b']}, {'type': 'array', 'items': {'type': 'integer'}})
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _ruled(*arguments)
    if annotation is None or annotation is type(None):
        return {"type": "null"}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        return _any_of([schema_of(member) for member in arguments])
    if origin is tuple and Ellipsis not in arguments:
        return {"type": "array", "prefixItems": [*map(schema_of, arguments)], "minItems": len(arguments), "maxItems": len(arguments)}
    if origin in (list, tuple):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        keys, values = map(schema_of, arguments)
        return {"type": "object", "additionalProperties": values, **({} if keys == {"type": "string"} else {"propertyNames": keys})}
    return {"type": _PLAIN[annotation]} if annotation in _PLAIN else {}


def _any_of(choices: list[dict]) -> dict:
    """One of several schemas; a single one where their types differ and they share no keyword: a validator then reports the wrong item."""
    types = [choice.get("type") for choice in choices]
    keywords = [keyword for choice in choices for keyword in choice if keyword != "type"]
    if len(choices) == 1:
        return choices[0]
    if all(isinstance(one, str) for one in types) and len({*types}) == len(types) and len({*keywords}) == len(keywords):
        return {"type": types, **{key: value for choice in choices for key, value in choice.items() if key != "type"}}
    return {"anyOf": choices}


def _ruled(base: object, *metadata: object) -> dict:
    found = schema_of(base)
    for rule in (rule for data in metadata for rule in (data if isinstance(data, GroupedMetadata) else [data])):
        if isinstance(rule, FieldsOf):
            hints = hints_of(rule.cls)
            found["properties"] = {f.name: schema_of(hints[f.name]) for f in fields(rule.cls)}
            found["additionalProperties"] = False
        elif isinstance(rule, (MinLen, MaxLen)):
            of = {"array": "Items", "object": "Properties"}.get(found.get("type"), "Length")
            found |= {f"min{of}": rule.min_length} if isinstance(rule, MinLen) else {f"max{of}": rule.max_length}
        elif type(rule) in _RULES:
            found |= _RULES[type(rule)](rule)
    return found


def _reference(registry: Registry) -> dict:
    return {"$ref": f"#/$defs/{next(table for table, other in TABLES.items() if other is registry)}"}


def _spec(table: str, registry: Registry) -> dict:
    """A name, or a dict whose ``type`` decides the arguments; other names than the registered ones only where there are short spellings."""
    names = sorted(registry)
    choices = {"examples": names} if registry.has_spellings else {"enum": names}
    is_dict = {"type": "object", "required": ["type"]}
    cases = [{"if": {**is_dict, "properties": {"type": {"const": name}}}, "then": {"$ref": f"#/$defs/{table}.{name}"}} for name in names]
    is_name = {"if": {"type": "string"}, "then": choices}
    return {
        "description": f"{registry.name}: a name, or a dict with 'type' and arguments",
        "type": ["string", "object"],
        "properties": {"type": {"type": "string", **choices}},
        "required": ["type"],
        "allOf": [is_name, *cases],
    }


def _class(registry: Registry, name: str) -> dict:
    """The arguments of one registered class; other keys only if it takes any."""
    cls = registry.get(name)
    hints, about = argument_hints(cls), _described(cls)
    properties, required, is_open = {"type": {"const": name}}, [], False
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            is_open = is_open or parameter.kind is parameter.VAR_KEYWORD
        elif parameter.name not in registry.runtime:
            default = MISSING if parameter.default is parameter.empty else parameter.default
            properties[parameter.name] = _argument(parameter.name, hints.get(parameter.name, Any), default, about)
            required += [parameter.name] if default is MISSING else []
    return {"description": _purpose(cls), "properties": properties, "required": required, "additionalProperties": is_open}


def _settings(cls: type) -> dict:
    """A section without ``type``."""
    hints, about = hints_of(cls), _described(cls)
    properties = {f.name: _argument(f.name, hints[f.name], f.default, about) for f in fields(cls)}
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return {
        "description": _purpose(cls),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _argument(name: str, annotation: object, default: object, about: Mapping[str, str]) -> dict:
    found = _built(SLOTS[name], annotation) if name in SLOTS and not is_plain(annotation) else schema_of(annotation)
    if name in about:
        found = {"description": about[name], **found}
    is_value = default is None or isinstance(default, (bool, int, float, str))
    return {**found, "default": default} if is_value else found


def _built(registry: Registry, annotation: object) -> dict:
    """An argument that is built: one spec, a list of them, or ``None``, as its annotation says."""
    one = _reference(registry)
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if Any in members:
        return _any_of([one, {"type": "array", "items": one}, {"type": "null"}])
    lists = [member for member in members if list in (member, get_origin(member))]
    others = [member for member in members if member not in (None, type(None)) and member not in lists]
    choices = [one] if others else []
    choices += [{"type": "array", "items": one}] if lists else []
    choices += [{"type": "null"}] if len(choices) and (None in members or type(None) in members) else []
    return _any_of(choices)


def _purpose(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _described(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say about each argument."""
    return {name: text for base in reversed(cls.__mro__) if base is not object for name, text in _arguments_in(inspect.getdoc(base) or "")}


def _arguments_in(text: str) -> Iterator[tuple[str, str]]:
    """The entries of the ``Args:`` and ``Attributes:`` blocks of a docstring.

    >>> list(_arguments_in('What.\\n\\nArgs:\\n    lr: Rate of\\n        learning.\\n    eps: Small.'))
    [('lr', 'Rate of learning.'), ('eps', 'Small.')]
    """
    for block in re.findall(r"(?m)^(?:Args|Attributes):\n((?:(?: +.*)?\n?)+)", text):
        for name, what in re.findall(r"(?ms)^    (\w+): (.*?)(?=^    \w+: |\Z)", block):
            yield name, " ".join(what.split())
