"""Type annotations as rules for plain values: whether a value fits, and how to describe what is expected.

Used for configs, constructors and files. Ranges are written with the package annotated-types: ``Annotated[float, Gt(0)]``.
"""

from __future__ import annotations

import errno
import math
import numbers
import os
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen, MultipleOf

from clipzoo.errors import did_you_mean

_LONGEST = 200  # characters of a value that are repeated in a message


@dataclass(frozen=True)
class UserPath:
    """Marks a string as a path given by the user: ``Annotated[str, UserPath()]``."""


@dataclass(frozen=True)
class FieldsOf:
    """Marks a dict whose keys are fields of a dataclass, with the dataclass's annotations: ``Annotated[dict, FieldsOf(LoRA)]``."""

    cls: type


def hints_of(function: object) -> dict[str, Any]:
    """The resolved annotations of a function or class; those that exist for type checkers only are omitted."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError:
        pass
    known: dict[str, Any] = {}
    for owner in reversed(function.__mro__) if isinstance(function, type) else (function,):
        names = vars(sys.modules[owner.__module__]) if isinstance(owner, type) else getattr(owner, "__globals__", {})
        for name, annotation in getattr(owner, "__annotations__", {}).items():
            known.pop(name, None)
            try:
                one = types.SimpleNamespace(__annotations__={name: annotation})
                known |= typing.get_type_hints(one, names, include_extras=True)
            except NameError:
                continue
    return known


def fits(value: object, annotation: object) -> bool:
    """Does a plain config value fit a type annotation? Annotations that are not plain types accept everything.

    >>> fits(3, float), fits(True, int), fits('x', Literal['x', 'y']), fits([1, 2], list[int])
    (True, False, True, True)
    >>> fits(-1, Annotated[float, Gt(0)])
    False
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if origin is Annotated:
        return _fits_ruled(value, *_base_and_rules(annotation))
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return any(fits(value, a) for a in arguments)
    if origin in (list, tuple) or annotation in (list, tuple):
        inner = [a for a in arguments if a is not Ellipsis]
        if not isinstance(value, (list, tuple)) or (origin is tuple and Ellipsis not in arguments and inner and len(inner) != len(value)):
            return False
        return not inner or all(fits(v, inner[min(i, len(inner) - 1)]) for i, v in enumerate(value))
    if origin is dict or annotation is dict:
        keys, values = arguments or (Any, Any)
        return isinstance(value, Mapping) and all(fits(k, keys) and fits(v, values) for k, v in value.items())
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63
    if annotation is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if annotation in (str, Path):
        return isinstance(value, str)
    return True


def _base_and_rules(annotation: object) -> tuple[object, list]:
    """Split ``Annotated[base, rules…]`` into base and rules; ``Interval`` and ``Len`` are expanded to single rules."""
    base, *metadata = get_args(annotation)
    return base, [rule for data in metadata for rule in (data if isinstance(data, GroupedMetadata) else [data])]


def _fits_ruled(value: object, base: object, rules: list) -> bool:
    if any(isinstance(rule, UserPath) for rule in rules):
        return isinstance(value, (str, os.PathLike)) and _can_be_a_path(value)
    if not fits(value, base):
        return False
    if isinstance(value, numbers.Real) and not _is_finite(value):
        return False
    return all(_HOLDS[type(rule)](value, rule) for rule in rules if type(rule) in _HOLDS)


def _is_finite(number: numbers.Real) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer too large for a float
        return False


def _can_be_a_path(value: str | os.PathLike) -> bool:
    """Can the system look up this path? It must not contain NUL or be too long."""
    try:
        os.lstat(value)
    except ValueError:
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


_HOLDS = {
    Gt: lambda value, rule: value > rule.gt,
    Ge: lambda value, rule: value >= rule.ge,
    Lt: lambda value, rule: value < rule.lt,
    Le: lambda value, rule: value <= rule.le,
    MultipleOf: lambda value, rule: value % rule.multiple_of == 0,
    MinLen: lambda value, rule: len(value) >= rule.min_length,
    MaxLen: lambda value, rule: len(value) <= rule.max_length,
    FieldsOf: lambda value, rule: not list(_field_misfits(value, rule.cls)),
}


