"""Imports of large packages without what they import and a training does not use: torch's compiler, and trackers."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

_COMPILER = "torch._dynamo"
_OPTIONAL = ("wandb",)  # timm imports it, if it is installed, for a summary that we do not write


@contextmanager
def lean() -> Iterator[None]:
    """Import timm, torchvision or transformers inside: none of them loads torch's compiler, which takes as long as torch itself.

    They import functions of it, at the top of their modules, for the case that a model is compiled. Inside the block they get stand-ins
    that load the compiler when they are called. Without effect where the compiler is loaded already.
    """
    if _COMPILER in sys.modules:
        yield
        return
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        finder.leave()
        for name in hidden:
            if name in sys.modules and sys.modules[name] is None:
                del sys.modules[name]


class _Finder:
    """Finds a stand-in for every module of the compiler."""

    def __init__(self) -> None:
        self.made: dict[str, ModuleType] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name == _COMPILER or name.startswith(f"{_COMPILER}."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        self.made[spec.name] = _StandIn(spec.name, self)
        return self.made[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        pass

    def leave(self) -> None:
        """From now on the compiler itself is imported."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name, module in self.made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if vars(sys.modules.get(parent, module)).get(child) is module:
                delattr(sys.modules[parent], child)


def _disabled_when_compiled(function: Callable | None = None, *arguments: object, **keywords: object) -> Callable:
    """What the compiler's ``disable`` returns, but found out when the function is called: without the compiler it is the function."""
    if function is None:  # @disable(recursive=False)
        return lambda decorated: _disabled_when_compiled(decorated, *arguments, **keywords)

    @functools.wraps(function)
    def call(*inputs: object, **named: object) -> object:
        compiler = sys.modules.get(_COMPILER)
        if compiler is None or isinstance(compiler, _StandIn):
            return function(*inputs, **named)
        return compiler.disable(function, *arguments, **keywords)(*inputs, **named)

    return call


def _constant_when_compiled(function: Callable) -> Callable:
    """What the compiler's ``assume_constant_result`` does."""
    function._dynamo_marked_constant = True
    return function


def _unchanged(function: Callable) -> Callable:
    """Instead of ``allow_in_graph``, which promises that a function need not be traced: it can be, if slower."""
    return function


# What is called already at the top of modules.
_DECORATORS = {
    "disable": _disabled_when_compiled,
    "assume_constant_result": _constant_when_compiled,
    "allow_in_graph": _unchanged,
}


class _StandIn(ModuleType):
    """A module each of whose attributes is a function that loads the module, and calls what is really there."""

    def __init__(self, name: str, finder: _Finder):
        super().__init__(name)
        self._finder = finder

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute == "config":  # settings, which somebody wants to change
            self._finder.leave()
            return importlib.import_module(self.__name__).config
        if attribute in _DECORATORS:
            return _DECORATORS[attribute]

        def call(*arguments: object, **keywords: object) -> object:
            self._finder.leave()
            return getattr(importlib.import_module(self.__name__), attribute)(*arguments, **keywords)

        return call
