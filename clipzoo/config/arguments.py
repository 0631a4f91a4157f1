"""Constructor arguments: common ranges, and a decorator that enforces annotations wherever an object is created.

>>> @checked
... class Thing:
...     def __init__(self, size: Count = 1): self.size = size
>>> Thing(0)
Traceback (most recent call last):
...
clipzoo.errors.ConfigError: Thing.size: 0 is not a whole number of 1 or more
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval

from clipzoo.config.annotations import UserPath, hints_of, misfits
from clipzoo.errors import ConfigError
from clipzoo.files import expanded

T = TypeVar("T")

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Width = Annotated[int, Interval(ge=1, le=65536)]
Layers = Annotated[int, Interval(ge=1, le=4096)]
Seed = Annotated[int, Interval(ge=-(2**63), lt=2**63)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, lt=1)]
FilePath = Annotated[str, UserPath()]


def checked(target: T, owner: str | None = None) -> T:
    """Make a function, or a constructor that the class itself defines, refuse arguments of the wrong type, and expand ``~`` in paths.

    ``Registry.register_module`` applies this to registered classes; base classes, unregistered dataclasses and functions are decorated
    explicitly. Signature, pickling and ``isinstance`` are unaffected. A rule that involves several arguments is a static method
    ``check_together(where, arguments)``, which raises a ConfigError whose message starts with ``where`` and the offending argument.

    Args:
        target: Function or class. A class that inherits its constructor is left unchanged, since that is checked where it is defined.
        owner: First word of a message; ``None`` for the name of the created class, or of the function.
    """
    if inspect.isfunction(target):
        return _checked(target, lambda _: owner or target.__name__, lambda: hints_of(target), lambda: None)
    constructor = vars(target).get("__init__")
    if inspect.isfunction(constructor) and not getattr(constructor, "is_checked", False):
        target.__init__ = _checked(
            constructor, lambda made: owner or type(made).__name__, lambda: argument_hints(target), lambda: rule_of(target)
        )
        target.__init__.is_checked = True
    return target


def _checked(function: Callable, where_of: Callable, hints_later: Callable, rule_later: Callable) -> Callable:
    """Wrap ``function`` with a check of its annotations, which are resolved at the first call, when all names of its module exist."""
    signature = inspect.signature(function)
    hints_once = functools.cache(hints_later)

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the function itself gives the better message
            return function(*args, **kwargs)
        hints, where, rule = hints_once(), where_of(args[0] if args else None), rule_later()
        given = {name: value for name, value in bound.arguments.items() if name in hints}
        problems = [f"{where}.{name}{at}: {what}" for name, value in given.items() for at, what in misfits(value, hints[name])]
        if problems:
            raise ConfigError("\n".join(problems))
        bound.arguments.update({name: expanded(value) for name, value in given.items() if _is_path(value, hints[name])})
        if rule is not None:
            bound.apply_defaults()
            rule(where, bound.arguments)
        return function(*bound.args, **bound.kwargs)

    return guarded


def argument_hints(cls: type) -> dict[str, Any]:
    """The resolved annotations of the constructor's arguments; dataclasses may inherit fields from another module."""
    owner = constructor_owner(cls)
    written = owner.__dataclass_params__.init is False if "__dataclass_fields__" in vars(owner) else True
    return hints_of(owner.__init__ if written else owner)


def constructor_owner(cls: type) -> type:
    """The class that defines the constructor of ``cls``."""
    return next(base for base in cls.__mro__ if "__init__" in vars(base))


def rule_of(cls: type) -> Callable[[str, Mapping[str, Any]], None] | None:
    """The rule for several arguments of a constructor: ``check_together`` of the class that defines the constructor."""
    rule = vars(constructor_owner(cls)).get("check_together")
    return None if rule is None else rule.__func__


def collected(constructor: Callable, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that ``**arguments`` of a constructor collects, for its rule ``check_together``.

    A config gives them beside the others, a call as a dict.

    Args:
        constructor: The constructor.
        arguments: What the rule was given.
    """
    named = inspect.signature(constructor).parameters
    inner = next((arguments.get(key) for key, p in named.items() if p.kind is p.VAR_KEYWORD), None)
    return {key: value for key, value in arguments.items() if key not in named} | (inner if isinstance(inner, Mapping) else {})


def _is_path(value: object, annotation: object) -> bool:
    if not isinstance(value, (str, os.PathLike)):
        return False
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return any(UserPath() in get_args(member) for member in members)
