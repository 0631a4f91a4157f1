"""Constructors hold the ranges of their annotations, wherever an object is made."""

from __future__ import annotations

import inspect
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from clipzoo.config import Config
from clipzoo.config.arguments import Count, FilePath, Positive, Share, checked
from clipzoo.config.registry import Registry
from clipzoo.errors import ConfigError
from clipzoo.files import expanded

THINGS = Registry("thing", home=None)
PARTS = Registry("part", home=None)


class Base:
    """A base class that nobody registers."""

    def __init__(self, rate: Positive):
        self.rate = rate


checked(Base)


@THINGS.register_module()
class Thing(Base):
    """A thing with ranges."""

    def __init__(self, size: Count, rate: Positive = 1.0, root: FilePath | None = None, least: Share = 0.0):
        super().__init__(rate)
        self.size, self.root, self.least = size, root, least

    @staticmethod
    def check_together(where, arguments):
        """One rule between two arguments."""
        if arguments["least"] > arguments["rate"]:
            raise ConfigError(f"{where}.least: {arguments['least']} is above the rate, {arguments['rate']}")


@THINGS.register_module()
class SubThing(Thing):
    """Has the constructor of its base."""


@THINGS.register_module()
class Bare:
    """A plugin without annotations, and with open arguments."""

    def __init__(self, size, *rest, **more):
        self.size, self.rest, self.more = size, rest, more


@THINGS.register_module()
@dataclass(frozen=True)
class Frozen:
    """A dataclass."""

    size: Count = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thing(0), "Thing.size: 0 is not a whole number of 1 or more"),
        (lambda: Thing(0, rate=-1), "Thing.size: 0 is not a whole number of 1 or more\nThing.rate: -1 is not a number above 0"),
        (lambda: SubThing(size=2, rate=float("nan")), "SubThing.rate: nan is not a number above 0"),
        (lambda: Thing("3"), "Thing.size: '3' is not a whole number of 1 or more"),
        (lambda: Base(float("inf")), "Base.rate: inf is not a number above 0"),
        (lambda: Frozen(0), "Frozen.size: 0 is not a whole number of 1 or more"),
        (lambda: replace(Frozen(), size=0), "Frozen.size: 0 is not a whole number of 1 or more"),
        (lambda: Thing(1, rate=0.1, least=0.5), "Thing.least: 0.5 is above the rate, 0.1"),
        (lambda: THINGS.build({"type": "Thing", "size": 0}), "Thing.size: 0 is not a whole number of 1 or more"),
    ],
)
def test_a_constructor_holds_its_ranges(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message


def test_what_a_class_is_does_not_change():
    assert list(inspect.signature(Thing).parameters) == ["size", "rate", "root", "least"]
    assert isinstance(pickle.loads(pickle.dumps(SubThing(3))), Thing) and pickle.loads(pickle.dumps(SubThing(3))).size == 3
    assert checked(Thing) is Thing and Thing.__init__.__name__ == "__init__" and Frozen() == Frozen(1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'size'"):
        Thing()
    assert (Bare("x", 1, a=2).rest, Bare(0, b=3).more) == ((1,), {"b": 3})


def test_the_home_folder_is_expanded_where_an_object_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Thing(1, root="~/data").root == os.path.join(tmp_path, "data")
    assert Thing(1, root=Path("~/data")).root == os.path.join(tmp_path, "data") and Thing(1).root is None
    assert expanded("a~/~") == "a~/~" and expanded("./~") == "./~"
    config = Config.from_dict({"model": {"type": "Thing", "size": 1, "root": "~/data"}})
    assert config.model.root == "~/data" and THINGS.build(config.model).root == os.path.join(tmp_path, "data")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/data", "~nobody-of-this-name"])
def test_no_folder_is_called_after_an_unknown_home(path):
    with pytest.raises(ConfigError, match=r"the home folder for '~nobody-of-this-name' is unknown"):
        Thing(1, root=path)


def test_names_in_a_list_of_strings_are_not_built():
    tables = {"metrics": PARTS}
    hooks = Registry("hook", home=None, slots=tables)

    @PARTS.register_module()
    class Accuracy:
        pass

    @hooks.register_module()
    class Watcher:
        def __init__(self, metrics: list[str]):
            self.metrics = metrics

    @hooks.register_module()
    class Builder:
        def __init__(self, metrics: list):
            self.metrics = metrics

    assert hooks.build({"type": "Watcher", "metrics": ["Accuracy"]}).metrics == ["Accuracy"]
    assert isinstance(hooks.build({"type": "Builder", "metrics": ["Accuracy"]}).metrics[0], Accuracy)
