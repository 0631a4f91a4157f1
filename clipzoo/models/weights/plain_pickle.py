"""A pickle reader that can only create plain values: no imports, and no calls except of the functions passed to it.

Python's own ``pickle`` is not used, so that nothing needs to be restricted.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass

from clipzoo.errors import DataError


@dataclass(frozen=True)
class Function:
    """A function that a pickle may call.

    Attributes:
        call: Function called with the pickle's arguments.
    """

    call: Callable


@dataclass(frozen=True)
class Class:
    """A class of which a pickle may create objects: bags that hold the pickle's data, without any methods.

    Attributes:
        name: Qualified name, as used in the pickle.
    """

    name: str


@dataclass(eq=False)
class Bag:
    """An object of such a class.

    Attributes:
        kind: Class of the object.
        state: State set by the pickle; ``None`` if none exists.
    """

    kind: Class
    state: object = None


class _Mark:
    """A mark on the stack."""


_MARK = _Mark()
_PUSHED = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"))
_NEW: dict[str, Callable] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(content: bytes, find: Callable[[str, str], object], load: Callable[[object], object]) -> object:
    """Read the value of a pickle.

    Args:
        content: Pickle, as written by torch.
        find: Function from module and name of an import to a ``Function``, a ``Class`` or a value; raises ``DataError`` for others.
        load: Function from a persistent id to the external value.

    Raises:
        DataError: The pickle is damaged, or would do anything else.
    """
    machine = _Machine(find, load)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                (value,) = machine.stack
                return value
            machine.step(opcode.name, argument)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(f"its pickle is damaged ({type(error).__name__}: {error})") from error
    raise DataError("its pickle is truncated")


class _Machine:
    def __init__(self, find: Callable[[str, str], object], load: Callable[[object], object]):
        self.stack: list = []
        self._memo: dict[int, object] = {}
        self._find, self._load = find, load

    def step(self, name: str, argument: object) -> None:
        stack = self.stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name != "PROTO":
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise DataError(f"its pickle has the operation {name}, which torch does not write")
            step(argument)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self._find(module, name))

    def _binpersid(self, _: None) -> None:
        self.stack.append(self._load(self.stack.pop()))

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._items()))

    def _append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._items())

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update({key: value})

    def _setitems(self, _: None) -> None:
        items = self._items()
        self._update(dict(zip(items[::2], items[1::2], strict=True)))

    def _reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if isinstance(function, Class):  # an enumeration or a named tuple
            self.stack.append(Bag(function, arguments))
        elif isinstance(function, Function) and isinstance(arguments, tuple):
            self.stack.append(function.call(*arguments))
        else:
            raise TypeError("a call of something that is not a function")

    def _newobj(self, _: None) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Class) or arguments != ():
            raise TypeError("an object of something that is not a class")
        self.stack.append(Bag(kind))

    def _build(self, _: None) -> None:
        state, bag = self.stack.pop(), self.stack[-1]
        if not isinstance(bag, Bag) or bag.state is not None:
            raise TypeError("a state for something that is not a new object")
        bag.state = state

    def _extend(self, values: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError("items for something that is not a list")
        target.extend(values)

    def _update(self, values: dict) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise TypeError("items for something that is not a dict")
        target.update(values)

    def _items(self) -> list:
        """Pop everything above the last mark."""
        stack = self.stack
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark on the stack")
        items = stack[place + 1 :]
        del stack[place:]
        return items