def misfits(value: object, annotation: object) -> Iterator[tuple[str, str]]:
    """Yield the location (``'.rank'``, ``'.1'``; empty for the value itself) and description of everything wrong with a value.

    >>> list(misfits([0.9, 2], list[Annotated[float, Lt(1)]]))
    [('.1', '2 is not a number below 1')]
    """
    if fits(value, annotation):
        return
    members = [member for member in _members(annotation) if member not in (None, type(None))]
    holders = [member for member in members if _holds_items(value, member)]
    if len(holders) == 1:
        yield from _items_misfits(value, holders[0])
    else:
        literals = [str(a) for member in members if get_origin(member) is Literal for a in get_args(member)]
        hint = f".{did_you_mean(value, literals)}" if isinstance(value, str) and did_you_mean(value, literals) else ""
        yield "", f"{in_words(value)} is not {described(annotation)}{hint}"


def _members(annotation: object) -> tuple:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _holds_items(value: object, annotation: object) -> bool:
    """Is ``value`` a container of the kind and length that ``annotation`` requires, so that only its items can be wrong?"""
    if get_origin(annotation) is Annotated:
        base, rules = _base_and_rules(annotation)
        others = [rule for rule in rules if not isinstance(rule, FieldsOf)]
        return (base is dict or bool(get_args(base))) and _holds_items(value, base) and _fits_ruled(value, get_origin(base) or base, others)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and Ellipsis not in arguments:
        return isinstance(value, (list, tuple)) and len(value) == len(arguments)
    return isinstance(value, Mapping) if dict in (origin, annotation) else origin in (list, tuple) and isinstance(value, (list, tuple))


def _items_misfits(value: object, annotation: object) -> Iterator[tuple[str, str]]:
    if get_origin(annotation) is Annotated:
        base, rules = _base_and_rules(annotation)
        owner = next((rule.cls for rule in rules if isinstance(rule, FieldsOf)), None)
        yield from _items_misfits(value, base) if owner is None else _field_misfits(value, owner)
        return
    arguments = [a for a in get_args(annotation) if a is not Ellipsis]
    if isinstance(value, Mapping):
        keys, values = arguments or (Any, Any)
        for key, item in value.items():
            if not fits(key, keys):
                yield "", f"the key {in_words(key)} is not {described(keys)}"
            yield from ((f".{key}{below}", what) for below, what in misfits(item, values))
        return
    for index, item in enumerate(value):
        inner = arguments[min(index, len(arguments) - 1)]
        yield from ((f".{index}{below}", what) for below, what in misfits(item, inner))


def _field_misfits(value: Mapping, cls: type) -> Iterator[tuple[str, str]]:
    hints = hints_of(cls)
    known = [field.name for field in fields(cls)]
    for key, item in value.items():
        if key in known:
            yield from ((f".{key}{below}", what) for below, what in misfits(item, hints[key]))
        else:
            yield "", f"unknown key '{key}'.{did_you_mean(key, known)} Known: {', '.join(known)}"


def in_words(value: object) -> str:
    """``repr`` of a value for messages, truncated if long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers with thousands of digits
        return "a number with thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def is_plain(annotation: object) -> bool:
    """Does an annotation describe strings or numbers, alone or in a list, rather than objects to be built?

    >>> is_plain(list[str]), is_plain(str | None), is_plain(str | dict), is_plain(list)
    (True, True, False, False)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return is_plain(arguments[0])
    if origin in (Union, types.UnionType):
        return all(is_plain(a) for a in arguments if a not in (None, type(None)))
    if origin in (list, tuple):
        return all(is_plain(a) for a in arguments if a is not Ellipsis)
    return origin is Literal or annotation in (str, int, float, bool, Path)


_WORDS = {
    type(None): "None",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
    dict: "a dict",
    list: "a list",
}


