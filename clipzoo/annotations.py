"""Type annotations as rules for plain values: whether a value fits one, and what it wants in words. For configs and for files."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


def hints_of(function: object) -> dict[str, Any]:
    """The annotations of a function or class, resolved; none where some exist for type checkers only."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def fits(value: object, annotation: object) -> bool:
    """Does a plain config value fit a type annotation? Annotations other than plain types accept everything.

    >>> fits(3, float), fits(True, int), fits('x', Literal['x', 'y']), fits([1, 2], list[int])
    (True, False, True, True)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if annotation is None or annotation is type(None):
        return value is None
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
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation in (str, Path):
        return isinstance(value, str)
    return True


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
    """An annotation in words, for messages.

    >>> described(float | None), described(Literal['a', 'b'])
    ('a number or None', "one of 'a', 'b'")
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
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
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _plural(annotation: object) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_plural(a) for a in get_args(annotation))
    words = described(annotation)
    return words.removeprefix("a ") + "s" if words.startswith("a ") and " of " not in words else words