def described(annotation: object) -> str:
    """Describe an annotation in words, for messages.

    >>> described(float | None), described(Literal['a', 'b'])
    ('a number or None', "one of 'a', 'b'")
    >>> described(Annotated[float, Gt(0)])
    'a number above 0'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _described_ruled(*_base_and_rules(annotation), described)
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(described(a) for a in arguments)
    if origin in (list, tuple):
        inner = [a for a in arguments if a is not Ellipsis]
        if origin is tuple and Ellipsis not in arguments:
            same = len(set(inner)) == 1
            return f"a list of {len(inner)} {_plural(inner[0])}" if same else f"a list of {', '.join(map(described, inner))}"
        return f"a list of {_plural(inner[0])}"
    return _WORDS.get(origin or annotation, getattr(annotation, "__name__", str(annotation)))


def _plural(annotation: object) -> str:
    if get_origin(annotation) is Annotated:
        return _described_ruled(*_base_and_rules(annotation), _plural)
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_plural(a) for a in get_args(annotation))
    words = described(annotation)
    return words.removeprefix("a ") + "s" if words.startswith("a ") and " of " not in words else words


def _described_ruled(base: object, rules: list, words: typing.Callable[[object], str]) -> str:
    kinds = {type(rule): rule for rule in rules}
    if UserPath in kinds:
        return words(Path)
    if FieldsOf in kinds:
        return f"{words(base)} of {', '.join(field.name for field in fields(kinds[FieldsOf].cls))}"
    return words(base) + _describe_range(kinds) + _describe_length(kinds)


def _describe_range(rules: dict[type, Any]) -> str:
    low, high = _limits(rules)
    multiple = f", a multiple of {rules[MultipleOf].multiple_of}" if MultipleOf in rules else ""
    if low is None and high is None:
        return multiple
    if high is None:
        return (f" of {low} or more" if Ge in rules else f" above {low}") + multiple
    if low is None:
        return (f" of {high} or less" if Le in rules else f" below {high}") + multiple
    if Ge in rules and Le in rules:
        return f" from {low} to {high}" + multiple
    return f" in {'[' if Ge in rules else '('}{low}, {high}{']' if Le in rules else ')'}" + multiple


def _limits(rules: dict[type, Any]) -> tuple[Any, Any]:
    """The lower and the upper limit, inclusive or not; ``None`` where unlimited."""
    low = rules[Ge].ge if Ge in rules else rules[Gt].gt if Gt in rules else None
    high = rules[Le].le if Le in rules else rules[Lt].lt if Lt in rules else None
    return low, high


def _describe_length(rules: dict[type, Any]) -> str:
    least = rules[MinLen].min_length if MinLen in rules else None
    most = rules[MaxLen].max_length if MaxLen in rules else None
    if least is None and most is None:
        return ""
    if least == most:
        return f", {least} of them"
    return f", {least} or more" if most is None else f", {most} or fewer" if not least else f", {least} to {most}"


def shown(annotation: object) -> str:
    """The short form of an annotation in a list of arguments.

    >>> shown(Annotated[float, Gt(0)] | None), shown(list[int])
    ('float > 0 | None', 'list[int]')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shown_ruled(*_base_and_rules(annotation))
    if annotation is None or annotation is type(None):
        return "None"
    if origin is Literal:
        return " | ".join(repr(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(shown(a) for a in arguments)
    if origin is not None and arguments:
        inner = ", ".join("..." if a is Ellipsis else shown(a) if not isinstance(a, list) else "..." for a in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _shown_ruled(base: object, rules: list) -> str:
    kinds = {type(rule): rule for rule in rules}
    if UserPath in kinds:
        return "path"
    if FieldsOf in kinds:
        hints = hints_of(kinds[FieldsOf].cls)
        return f"dict({', '.join(f'{field.name}: {shown(hints[field.name])}' for field in fields(kinds[FieldsOf].cls))})"
    low, high = _limits(kinds)
    below, above = "<=" if Ge in kinds else "<", "<=" if Le in kinds else "<"
    if low is not None and high is not None:
        words = f"{low} {below} {shown(base)} {above} {high}"
    elif low is not None:
        words = f"{shown(base)} {'>=' if Ge in kinds else '>'} {low}"
    else:
        words = shown(base) if high is None else f"{shown(base)} {above} {high}"
    return words + _describe_range({MultipleOf: kinds[MultipleOf]} if MultipleOf in kinds else {}) + _describe_length(kinds)
